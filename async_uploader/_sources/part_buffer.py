"""Keeps the bytes of a stream's parts until they are acknowledged: in memory within a budget, else in files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import Final, TypeVar

from async_uploader._errors import SourceError
from async_uploader._limits import MIB

from .chunks import Chunk
from .reader import ThreadedReader

T = TypeVar("T")

# Fewer, larger writes: each one is a call in a thread.
_WRITE_BYTES: Final = MIB


class MemoryBudget:
    """The memory that all streams of a client share.

    :param total_bytes: the number of bytes that they may keep in memory
    """

    def __init__(self, total_bytes: int) -> None:
        self._free_bytes = total_bytes

    def reserve(self, count_bytes: int) -> bool:
        """Reserve memory; returns False if there is not enough."""
        if count_bytes > self._free_bytes:
            return False
        self._free_bytes -= count_bytes
        return True

    def release(self, count_bytes: int) -> None:
        """Return reserved memory."""
        self._free_bytes += count_bytes


class PartBuffer:
    """The bytes of one part, readable once per attempt.

    They stay in memory while the budget lasts. When it is exhausted, all of them move to a temporary file.

    :ivar size_bytes: the number of bytes so far
    """

    def __init__(self, *, budget: MemoryBudget, threads: ThreadPoolExecutor) -> None:
        self._budget = budget
        self._threads = threads
        self._reserved_bytes = 0
        self._is_on_disk = False
        self._file = SpooledTemporaryFile()  # noqa: SIM115 - release() closes it
        self._unwritten: list[Chunk] = []
        self._unwritten_bytes = 0
        self.size_bytes = 0

    async def append(self, chunk: Chunk) -> None:
        """Add bytes at the end."""
        self.size_bytes += len(chunk)
        if not self._is_on_disk:
            if self._budget.reserve(len(chunk)):
                self._reserved_bytes += len(chunk)
                self._file.write(chunk)
                return
            await self._move_to_disk()
        self._unwritten.append(chunk)
        self._unwritten_bytes += len(chunk)
        if self._unwritten_bytes >= _WRITE_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Write everything that was appended; required before reading."""
        chunks, self._unwritten, self._unwritten_bytes = self._unwritten, [], 0
        if chunks:
            await self._in_thread(partial(self._file.write, b"".join(chunks)))

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[ThreadedReader]:
        """Read all bytes from the start, for one attempt."""
        self._file.seek(0)
        reader = ThreadedReader(self._readinto)
        try:
            yield reader
        finally:
            await reader.wait_until_idle()

    def release(self) -> None:
        """Free the bytes."""
        self._release_memory()
        self._file.close()

    async def _move_to_disk(self) -> None:
        self._is_on_disk = True
        await self._in_thread(self._file.rollover)
        self._release_memory()

    def _release_memory(self) -> None:
        self._budget.release(self._reserved_bytes)
        self._reserved_bytes = 0

    async def _readinto(self, buffer: memoryview) -> int:
        if not self._is_on_disk:
            return self._file.readinto(buffer)
        return await self._in_thread(partial(self._file.readinto, buffer))

    async def _in_thread(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except OSError as exc:
            raise SourceError(f"The temporary file for a part of the stream failed: {exc.strerror}.") from exc
