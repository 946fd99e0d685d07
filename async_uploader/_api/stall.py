"""A watchdog on bytes moving, because aiohttp has none for writes and any total timeout kills slow uploads.

A request is given up when nothing has moved for a while, in either direction, and only then. What counts as
moving is asked of the kernel where it tells (bytes that the peer has acknowledged), since a whole part can sit in
socket buffers and drain slowly long after the last ``write()``. Elsewhere the transport's own buffer has to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Final, Self

from anyio import CancelScope

from async_uploader._errors import TransportError
from async_uploader._flow.tcp_info import tcp_info

if TYPE_CHECKING:
    from types import TracebackType

    from .multipart import PartBody


# A response is given up when it is not complete so many stalls after the last byte of its request has left, even
# if it trickles. A server that is alive answers within one; ten leave room for a long list over a bad line.
RESPONSE_STALLS: Final = 10
# How often the kernel is asked, at most and at least.
_LOOKS_A_STALL: Final = 10
_LONGEST_LOOK_SECONDS: Final = 1.0


class StallDetector:
    """``with StallWatch(30, body):`` raises :class:`TransportError` once nothing has moved for 30 s.

    Also if the request has left, and the response is not complete within ``RESPONSE_STALLS`` times as long.

    It is a timer and a cancel scope: no task, and nothing on the path of the bytes.

    :param body: what is sent, if it is large
    :param on_moved: called when bytes have moved
    """

    def __init__(
        self, stall_seconds: float, body: PartBody | None = None, *, on_moved: Callable[[], None] | None = None
    ) -> None:
        self._stall_seconds = stall_seconds
        self._body = body
        self._on_moved = on_moved
        self._scope = CancelScope()
        self._timer: asyncio.TimerHandle | None = None
        self._left: Hashable = None
        self._came: Hashable = None
        #: The connection, once there is one.
        self.transport: asyncio.WriteTransport | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._scope.__enter__()
        self._restart()
        self._look()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if self._timer is not None:
            self._timer.cancel()
        handled = self._scope.__exit__(exc_type, exc, traceback)
        if self._scope.cancelled_caught:
            raise TransportError(self._reason(), maybe_received=True) from exc
        return handled

    def _reason(self) -> str:
        if self._loop.time() >= self._respond_by:
            return f"the response was not complete after {RESPONSE_STALLS * self._stall_seconds:g} s"
        return f"nothing moved for {self._stall_seconds:g} s"

    def _restart(self) -> None:
        """Bytes of the request have left, so the response is still to come."""
        self._respond_by = self._loop.time() + RESPONSE_STALLS * self._stall_seconds
        self.moved()

    def moved(self) -> None:
        """Bytes have moved: start counting anew."""
        self._scope.deadline = min(self._loop.time() + self._stall_seconds, self._respond_by)
        if self._on_moved is not None:
            self._on_moved()

    def _look(self) -> None:
        left, came = self._movement()
        if left != self._left:
            self._restart()
        elif came != self._came:
            self.moved()
        self._left, self._came = left, came
        self._timer = self._loop.call_later(
            min(_LONGEST_LOOK_SECONDS, self._stall_seconds / _LOOKS_A_STALL), self._look
        )

    def _movement(self) -> tuple[Hashable, Hashable]:
        """Values that change whenever bytes of the request have left, and when bytes of the response have come."""
        transport = self.transport
        if self._body is not None:
            transport = self._body.transport or transport
        if transport is None or transport.is_closing():
            return None, None
        info = tcp_info(transport)
        buffered_bytes = transport.get_write_buffer_size()
        return (buffered_bytes, info and info.acked_bytes), info and info.received_bytes
