"""Stall detection: ends a request if no byte has moved in either direction for a time.

It also ends a request whose connection is much slower than others (:mod:`.._flow.slow_connections`).

aiohttp has no timeout for writes, and a total timeout would end slow uploads. Movement is read from the kernel
if it is known (bytes acknowledged by the peer), because a whole part can wait in socket buffers and drain
slowly, long after the last ``write()``. Otherwise, only the transport's own buffer is known.

A body that is paused or waits for the bandwidth limit is not stalled, if everything that it wrote is acknowledged.
Time in which the event loop did not run does not count: the process may have been stopped (Ctrl-Z).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Final, Self

from anyio import CancelScope

from async_uploader._errors import SlowConnectionError, TransportError
from async_uploader._flow.tcp_info import tcp_info

if TYPE_CHECKING:
    from types import TracebackType

    from .multipart import PartBody


# A response must be complete within this many stall timeouts after the last byte of its request was sent, even if
# it trickles. A working server responds within one; ten leave room for a long list over a slow connection.
RESPONSE_STALLS: Final = 10
# How often the connection is checked for movement.
_CHECKS_PER_STALL: Final = 10
_MAX_CHECK_SECONDS: Final = 1.0


class StallDetector:
    """``with StallDetector(30, body):`` raises :class:`TransportError` after 30 s without movement.

    It is a timer and a cancel scope: it needs no task, and no code that runs for each block.

    :param stall_seconds: longest time without movement; ``math.inf``: no limit
    :param body: the body of the request, if it is a part
    :param on_moved: called when bytes have moved
    :param response_stalls: time for the whole response, in multiples of ``stall_seconds``
    :ivar transport: the connection, once there is one
    """

    def __init__(
        self,
        stall_seconds: float,
        body: PartBody | None = None,
        *,
        on_moved: Callable[[], None] | None = None,
        response_stalls: int = RESPONSE_STALLS,
    ) -> None:
        self.transport: asyncio.WriteTransport | None = None
        self._stall_seconds = stall_seconds
        self._response_seconds = response_stalls * stall_seconds
        self._body = body
        self._on_moved = on_moved
        self._scope = CancelScope()
        self._stalls_at = self._respond_by = self._check_due_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._replacement_factor: float | None = None
        self._sent: Hashable = None
        self._received: Hashable = None

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._scope.__enter__()
        self._check_due_at = self._loop.time()
        self._request_moved()
        self._check()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if self._timer is not None:
            self._timer.cancel()
        handled = self._scope.__exit__(exc_type, exc, traceback)
        if self._scope.cancelled_caught and self._replacement_factor is not None:
            raise SlowConnectionError(self._replacement_factor) from exc
        if self._scope.cancelled_caught:
            raise TransportError(self._reason(), maybe_received=True) from exc
        return handled

    def moved(self) -> None:
        """Bytes have moved: restart the timeout, up to the deadline of the response."""
        self._stalls_at = min(self._loop.time() + self._stall_seconds, self._respond_by)
        if self._on_moved is not None:
            self._on_moved()

    def _request_moved(self) -> None:
        """Bytes of the request have moved: restart the deadline of the response, too."""
        self._respond_by = self._loop.time() + self._response_seconds
        self.moved()

    def _reason(self) -> str:
        if self._loop.time() >= self._respond_by:
            return f"the response was not complete after {self._response_seconds:g} s"
        return f"nothing moved for {self._stall_seconds:g} s"

    def _check(self) -> None:
        now = self._loop.time()
        stopped_seconds = max(0.0, now - self._check_due_at)
        self._stalls_at += stopped_seconds
        self._respond_by += stopped_seconds
        sent, received = self._counters()
        if sent != self._sent or self._is_held_back():
            self._request_moved()
        elif received != self._received:
            self.moved()
        self._sent, self._received = sent, received
        if self._body is not None:
            self._replacement_factor = self._body.replacement_factor()
        if now >= self._stalls_at or self._replacement_factor is not None:
            self._scope.cancel()
            return
        check_seconds = min(_MAX_CHECK_SECONDS, self._stall_seconds / _CHECKS_PER_STALL, self._stalls_at - now)
        self._check_due_at = now + check_seconds
        self._timer = self._loop.call_at(self._check_due_at, self._check)

    def _is_held_back(self) -> bool:
        """Whether our own bandwidth limit or a slow source, and nothing else, keeps bytes from moving."""
        if self._body is None or (transport := self._body.transport) is None:
            return False
        if not (self._body.is_held_back or self._body.is_waiting_for_source):
            return False
        info = tcp_info(transport)
        return not transport.get_write_buffer_size() and (info is None or info.is_drained)

    def _counters(self) -> tuple[Hashable, Hashable]:
        """Values that change when bytes of the request, or of the response, move."""
        transport = self.transport
        if self._body is not None:
            transport = self._body.transport or transport
        if transport is None or transport.is_closing():
            return None, None
        info = tcp_info(transport)
        buffered_bytes = transport.get_write_buffer_size()
        return (buffered_bytes, info and info.acked_bytes), info and info.received_bytes
