"""The request that sends one part, and the observer that follows its bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec import Struct

from async_uploader._flow.throughput import BodyInTransit
from async_uploader._sources.protocol import PartSource


class PartRequest(Struct, frozen=True, kw_only=True):
    """A request that sends one part.

    :param source: the part and its bytes; opened again for every body that is sent
    :param content_range: the ``Content-Range`` header
    :param filename: the name of the file field
    :param video_id: the container; None for the first part of an upload token, which creates it
    :param wait_while_paused: called before each write of the body
    :param expect_continue: let the service refuse before the body is sent (RFC 9110, section 10.1.1). It costs one
        round trip, so use it if a refusal is likely, as in a retry
    """

    source: PartSource
    content_range: str
    filename: str
    video_id: str | None
    expect_continue: bool
    wait_while_paused: Callable[[], Awaitable[None]] | None = None


class PartObserver(Protocol):
    """Follows the bytes of one part request.

    A request has several bodies if its bearer token is refused and renewed. Each method is called synchronously on
    the event loop; :meth:`sent` once per block, so it must be cheap.
    """

    def body_started(self, body: BodyInTransit) -> None:
        """A body is about to be sent. Bytes of an earlier body of this request no longer count."""
        ...

    def sent(self, count_bytes: int) -> None:
        """``count_bytes`` more bytes of the part were written to the connection."""
        ...

    def replacement_factor(self, body: BodyInTransit, size_bytes: int) -> float | None:
        """How many times slower than the others the connection of the body is; None if it is not to be replaced.

        :param size_bytes: size of the body
        """
        ...

    def body_ended(self, body: BodyInTransit) -> None:
        """The body was sent, or its request failed."""
        ...
