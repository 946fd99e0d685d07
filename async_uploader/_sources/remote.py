"""Uploads from an object in a store or on the web, which is read by ranges and never stored.

Each attempt at a part reads its own range. The object's version is compared in every response, so bytes of two
versions never meet in one video. A source that stalls or fails for a moment is retried like the service, and told
apart from it in messages: :class:`SourceUnavailable`.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Final, Protocol
from urllib.parse import urlsplit, urlunsplit

import anyio

from async_uploader._errors import SourceError, SourceUnavailable
from async_uploader._limits import MAX_VIDEO_BYTES
from async_uploader._plan import Part, Plan
from async_uploader._units import format_size

from .protocol import PartSource

Chunk = bytes | memoryview

#: The schemes of object stores.
STORE_SCHEMES: Final = frozenset({"s3", "gs", "az"})
_WEB_SCHEMES: Final = frozenset({"http", "https"})


def remote_scheme(source: str) -> str:
    """The scheme of the URL of a remote source, in lower case; empty if the source is a path."""
    scheme, separator, _ = source.partition("://")
    return scheme.lower() if separator and scheme.lower() in STORE_SCHEMES | _WEB_SCHEMES else ""


def display_url(url: str) -> str:
    """A URL as messages may show it: without the query, fragment and credentials of a web URL."""
    if remote_scheme(url) in STORE_SCHEMES:
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class RemoteObject(Protocol):
    """An object of which ranges can be read.

    :ivar name: the last segment of its path
    :ivar display_name: its URL, without query and credentials
    :ivar version: identifies its contents: the ETag or version, or the time of its last change
    """

    name: str
    display_name: str
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

    async def prepare(self) -> None:
        """Do nothing: the object was checked when it was opened."""

    async def aclose(self) -> None:
        """Close the connections of the object."""
        await self._remote.aclose()

    async def identify(self) -> str:
        """A hash of the object's URL, size and version."""
        text = "\0".join((self._remote.display_name, str(self.size_bytes), self._remote.version))
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    async def adopt_parts(self, parts: Iterable[Part]) -> None:
        """Do nothing: the version tells whether the stored parts are those of this object."""

    async def parts(self, plan: Plan, *, received: frozenset[int]) -> AsyncGenerator[PartSource, None]:
        """The parts in the order of the plan.

        :param received: numbers of parts that the service already has; they are skipped
        """
        for part in plan.ordered_parts(received):
            yield PartSource(
                part=part, open=partial(self._reading, part), release=_nothing_to_release, limits_waits=True
            )

    @asynccontextmanager
    async def _reading(self, part: Part) -> AsyncIterator[RemotePartReader]:
        async with aclosing(self._remote.read(part.offset, part.size_bytes)) as chunks:
            yield RemotePartReader(chunks, self.display_name, part.size_bytes, stall_seconds=self._stall_seconds)


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
        try:
            with anyio.fail_after(self._stall_seconds):
                chunk = await anext(self._chunks, None)
        except TimeoutError:
            raise SourceUnavailable(
                f"{self._display_name} cannot be read: no byte arrived for {self._stall_seconds:g} s."
            ) from None
        if chunk is None:
            raise SourceUnavailable(f"{self._display_name} cannot be read: the response ended early.")
        return memoryview(chunk).cast("B")


def _nothing_to_release() -> None:
    """A range is read again for each attempt, so no bytes are kept."""
