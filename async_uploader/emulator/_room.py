"""Room on the data directory's disk: promised to the bodies that are being received, and told when there is none.

A body is refused before it is received if there is no room for it beside those that are on their way. A few blocks
are kept free beyond that, for joining in place (`_source`) and for the small files.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Condition, Lock
from typing import TYPE_CHECKING, Final

from ._problems import Problem

if TYPE_CHECKING:
    from pathlib import Path

#: Kept free: more than a block of joining, a line of each log and the small files of a few videos.
KEPT_FREE_BYTES: Final = 1 << 20
#: More than comes in while one part is copied.
_AMPLE_BYTES: Final = 1 << 30
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_TOO_LARGE: Final = frozenset({*NO_ROOM, errno.EFBIG})
_NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})


class NoRoom(OSError):
    """A body of `needed_bytes` would not fit: all but `free_bytes` is used or promised."""

    def __init__(self, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """Why something could not be kept: the directory, its cause, and the bytes needed and free, where known."""

    directory: Path
    reason: str
    needed_bytes: int | None
    free_bytes: int | None

    def __str__(self) -> str:
        counts = {"needed": self.needed_bytes, "free": self.free_bytes}
        known = ", ".join(f"{count} bytes {word}" for word, count in counts.items() if count is not None)
        return f"Cannot write to {self.directory}: {self.reason}" + (f" ({known})." if known else ".")


class Room:
    """The room that is promised; called in threads."""

    def __init__(self) -> None:
        self._promised_bytes = 0
        self._lock = Lock()
        self._changed = Condition(self._lock)
        self._writes = 0
        self._is_measuring = False

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write promised bytes and redeem them, in the block."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_measuring)
            self._writes += 1
        try:
            yield
        finally:
            with self._changed:
                self._writes -= 1
                self._changed.notify_all()

    def promise(self, descriptor: int, count: int) -> None:
        """Promise `count` bytes on the disk of an open file.

        :raises NoRoom: there are not as many
        """
        with self._lock:
            left = self._left_bytes(descriptor)
            if left is not None and left < count:
                left = self._left_bytes_exactly(descriptor)
            if left is not None and left < count:
                raise NoRoom(count, max(left, 0))
            self._promised_bytes += count

    def _left_bytes(self, descriptor: int) -> int | None:
        free = _free_bytes(os.fstatvfs(descriptor))
        return None if free is None else free - self._promised_bytes - KEPT_FREE_BYTES

    def _left_bytes_exactly(self, descriptor: int) -> int | None:
        # What is written but not redeemed yet counts twice: once on the disk, once as a promise.
        self._changed.wait_for(lambda: not self._is_measuring)
        self._is_measuring = True
        try:
            self._changed.wait_for(lambda: not self._writes)
            return self._left_bytes(descriptor)
        finally:
            self._is_measuring = False
            self._changed.notify_all()

    def has_ample(self, descriptor: int, count: int) -> bool:
        """Whether `count` bytes can be used for a while, and what is received meanwhile still fits."""
        with self._lock:
            free = _free_bytes(os.fstatvfs(descriptor))
            return free is None or free - self._promised_bytes >= count + _AMPLE_BYTES

    def redeem(self, count: int) -> None:
        """Take back a promise: the bytes are written, or will not be."""
        with self._lock:
            self._promised_bytes -= count


def shortage_of(error: OSError, directory: Path) -> Shortage | None:
    """What an error of a write says about the disk; None if it says nothing."""
    if error.errno not in _TOO_LARGE:
        return None
    needed = free = None
    if isinstance(error, NoRoom):
        needed, free = error.needed_bytes, error.free_bytes
    else:
        with suppress(OSError):
            free = _free_bytes(os.statvfs(directory))
    reason = (error.strerror or "no room").lower()
    return Shortage(directory=directory, reason=reason, needed_bytes=needed, free_bytes=free)


def problem_of(error: OSError, shortage: Shortage | None) -> Problem | None:
    """The answer to a request that a lack of room, or of descriptors, ended; None for any other error."""
    if shortage is not None:
        return Problem("insufficient-storage", detail=str(shortage))
    if error.errno in _NO_DESCRIPTORS:
        return Problem("service-unavailable", detail="The emulator has no file descriptors left.")
    return None


def _free_bytes(disk: os.statvfs_result) -> int | None:
    """None where the file system does not tell."""
    return disk.f_bavail * disk.f_frsize if disk.f_blocks else None
