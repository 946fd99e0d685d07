"""The interface of all sources: a sequence of parts that can be opened and read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Protocol

from msgspec import Struct

from async_uploader._plan import Part, Plan


class Reader(Protocol):
    """Reads the bytes of one part, for one attempt."""

    async def readinto(self, buffer: memoryview) -> int:
        """Read into the start of the buffer.

        :returns: the number of bytes read; 0 at the end of the part
        """
        ...


class PartSource(Struct, frozen=True, kw_only=True):
    """A part and access to its bytes.

    :param open: opens the bytes for one attempt
    :param release: frees the bytes; called once the service has stored the part
    :param limits_waits: the source ends a read that stalls, so waits for it are no stalls of the service
    :param prefetch: waits for the first bytes of an attempt, and keeps them for :attr:`open` while its block lasts
    """

    part: Part
    open: Callable[[], AbstractAsyncContextManager[Reader]]
    release: Callable[[], None]
    limits_waits: bool = False
    prefetch: Callable[[], AbstractAsyncContextManager[None]] = nullcontext


class ResumableSource(Protocol):
    """A source that can be read again, on another machine, too."""

    @property
    def name(self) -> str:
        """The default title of the video."""
        ...

    @property
    def display_name(self) -> str:
        """The source as messages name it."""
        ...

    @property
    def size_bytes(self) -> int:
        """The size."""
        ...

    async def identify(self) -> str:
        """A hash that identifies the source and its content on any machine.

        :raises SourceError: the source cannot be read
        """
        ...

    async def adopt_parts(self, parts: Iterable[Part]) -> None:
        """Take over parts that another machine has sent.

        :raises SourceError: the source was changed since it was opened
        """
        ...


class UploadSource(Protocol):
    """A file or a stream to upload."""

    @property
    def name(self) -> str:
        """The default title of the video."""
        ...

    @property
    def display_name(self) -> str:
        """The source as messages name it."""
        ...

    @property
    def size_bytes(self) -> int | None:
        """The size; None if it is not known in advance."""
        ...

    async def prepare(self) -> None:
        """Check that there is something to upload. Called before the container is created.

        :raises SourceError: there is nothing to upload
        """
        ...

    def parts(self, plan: Plan, *, received: frozenset[int]) -> AsyncGenerator[PartSource, None]:
        """The parts in order.

        :param received: numbers of parts that the service already has; they are skipped
        """
        ...

    async def aclose(self) -> None:
        """Release all resources. Objects of the caller stay open."""
        ...
