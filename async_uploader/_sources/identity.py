"""Whether a file is still the one that is being uploaded.

A file is identified by its size, modification time, device and inode. A program that restores the modification
time after it has written (``touch -r``) leaves all of these as they were. The change time (``st_ctime``) shows
that *something* happened, but a chmod, a rename or a new hard link changes it, too. Checksums of the parts that
were read decide which of the two it was.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from io import FileIO
from pathlib import Path
from typing import Final, Self

import xxhash
from msgspec import Struct
from msgspec.structs import replace

from async_uploader._limits import MIB
from async_uploader._plan import Part

#: A fast checksum of 128 bits: 0.02 CPU s/GiB (CRC-32: 0.26, SHA-256: 0.6, BLAKE2b: 1.2). It is no protection
#: against somebody who forges a file on purpose, and need not be.
Checksum: Final = xxhash.xxh3_128
CHECKSUM_BYTES: Final = 16

# Linux takes time stamps from a clock that ticks every 1 to 10 ms. Two writes within one tick leave the same time.
_CLOCK_TICK_SECONDS: Final = 0.02
# A file whose attributes change during each of so many verifications is not left alone.
_MOST_VERIFICATIONS: Final = 8
_BLOCK_BYTES: Final = MIB


class Identity(Struct, frozen=True, kw_only=True):
    """What distinguishes a file from another one, or from itself before a change."""

    size_bytes: int
    mtime_ns: int
    device: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """The identity that a ``stat()`` shows."""
        return cls(
            size_bytes=status.st_size, mtime_ns=status.st_mtime_ns, device=status.st_dev, inode=status.st_ino
        )


def ctime_ns_of(status: os.stat_result) -> int | None:
    """When contents or attributes last changed; None on Windows, where ``st_ctime`` is the time of creation."""
    return None if os.name == "nt" else status.st_ctime_ns


def settled_status(path: Path) -> os.stat_result:
    """``path.stat()``, once its change time is so old that any later change shows. Waits 20 ms at most."""
    status = path.stat()
    age_seconds = time.time() - status.st_ctime
    # A time in the future is that of another machine's clock; waiting for it helps nobody.
    if 0 <= age_seconds < _CLOCK_TICK_SECONDS:
        time.sleep(_CLOCK_TICK_SECONDS - age_seconds)
        return path.stat()
    return status


class ContentsChanged(Exception):
    """Bytes of a file are not what they were when they were read to be sent."""


class NotComparable(ContentsChanged):
    """A file was changed in some way, and there is no checksum of some part that was sent."""


class UnsettledFile(ContentsChanged):
    """A file changes again whenever it is compared."""


class ReadPart(Struct, frozen=True, kw_only=True):
    """A part that was read to its end.

    :param checksum: of the bytes that were read; None if an earlier process read them and did not record it
    :param ctime_ns: the file's change time when it was known to have these bytes
    """

    part: Part
    checksum: bytes | None
    ctime_ns: int | None


class ReadParts:
    """The parts of one file that were read to their end, and the change time at which all of them were right.

    Why no upload can complete with bytes of two states of the file: each part is added here *before* the check
    that its last bytes wait for. A check that sees another change time compares all parts that are here. So of two
    parts that end at the same time, at least one check includes both; and the check of the part that is read last
    includes all parts. If it passes, the file had exactly the bytes that were sent, all at one moment. What
    happens to the file after that check cannot matter: all bytes are in memory or sent.

    :param ctime_ns: the file's change time when it was first looked at
    """

    def __init__(self, path: Path, *, ctime_ns: int | None) -> None:
        self._path = path
        self._parts: dict[int, ReadPart] = {}
        self.ctime_ns = ctime_ns

    def add(self, part: Part, checksum: bytes | None, *, ctime_ns: int | None) -> None:
        """Remember a part that was read completely, or that an earlier process sent.

        :param ctime_ns: the change time from before it was read
        :raises ContentsChanged: it was read before, and had other bytes
        """
        before = self._parts.get(part.number)
        if before is not None and before.part == part and before.checksum not in (None, checksum):
            raise ContentsChanged
        self._parts[part.number] = ReadPart(part=part, checksum=checksum, ctime_ns=ctime_ns)

    def clear(self) -> None:
        """Forget all parts: the upload starts anew."""
        self._parts.clear()

    def checksum(self, part_number: int) -> bytes | None:
        """A part's checksum, if it is known."""
        known = self._parts.get(part_number)
        return known.checksum if known else None

    def without_checksum(self) -> list[Part]:
        """Parts that could not be compared."""
        return [known.part for known in self._parts.values() if known.checksum is None]

    def accept(self, verified: Iterable[ReadPart], *, ctime_ns: int | None) -> None:
        """Take over what :meth:`verify` has found."""
        for known in verified:
            # A part that was read again meanwhile has its own check ahead.
            if self._parts.get(known.part.number) is known:
                self._parts[known.part.number] = replace(known, ctime_ns=ctime_ns)
        self.ctime_ns = ctime_ns

    def verify(
        self, compare: Callable[[os.stat_result], None], stop: threading.Event
    ) -> tuple[list[ReadPart], int | None]:
        """Read all parts again that were read before the file's last change. Blocks; for a thread.

        :param compare: raises if a status is that of another file
        :param stop: ends it early; then the result is of no use
        :returns: the parts that were compared, and the change time at which they are right
        :raises ContentsChanged: a part has other bytes now
        """
        for _ in range(_MOST_VERIFICATIONS):
            status = settled_status(self._path)
            compare(status)
            ctime_ns = ctime_ns_of(status)
            # Listed only now: a part that was added since was read, or will be checked, after this status.
            outdated = [known for known in list(self._parts.values()) if known.ctime_ns != ctime_ns]
            if any(known.checksum is None for known in outdated):
                raise NotComparable
            found = checksums(self._path, [known.part for known in outdated], stop)
            if any(found.get(known.part.number) != known.checksum for known in outdated) and not stop.is_set():
                raise ContentsChanged
            status = self._path.stat()
            compare(status)
            # Unchanged meanwhile, so that all parts were right at one moment, and not one after the other.
            if ctime_ns_of(status) == ctime_ns or stop.is_set():
                return outdated, ctime_ns
        raise UnsettledFile


def open_regular_file(path: Path) -> FileIO:
    """Open a regular file for reading, without a buffer. Blocks; for a thread.

    Anything else is refused at once: opening a named pipe would wait for its writer.

    :raises OSError: the path leads to no regular file, or cannot be opened
    """
    return open(path, "rb", buffering=0, opener=_regular_descriptor)


def _regular_descriptor(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return descriptor


def checksums(path: Path, parts: Iterable[Part], stop: threading.Event) -> Mapping[int, bytes]:
    """The checksums of parts of a file, by number, as far as they can be read. Blocks; for a thread."""
    found: dict[int, bytes] = {}
    block = memoryview(bytearray(_BLOCK_BYTES))
    with open_regular_file(path) as file:
        for part in parts:
            if stop.is_set():
                break
            found[part.number] = _checksum(file, part, block, stop)
    return found


def _checksum(file: FileIO, part: Part, block: memoryview, stop: threading.Event) -> bytes:
    checksum, left_bytes = Checksum(), part.size_bytes
    file.seek(part.offset)
    while left_bytes and not stop.is_set() and (count := file.readinto(block[:left_bytes])):
        checksum.update(block[:count])
        left_bytes -= count
    return checksum.digest()
