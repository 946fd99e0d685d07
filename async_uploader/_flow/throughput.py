"""How much of an upload has reached the other side, at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from .tcp_info import tcp_info


class BodyInTransit(Protocol):
    """A request body while it is sent.

    :ivar delivered_bytes: bytes that have reached the other side
    :ivar acked_before_bytes: bytes that the connection had delivered before this body
    """

    delivered_bytes: int
    acked_before_bytes: int

    @property
    def transport(self) -> asyncio.WriteTransport | None:
        """The connection, once the body is being sent on it."""
        ...


class ThroughputMeter:
    """Adds up the bodies that are on their way and those that were."""

    def __init__(self) -> None:
        self._bodies: set[BodyInTransit] = set()
        self._ended_bytes = 0
        self.rtt_seconds: float = 0.0

    @contextmanager
    def counting(self, body: BodyInTransit) -> Iterator[None]:
        """Count a body while it is sent."""
        self._bodies.add(body)
        try:
            yield
        finally:
            self._bodies.discard(body)
            self._ended_bytes += self._delivered(body)

    def read(self) -> int:
        """Bytes that have reached the other side."""
        return self._ended_bytes + sum(map(self._delivered, self._bodies))

    def _delivered(self, body: BodyInTransit) -> int:
        if (transport := body.transport) is not None and (info := tcp_info(transport)) is not None:
            self.rtt_seconds = info.rtt_seconds or self.rtt_seconds
            # A kept connection has acknowledged other bodies before.
            body.delivered_bytes = max(0, info.acked_bytes - body.acked_before_bytes)
        return body.delivered_bytes
