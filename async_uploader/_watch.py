"""A watchdog on bytes moving, because aiohttp has none for writes and any total timeout kills slow uploads.

A request is given up when nothing has moved for a while, in either direction, and only then. What counts as
moving is asked of the kernel where it tells (bytes that the peer has acknowledged), since a whole part can sit in
socket buffers and drain slowly long after the last ``write()``. Elsewhere the transport's own buffer has to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import TYPE_CHECKING, Self

from anyio import CancelScope

from ._errors import TransportError
from ._tcp import tcp_info

if TYPE_CHECKING:
    from types import TracebackType

    from ._body import PartBody


class StallWatch:
    """``with StallWatch(30, body):`` raises :class:`TransportError` once nothing has moved for 30 s.

    It is a timer and a cancel scope: no task, and nothing on the path of the bytes.
    """

    def __init__(self, stall_seconds: float, body: PartBody | None = None) -> None:
        self._stall_seconds = stall_seconds
        self._body = body
        self._scope = CancelScope()
        self._timer: asyncio.TimerHandle | None = None
        self._last_seen: Hashable = None

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._scope.__enter__()
        self.moved()
        if self._body is not None:
            self._look()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if self._timer is not None:
            self._timer.cancel()
        handled = self._scope.__exit__(exc_type, exc, traceback)
        if self._scope.cancelled_caught:
            raise TransportError(f"nothing moved for {self._stall_seconds:g} s", maybe_received=True) from exc
        return handled

    def moved(self) -> None:
        """Something has: start counting anew."""
        self._scope.deadline = self._loop.time() + self._stall_seconds

    def _look(self) -> None:
        seen = _movement(self._body)
        if seen != self._last_seen:
            self._last_seen = seen
            self.moved()
        self._timer = self._loop.call_later(min(1.0, self._stall_seconds / 10), self._look)


def _movement(body: PartBody | None) -> Hashable:
    """A value that changes whenever bytes of the body have moved."""
    transport = body.transport if body is not None else None
    if transport is None or transport.is_closing():
        return None
    info = tcp_info(transport)
    return (transport.get_write_buffer_size(), info and (info.acked_bytes, info.received_bytes))
