"""Free space on the data directory's disk: reservations for request bodies, and errors when it runs out.

A body is refused before it is received if it does not fit beside the bodies that are being received. Some space is
kept free beyond that, for joining parts in place (`source_file`) and for small files.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Lock
from typing import TYPE_CHECKING, Final

from async_uploader.emulator._problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Never reserved: more than a block of joining, a log line per video and the small files of a few videos.
HEADROOM_BYTES: Final = 1 << 20
#: More than arrives while one part is copied.
_COPY_HEADROOM_BYTES: Final = 1 << 30
DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_CANNOT_GROW: Final = frozenset({*DISK_FULL, errno.EFBIG})
_NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})


class InsufficientSpace(OSError):
    """A body of `needed_bytes` does not fit into the `free_bytes` that are neither used nor reserved."""

    def __init__(self, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """Why something could not be stored: the directory, the reason, and the bytes needed and free, if known."""

    directory: Path
    reason: str
    needed_bytes: int | None
    free_bytes: int | None

    def __str__(self) -> str:
        counts = {"needed": self.needed_bytes, "free": self.free_bytes}
        known = ", ".join(f"{count} bytes {word}" for word, count in counts.items() if count is not None)
        return f"Cannot write to {self.directory}: {self.reason}" + (f" ({known})." if known else ".")


class DiskSpace:
    """The bytes that are reserved on the disk. Called in threads."""

    def __init__(self) -> None:
        self._reserved_bytes = 0
        self._lock = Lock()
        self._changed = Condition(self._lock)
        self._active_writes = 0
        self._is_measuring = False

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write reserved bytes and release their reservation, in the block."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_measuring)
            self._active_writes += 1
        try:
            yield
        finally:
            with self._changed:
                self._active_writes -= 1
                self._changed.notify_all()

    def reserve(self, descriptor: int, count: int) -> None:
        """Reserve `count` bytes on the disk of an open file.

        :raises InsufficientSpace: fewer bytes are free
        """
        with self._lock:
            available = self._available_bytes(descriptor)
            if available is not None and available < count:
                available = self._measure_without_writes(descriptor)
            if available is not None and available < count:
                raise InsufficientSpace(count, max(available, 0))
            self._reserved_bytes += count

    def release(self, count: int) -> None:
        """End a reservation: the bytes are written, or will not be."""
        with self._lock:
            self._reserved_bytes -= count

    def can_copy(self, descriptor: int, count: int) -> bool:
        """Whether a temporary copy of `count` bytes leaves enough space for other parts."""
        with self._lock:
            free = _free_bytes(os.fstatvfs(descriptor))
            return free is None or free - self._reserved_bytes >= count + _COPY_HEADROOM_BYTES

    def _available_bytes(self, descriptor: int) -> int | None:
        free = _free_bytes(os.fstatvfs(descriptor))
        return None if free is None else free - self._reserved_bytes - HEADROOM_BYTES

    def _measure_without_writes(self, descriptor: int) -> int | None:
        """Measure while no write is active: bytes that are written but still reserved would count twice."""
        self._changed.wait_for(lambda: not self._is_measuring)
        self._is_measuring = True
        try:
            self._changed.wait_for(lambda: not self._active_writes)
            return self._available_bytes(descriptor)
        finally:
            self._is_measuring = False
            self._changed.notify_all()


def shortage_of(error: OSError, directory: Path) -> Shortage | None:
    """Describe the lack of disk space that caused an error; None if the error has another cause."""
    if error.errno not in _CANNOT_GROW:
        return None
    needed = free = None
    if isinstance(error, InsufficientSpace):
        needed, free = error.needed_bytes, error.free_bytes
    else:
        with suppress(OSError):
            free = _free_bytes(os.statvfs(directory))
    reason = (error.strerror or "disk full").lower()
    return Shortage(directory=directory, reason=reason, needed_bytes=needed, free_bytes=free)


def problem_of(error: OSError, shortage: Shortage | None) -> Problem | None:
    """The problem for a lack of disk space or file descriptors; None for any other error."""
    if shortage is not None:
        return Problem("insufficient-storage", detail=str(shortage))
    if error.errno in _NO_DESCRIPTORS:
        return Problem("service-unavailable", detail="The emulator has no file descriptors left.")
    return None


def _free_bytes(disk: os.statvfs_result) -> int | None:
    """None if the file system does not report it."""
    return disk.f_bavail * disk.f_frsize if disk.f_blocks else None
