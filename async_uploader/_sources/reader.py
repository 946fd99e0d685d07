"""Reads one part of a file: from the page cache directly, from the disk in a thread."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from aiofiles.threadpool.binary import AsyncFileIO
from anyio import move_on_after

from async_uploader._errors import SourceError
from async_uploader._plan import Part

from .checksum import Checksum

# A read that takes longer than this has hung. It keeps its descriptor.
_IDLE_TIMEOUT_SECONDS: Final = 0.4
_HAS_NOWAIT: Final = hasattr(os, "RWF_NOWAIT")


class BytesReader:
    """Reads bytes that are in memory."""

    def __init__(self, content: bytes) -> None:
        self._rest = memoryview(content)

    async def readinto(self, buffer: memoryview) -> int:
        """Read into the start of the buffer; returns the number of bytes, 0 at the end."""
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


class ThreadedReader:
    """Runs reads in threads, one at a time, so that a cancelled caller can wait for the current one.

    The thread of a cancelled read may still write to its buffer, so the buffer must not be reused.

    :param readinto: reads into a buffer in a thread
    """

    def __init__(self, readinto: Callable[[memoryview], Awaitable[int | None]]) -> None:
        self._readinto = readinto
        self._read: asyncio.Future[int | None] | None = None

    async def readinto(self, buffer: memoryview) -> int:
        """Read into the start of the buffer; returns the number of bytes, 0 at the end."""
        self._read = asyncio.ensure_future(self._readinto(buffer))
        # None would mean "would block", which a regular file never does.
        return await asyncio.shield(self._read) or 0

    async def wait_until_idle(self) -> None:
        """Wait until no thread uses the descriptor, unless a read has hung."""
        if self._read is not None:
            with move_on_after(_IDLE_TIMEOUT_SECONDS, shield=True):
                await asyncio.gather(self._read, return_exceptions=True)


class PartCheck(Protocol):
    """The checks of a file that a reader needs."""

    @property
    def display_name(self) -> str:
        """The file as messages name it."""
        ...

    async def check_identity(self) -> object:
        """Check that the path still leads to the same, unmodified file."""
        ...

    def too_short(self) -> SourceError:
        """The error for a file that ends too early, although it has not changed."""
        ...

    async def check_part(self, part: Part, checksum: bytes, *, ctime_ns: int | None) -> None:
        """Check that the file still has the bytes that were read."""
        ...


class FilePartReader:
    """Reads one part of a file from its first byte to its last.

    Bytes in the page cache are copied directly (``RWF_NOWAIT`` never waits for a disk), because a switch to a
    thread and back costs more than the copy. Other bytes are read in a thread.

    :param ctime_ns: the change time of the file before the first read
    """

    def __init__(self, check: PartCheck, file: AsyncFileIO, part: Part, *, ctime_ns: int | None) -> None:
        self._check = check
        self._file = file
        self._part = part
        self._ctime_ns = ctime_ns
        self._checksum = Checksum()
        self._threaded = ThreadedReader(file.readinto)
        self._offset = part.offset
        self._remaining_bytes = part.size_bytes
        self._file_position = part.offset
        self._is_cached = _HAS_NOWAIT
        self.wait_until_idle = self._threaded.wait_until_idle

    async def readinto(self, buffer: memoryview) -> int:
        """Read into the start of the buffer.

        :returns: the number of bytes read; 0 at the end of the part
        :raises SourceError: the file has changed or cannot be read
        """
        if not self._remaining_bytes:
            return 0
        buffer = buffer[: self._remaining_bytes]
        try:
            count = await self._read_cached(buffer) or await self._read_in_thread(buffer)
        except OSError as exc:
            raise SourceError(f"{self._check.display_name} cannot be read: {exc.strerror}.") from exc
        if not count:
            await self._check.check_identity()  # a file that ends early was most likely truncated
            raise self._check.too_short()
        self._checksum.update(buffer[:count])
        self._offset += count
        self._remaining_bytes -= count
        if not self._remaining_bytes:
            # Before the last bytes are sent: the service can never complete a part of a changed file.
            await self._check.check_part(self._part, self._checksum.digest(), ctime_ns=self._ctime_ns)
        return count

    async def _read_cached(self, buffer: memoryview) -> int:
        """Copy the next bytes from the page cache; returns 0 if they are not there."""
        if not self._is_cached:
            return 0
        # Neither this copy nor drain() on a fast network yields to other tasks.
        await asyncio.sleep(0)
        try:
            count = os.preadv(self._file.fileno(), [buffer], self._offset, os.RWF_NOWAIT)
        except (BlockingIOError, NotImplementedError):
            count = 0
        except OSError as exc:
            if exc.errno != errno.EOPNOTSUPP:
                raise
            count = 0
        # After a short read, the rest most likely comes from the disk, where whole blocks benefit from read-ahead.
        self._is_cached = count == len(buffer)
        return count

    async def _read_in_thread(self, buffer: memoryview) -> int:
        if self._file_position != self._offset:
            await self._file.seek(self._offset)
        count = await self._threaded.readinto(buffer)
        self._file_position = self._offset + count
        return count
