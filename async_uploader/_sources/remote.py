"""Uploads from an object in a store or on the web, which is read by ranges and never stored.

Each attempt at a part reads its own range. The object's version is compared in every response, so bytes of two
versions never meet in one video. A source that stalls or fails for a moment is retried like the service, and told
apart from it in messages: :class:`SourceUnavailable`.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import Final, Protocol

import anyio

from async_uploader._clock import current_time
from async_uploader._errors import SourceError, SourceUnavailable
from async_uploader._limits import KIB, MAX_VIDEO_BYTES
from async_uploader._plan import Part, Plan
from async_uploader._units import format_size

from .protocol import PartSource

log: Final = logging.getLogger("async_uploader")

#: Memoryviews are of bytes.
Chunk = bytes | memoryview

# How long an open response may wait for the rate limit. Servers close connections that do not move for a minute.
_MAX_PREFETCHED_SECONDS: Final = 10.0
_CLOSE_SECONDS: Final = 1.0
# A response that breaks off after fewer bytes is retried with a backoff.
_MIN_RESPONSE_BYTES: Final = 256 * KIB


class RemoteObject(Protocol):
    """An object of which ranges can be read.

    :ivar name: the last segment of its path
    :ivar display_name: its URL, without query and credentials
    :ivar identity: identifies the object, whatever its contents: its URL, or a digest
    :ivar version: identifies its contents: the ETag or version, or the time of its last change; empty if unknown
    """

    name: str
    display_name: str
    identity: str
    size_bytes: int
    version: str

    def read(self, offset: int, size_bytes: int) -> AsyncGenerator[Chunk, None]:
        """Read a range, in chunks of any size.

        :raises SourceError: the object has changed or is missing, or access was denied
        :raises SourceUnavailable: a retry may succeed
        """
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class RemoteSource:
    """An object in a store or on the web.

    :param stall_seconds: a read that yields no byte for this long fails and is retried
    """

    def __init__(self, remote: RemoteObject, *, stall_seconds: float) -> None:
        name = remote.display_name
        if not remote.size_bytes:
            raise SourceError(f"{name} is empty; there is nothing to upload.")
        if remote.size_bytes > MAX_VIDEO_BYTES:
            raise SourceError(
                f"{name} has {format_size(remote.size_bytes)}; the service accepts at most "
                f"{format_size(MAX_VIDEO_BYTES)} per video."
            )
        self._remote = remote
        self._stall_seconds = stall_seconds

    @property
    def name(self) -> str:
        """The last segment of the object's path."""
        return self._remote.name

    @property
    def display_name(self) -> str:
        """The object's URL, without query and credentials."""
        return self._remote.display_name

    @property
    def size_bytes(self) -> int:
        """The size of the object."""
        return self._remote.size_bytes

    @property
    def has_version(self) -> bool:
        """Whether a change of the object can be noticed, so that its upload can be resumed."""
        return bool(self._remote.version)

    async def prepare(self) -> None:
        """Do nothing: the object was checked when it was opened."""

    async def aclose(self) -> None:
        """Close the connections of the object."""
        await self._remote.aclose()

    async def identify(self) -> str:
        """A hash of the object's URL, size and version."""
        text = "\0".join((self._remote.identity, str(self.size_bytes), self._remote.version))
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    async def adopt_parts(self, parts: Iterable[Part]) -> None:
        """Do nothing: the version tells whether the stored parts are those of this object."""

    async def parts(self, plan: Plan, *, received: frozenset[int]) -> AsyncGenerator[PartSource, None]:
        """The parts in the order of the plan.

        :param received: numbers of parts that the service already has; they are skipped
        """
        for part in plan.ordered_parts(received):
            remote_part = _RemotePart(self._remote, part, stall_seconds=self._stall_seconds)
            yield PartSource(
                part=part,
                open=remote_part.open,
                release=_nothing_to_release,
                limits_waits=True,
                prefetch=remote_part.prefetch,
            )


class _RemotePart:
    """One range of an object, read anew for each attempt."""

    def __init__(self, remote: RemoteObject, part: Part, *, stall_seconds: float) -> None:
        self._remote = remote
        self._part = part
        self._stall_seconds = stall_seconds
        self._prefetched: RemotePartReader | None = None
        self._prefetched_at_seconds = 0.0

    def _reader(self) -> RemotePartReader:
        chunks, name = _chunks_of(self._remote, self._part), self._remote.display_name
        return RemotePartReader(chunks, name, self._part.size_bytes, stall_seconds=self._stall_seconds)

    @asynccontextmanager
    async def prefetch(self) -> AsyncIterator[None]:
        """Wait for the first bytes. They are kept for :meth:`open` while the block lasts.

        :raises SourceError: the object has changed or cannot be read
        :raises SourceUnavailable: a retry may succeed
        """
        async with aclosing(self._reader()) as reader:
            await reader.fetch()
            self._prefetched, self._prefetched_at_seconds = reader, current_time()
            try:
                yield
            finally:
                self._prefetched = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[RemotePartReader]:
        """Open the bytes for one attempt: from the first bytes that were prefetched, if the attempt has not waited
        for long. The server of the source may close a connection that nobody reads from.
        """
        prefetched, self._prefetched = self._prefetched, None
        is_fresh = current_time() - self._prefetched_at_seconds < _MAX_PREFETCHED_SECONDS
        if prefetched is not None and is_fresh:
            yield prefetched  # prefetch() closes it
            return
        async with aclosing(self._reader()) as reader:
            yield reader


class RemotePartReader:
    """Reads one range of an object into the buffers of the caller."""

    def __init__(
        self, chunks: AsyncGenerator[Chunk, None], display_name: str, size_bytes: int, *, stall_seconds: float
    ) -> None:
        self._chunks = chunks
        self._display_name = display_name
        self._remaining_bytes = size_bytes
        self._stall_seconds = stall_seconds
        self._chunk = memoryview(b"")
        self._read_scope = anyio.CancelScope()
        self._is_idle = anyio.Event()
        self._is_idle.set()

    async def fetch(self) -> None:
        """Wait for the first bytes, and keep them.

        :raises SourceError: the object has changed or cannot be read
        :raises SourceUnavailable: a retry may succeed
        """
        self._chunk = await self._next_chunk()

    async def aclose(self) -> None:
        """Close the response. A read that another task still waits for is given up."""
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
            # The task of the request's body may still be reading when the request has failed.
            self._read_scope.cancel()
            await self._is_idle.wait()
            await self._chunks.aclose()

    async def readinto(self, buffer: memoryview) -> int:
        """Read into the start of the buffer.

        :returns: the number of bytes read; 0 at the end of the part
        :raises SourceError: the object has changed or cannot be read
        :raises SourceUnavailable: a retry may succeed
        """
        if not self._remaining_bytes:
            return 0
        filled = 0
        while filled < min(len(buffer), self._remaining_bytes):
            if not self._chunk:
                self._chunk = await self._next_chunk()
            count = min(len(self._chunk), len(buffer) - filled, self._remaining_bytes - filled)
            buffer[filled : filled + count] = self._chunk[:count]
            self._chunk = self._chunk[count:]
            filled += count
        self._remaining_bytes -= filled
        return filled

    async def _next_chunk(self) -> memoryview:
        chunk: Chunk | None = None
        self._is_idle = anyio.Event()
        try:
            with anyio.fail_after(self._stall_seconds) as self._read_scope:
                chunk = await anext(self._chunks, None)
        except TimeoutError:
            raise SourceUnavailable(
                f"{self._display_name} cannot be read: no byte arrived for {self._stall_seconds:g} s."
            ) from None
        finally:
            self._is_idle.set()
        assert chunk is not None, "a part that ends early raises an error"
        return memoryview(chunk)


async def _chunks_of(remote: RemoteObject, part: Part) -> AsyncGenerator[Chunk, None]:
    """Read a part. If a response breaks off, request the rest in the same attempt: the bytes read so far have
    already been sent to the service.

    :raises SourceUnavailable: a response broke off early, so a new attempt must wait for a backoff
    """
    offset, end = part.offset, part.offset + part.size_bytes
    while offset < end:
        start = offset
        try:
            async with aclosing(remote.read(offset, end - offset)) as chunks:
                async for chunk in chunks:
                    offset += len(chunk)
                    yield chunk
            if offset < end:
                raise SourceUnavailable(f"{remote.display_name} cannot be read: the response ended early.")
        except SourceUnavailable as exc:
            if offset - start < _MIN_RESPONSE_BYTES:
                raise
            log.info("%s The rest is requested.", exc)


def unreadable(reason: str) -> SourceError:
    """The object cannot be read, but it may be the same as before, so a later run can resume.

    :param reason: the message, such as that access was denied
    """
    error = SourceError(reason)
    error.__cause__ = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return error


def _nothing_to_release() -> None:
    """A range is read again for each attempt, so no bytes are kept."""
