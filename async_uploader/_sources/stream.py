"""Uploads from sources that can be read only once: pipes, live recordings, iterables of bytes.

The stream is split into parts while it runs. The last part must be marked when it is sent, so a full part is
yielded only after more bytes have arrived, or the stream has ended.

Each part is kept until it is acknowledged (:class:`.PartBuffer`). With C parts of P bytes in flight, a stream
keeps at most ``(C + 2) * P`` bytes, at most ``buffer_bytes`` of them in memory. The source is read no faster than
the network sends.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import anyio
from msgspec import Struct

from async_uploader._cancelled import is_being_cancelled
from async_uploader._clock import current_time
from async_uploader._errors import SourceError
from async_uploader._limits import MAX_VIDEO_BYTES, MIN_PART_BYTES
from async_uploader._plan import Allowance, Part, Plan
from async_uploader._units import format_size

from .chunks import Chunk, Chunks
from .hashed_chunks import HashedChunks
from .part_buffer import MemoryBudget, PartBuffer
from .protocol import PartSource

_END: Final = b""


class StreamSource:
    """A stream of bytes.

    :param chunks: yields the bytes, in chunks of any size
    :param name: the default title of the video
    :param size_bytes: the size of the stream; None if it is not known in advance
    :param split_at_chunks: end a part with a chunk, as soon as the part has 5 MiB
    :param max_latency_seconds: end a part at this age, as soon as it has 5 MiB; None for no limit
    :param allowance: returns the uploads that the rate limit allows; None while they are not known
    """

    def __init__(
        self,
        chunks: Chunks,
        *,
        name: str,
        budget: MemoryBudget,
        threads: ThreadPoolExecutor,
        size_bytes: int | None = None,
        split_at_chunks: bool = False,
        max_latency_seconds: float | None = None,
        allowance: Callable[[], Allowance | None] = lambda: None,
    ) -> None:
        self._chunks = chunks
        self.name = name
        self.size_bytes = size_bytes
        self._budget = budget
        self._threads = threads
        self._split_at_chunks = split_at_chunks
        self._max_latency_seconds = max_latency_seconds
        self._allowance = allowance
        self._hashed: HashedChunks | None = None
        self._first: Chunk = _END
        self._buffers: set[PartBuffer] = set()

    @property
    def display_name(self) -> str:
        """The source as messages name it."""
        return self.name

    def hash_chunks(self) -> None:
        """Compute the SHA-256 of the stream. Called before anything is read."""
        self._hashed = HashedChunks(self._chunks)
        self._chunks = self._hashed.read()

    def sha256(self) -> str:
        """The SHA-256 of the bytes read so far, in hexadecimal, if :meth:`hash_chunks` was called."""
        assert self._hashed is not None
        return self._hashed.sha256()

    async def prepare(self) -> None:
        """Wait for the first bytes, because an empty stream must not create a container.

        :raises SourceError: the stream is empty, has failed, or is known to be too large
        """
        self._check_size(self.size_bytes or 0)
        self._first = await self._next()
        if self._first is _END:
            raise SourceError(f"{self.display_name} is empty; there is nothing to upload.")
        self._check_size(len(self._first))

    async def aclose(self) -> None:
        """Free all parts, and close the generator of chunks."""
        for buffer in self._buffers:
            buffer.release()
        self._buffers.clear()
        with anyio.move_on_after(1, shield=True):
            await self._chunks.aclose()

    async def parts(self, plan: Plan, *, received: frozenset[int]) -> AsyncGenerator[PartSource, None]:
        """The parts, each as soon as it is complete."""
        assert not received, "a stream cannot be resumed"
        part = self._new_part(plan, number=1, offset=0)
        async for chunk in self._all_chunks():
            # Before any byte of the chunk is sent: the plan has no part for bytes beyond the known size.
            self._check_size(part.end + len(chunk))
            rest, is_chunk_start = memoryview(chunk), True
            while rest:
                # Checked only now that there are more bytes, so a full part is not the last one.
                if part.is_full(at_chunk_end=is_chunk_start and self._split_at_chunks):
                    yield await self._finish_part(part, last=False)
                    part = self._new_part(plan, number=part.number + 1, offset=part.end)
                free_bytes = part.planned_bytes - part.buffer.size_bytes
                await part.buffer.append(rest[:free_bytes])
                rest, is_chunk_start = rest[free_bytes:], False
        if self.size_bytes not in (None, part.end):
            raise SourceError(f"{self.display_name} ended after {part.end:,} of {self.size_bytes:,} bytes.")
        yield await self._finish_part(part, last=True)

    async def _all_chunks(self) -> AsyncIterator[Chunk]:
        chunk = self._first
        while chunk is not _END:
            yield chunk
            chunk = await self._next()

    async def _next(self) -> Chunk:
        """The next chunk that is not empty, or ``_END``."""
        try:
            async for chunk in self._chunks:
                if len(chunk):
                    return chunk
        except SourceError:
            raise
        except (asyncio.CancelledError, GeneratorExit) as exc:
            if is_being_cancelled(exc):
                raise
            raise SourceError(f"{self.display_name} raised {type(exc).__name__}.") from exc
        except OSError as exc:
            raise SourceError(f"{self.display_name} cannot be read: {exc.strerror or exc}.") from exc
        except Exception as exc:
            raise SourceError(f"{self.display_name} failed: {type(exc).__name__}: {exc}.") from exc
        return _END

    def _new_part(self, plan: Plan, *, number: int, offset: int) -> _GrowingPart:
        planned_bytes = plan.size_of(number, self._allowance())
        if self.size_bytes is not None:
            planned_bytes = min(planned_bytes, self.size_bytes - offset)
        buffer = PartBuffer(budget=self._budget, threads=self._threads)
        self._buffers.add(buffer)
        return _GrowingPart(
            buffer=buffer,
            number=number,
            offset=offset,
            planned_bytes=planned_bytes,
            closes_at=current_time() + (self._max_latency_seconds or math.inf),
        )

    async def _finish_part(self, part: _GrowingPart, *, last: bool) -> PartSource:
        buffer = part.buffer
        await buffer.flush()

        def release() -> None:
            self._buffers.discard(buffer)
            buffer.release()

        return PartSource(
            part=Part(number=part.number, offset=part.offset, size_bytes=buffer.size_bytes, last=last),
            open=buffer.reading,
            release=release,
        )

    def _check_size(self, total_bytes: int) -> None:
        if total_bytes > MAX_VIDEO_BYTES:
            raise SourceError(
                f"{self.display_name} is larger than the {format_size(MAX_VIDEO_BYTES)} that the service accepts "
                "per video."
            )
        if self.size_bytes is not None and total_bytes > self.size_bytes:
            raise SourceError(
                f"{self.display_name} has more than the {self.size_bytes:,} bytes it had when the upload began."
            )


class _GrowingPart(Struct, frozen=True, kw_only=True):
    """A part that still receives bytes.

    :param planned_bytes: the size at which the part is full
    :param closes_at: the time from which the part ends early, as soon as it has 5 MiB
    """

    buffer: PartBuffer
    number: int
    offset: int
    planned_bytes: int
    closes_at: float

    @property
    def end(self) -> int:
        """The offset of the first byte after the part."""
        return self.offset + self.buffer.size_bytes

    def is_full(self, *, at_chunk_end: bool) -> bool:
        """Whether the next byte belongs to another part."""
        if self.buffer.size_bytes >= self.planned_bytes:
            return True
        may_close = at_chunk_end or current_time() >= self.closes_at
        return may_close and self.buffer.size_bytes >= MIN_PART_BYTES
