"""Sources that can be read only once: pipes, recordings that still run, iterables of bytes.

Parts are cut as the bytes come, and leave while the source still runs. That a part is the last one is known when
the source has ended behind it, so every part is handed out only once more bytes have come, or none will.

A part has to be kept until it is acknowledged. One :class:`Budget` for all streams of a client bounds what is
kept in memory; a part that does not fit into it is kept in a temporary file from its first byte. So, with C parts
in flight of P bytes, a stream keeps at most ``budget`` bytes in memory and ``(C + 2) * P`` bytes in all, and reads
its source no faster than the network takes it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import Final, TypeVar

import anyio
from msgspec import Struct

from async_uploader._cancelled import is_being_cancelled
from async_uploader._errors import SourceError
from async_uploader._limits import MAX_VIDEO_BYTES, MIB, MIN_PART_BYTES
from async_uploader._plan import Allowance, Part, Plan
from async_uploader._units import format_size

from .chunks import Chunk, Chunks
from .file import PartSource, Reads

T = TypeVar("T")
# Written to disk in batches of so many bytes.
_BATCH_BYTES: Final = MIB
_END: Final = b""


class Budget:
    """How many bytes of streams may be kept in memory, by everything that shares it."""

    def __init__(self, total_bytes: int) -> None:
        self._free_bytes = total_bytes

    def take(self, count_bytes: int) -> bool:
        """Reserve memory; False if there is not enough of it."""
        if count_bytes > self._free_bytes:
            return False
        self._free_bytes -= count_bytes
        return True

    def give_back(self, count_bytes: int) -> None:
        """Reserved memory is free again."""
        self._free_bytes += count_bytes


class KeptPart:
    """A part's bytes, from when they are cut until they are acknowledged; read as often as it takes.

    They are kept in memory as long as the budget lasts, and all of them in a temporary file from then on.
    """

    def __init__(self, *, budget: Budget, threads: ThreadPoolExecutor) -> None:
        self._budget = budget
        self._threads = threads
        self._reserved_bytes = 0
        self._is_on_disk = False
        self._file = SpooledTemporaryFile()  # noqa: SIM115 - see release()
        self._batch: list[Chunk] = []
        self._batch_bytes = 0
        self.size_bytes = 0

    async def append(self, chunk: Chunk) -> None:
        """Add bytes at the end."""
        self.size_bytes += len(chunk)
        if not self._is_on_disk:
            if self._budget.take(len(chunk)):
                self._reserved_bytes += len(chunk)
                self._file.write(chunk)
                return
            await self._spill()
        self._batch.append(chunk)
        self._batch_bytes += len(chunk)
        if self._batch_bytes >= _BATCH_BYTES:
            await self.complete()

    async def _spill(self) -> None:
        self._is_on_disk = True
        await self._in_thread(self._file.rollover)
        self._give_back()

    def _give_back(self) -> None:
        self._budget.give_back(self._reserved_bytes)
        self._reserved_bytes = 0

    async def complete(self) -> None:
        """Nothing more will be added now: what is not on disk yet, goes there."""
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        if batch:
            await self._in_thread(partial(self._file.write, b"".join(batch)))

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Reads]:
        """A reader of all bytes, for one attempt."""
        self._file.seek(0)
        reader = Reads(self._readinto)
        try:
            yield reader
        finally:
            await reader.settle()

    async def _readinto(self, buffer: memoryview) -> int:
        if not self._is_on_disk:
            return self._file.readinto(buffer)
        return await self._in_thread(partial(self._file.readinto, buffer))

    async def _in_thread(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except OSError as exc:
            raise SourceError(f"A part of the stream could not be kept on disk: {exc.strerror}.") from exc

    def release(self) -> None:
        """The bytes are not needed any more."""
        self._give_back()
        self._file.close()


class StreamSource:
    """Bytes that come once.

    :param chunks: gives them, in pieces of any lengths
    :param name: what the video is called
    :param size_bytes: how many will come, where that is known
    :param cut_at_chunks: a part ends where a chunk does, as soon as it has 5 MiB
    :param max_latency_seconds: a part ends when it is so old, as soon as it has 5 MiB
    :param allowance: tells what the account may still upload
    """

    def __init__(
        self,
        chunks: Chunks,
        *,
        name: str,
        budget: Budget,
        threads: ThreadPoolExecutor,
        size_bytes: int | None = None,
        cut_at_chunks: bool = False,
        max_latency_seconds: float | None = None,
        allowance: Callable[[], Allowance | None] = lambda: None,
    ) -> None:
        self._chunks = chunks
        self.name = name
        self.size_bytes = size_bytes
        self._budget = budget
        self._threads = threads
        self._cut_at_chunks = cut_at_chunks
        self._max_latency_seconds = max_latency_seconds
        self._allowance = allowance
        self._first: Chunk = _END
        self._kept: set[KeptPart] = set()

    @property
    def shown(self) -> str:
        """The source for a message."""
        return self.name

    async def prime(self) -> None:
        """Wait for the first bytes: without any, there must be no container.

        :raises SourceError: there are none, the source failed, or is known to be too big
        """
        self._check_size(self.size_bytes or 0)
        self._first = await self._next()
        if self._first is _END:
            raise SourceError(f"{self.shown} is empty; there is nothing to upload.")
        self._check_size(len(self._first))

    async def aclose(self) -> None:
        """Let go of everything that is still kept, and of the source."""
        for kept in self._kept:
            kept.release()
        self._kept.clear()
        with anyio.move_on_after(1, shield=True):
            await self._chunks.aclose()

    async def pieces(self, plan: Plan, *, received: frozenset[int]) -> AsyncGenerator[PartSource, None]:
        """Parts, as they fill."""
        assert not received, "a stream begins at its beginning"
        part = self._new_part(plan, number=1, offset=0)
        async for chunk in self._all():
            # Before anything of it is sent: beyond the known size there is no part to put it in.
            self._check_size(part.end + len(chunk))
            rest, is_chunk_start = memoryview(chunk), True
            while rest:
                # Asked only now that there are more bytes: so a part that is full is not the last one.
                if part.is_full(at_chunk_end=is_chunk_start and self._cut_at_chunks):
                    yield await self._piece(part, last=False)
                    part = self._new_part(plan, number=part.number + 1, offset=part.end)
                room_bytes = part.planned_bytes - part.kept.size_bytes
                await part.kept.append(rest[:room_bytes])
                rest, is_chunk_start = rest[room_bytes:], False
        if self.size_bytes not in (None, part.end):
            raise SourceError(f"{self.shown} ended after {part.end:,} of {self.size_bytes:,} bytes.")
        yield await self._piece(part, last=True)

    async def _all(self) -> AsyncIterator[Chunk]:
        chunk = self._first
        while chunk is not _END:
            yield chunk
            chunk = await self._next()

    async def _next(self) -> Chunk:
        """The next bytes, or ``_END``. Never an empty chunk between."""
        try:
            async for chunk in self._chunks:
                if len(chunk):
                    return chunk
        except SourceError:
            raise
        except (asyncio.CancelledError, GeneratorExit) as exc:
            if is_being_cancelled(exc):
                raise
            raise SourceError(f"{self.shown} ended itself with {type(exc).__name__}.") from exc
        except Exception as exc:
            raise SourceError(f"{self.shown} failed: {type(exc).__name__}: {exc}.") from exc
        return _END

    def _new_part(self, plan: Plan, *, number: int, offset: int) -> _Filling:
        planned_bytes = plan.size_of(number, self._allowance())
        if self.size_bytes is not None:
            planned_bytes = min(planned_bytes, self.size_bytes - offset)
        kept = KeptPart(budget=self._budget, threads=self._threads)
        self._kept.add(kept)
        return _Filling(
            kept=kept,
            number=number,
            offset=offset,
            planned_bytes=planned_bytes,
            closes_at=anyio.current_time() + (self._max_latency_seconds or math.inf),
        )

    async def _piece(self, filled: _Filling, *, last: bool) -> PartSource:
        kept = filled.kept
        await kept.complete()

        def release() -> None:
            self._kept.discard(kept)
            kept.release()

        part = Part(number=filled.number, offset=filled.offset, size_bytes=kept.size_bytes, last=last)
        return PartSource(part=part, open=kept.reading, release=release)

    def _check_size(self, total_bytes: int) -> None:
        if total_bytes > MAX_VIDEO_BYTES:
            raise SourceError(
                f"{self.shown} has more than the {format_size(MAX_VIDEO_BYTES)} that the service takes a video."
            )
        if self.size_bytes is not None and total_bytes > self.size_bytes:
            raise SourceError(
                f"{self.shown} has more than the {self.size_bytes:,} bytes that it had when the upload began."
            )


class _Filling(Struct, frozen=True, kw_only=True):
    """A part that is being cut."""

    kept: KeptPart
    number: int
    offset: int
    planned_bytes: int
    closes_at: float

    @property
    def end(self) -> int:
        return self.offset + self.kept.size_bytes

    def is_full(self, *, at_chunk_end: bool) -> bool:
        if self.kept.size_bytes >= self.planned_bytes:
            return True
        may_close = at_chunk_end or anyio.current_time() >= self.closes_at
        return may_close and self.kept.size_bytes >= MIN_PART_BYTES
