"""Measures how many bytes the service has received, for the concurrency controller."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from functools import partial
from typing import Final, Protocol

from async_uploader.events import Bound

from .slow_connections import SlowConnectionPolicy, SlowConnections
from .tcp_info import tcp_info

# Recent throughput is measured over this time at most, and at least.
_SPAN_SECONDS: Final = 20.0
_MIN_SPAN_SECONDS: Final = 1.0
# Each connection is compared with all others. Reading all counters for each would cost the square of their number.
_SNAPSHOT_SECONDS: Final = 0.1


class BodyInTransit(Protocol):
    """A request body while it is sent.

    :ivar delivered_bytes: bytes that the peer has received
    :ivar acked_before_bytes: bytes that the connection had delivered before this body
    :ivar waits_for: what it waits for
    """

    delivered_bytes: int
    acked_before_bytes: int
    waits_for: Bound

    @property
    def transport(self) -> asyncio.WriteTransport | None:
        """The connection; None until the body is being sent."""
        ...

    @property
    def local_port(self) -> int | None:
        """The connection's local port; None until the body is being sent."""
        ...


class ThroughputMeter:
    """Adds up the delivered bytes of all bodies, both those in transit and those that ended."""

    def __init__(self) -> None:
        self._bodies: set[BodyInTransit] = set()
        self._ended_bytes = 0
        self._slow_connections = SlowConnections(SlowConnectionPolicy())
        self._snapshot: dict[object, int] = {}
        self._snapshot_at = -math.inf
        self.rtt_seconds: float = 0.0

    def add(self, now: float, body: BodyInTransit) -> None:
        """Count a body from now on."""
        self._bodies.add(body)
        self._slow_connections.add(now, body)

    def remove(self, now: float, body: BodyInTransit) -> None:
        """The body has ended: keep its count, and stop reading the counters of its connection."""
        self._bodies.discard(body)
        self._ended_bytes += self.delivered_bytes(body)
        self._slow_connections.remove(now, body, delivered=partial(self._delivered, now))
        self._snapshot, self._snapshot_at = {}, -math.inf  # it refers to the body

    def replacement_factor(self, now: float, body: BodyInTransit, *, size_bytes: int) -> float | None:
        """How many times slower than the others the connection of a body is; None if it is not to be replaced."""
        if len(self._bodies) == 1 and not self._ended_bytes:
            return None  # there is nothing to compare it with
        return self._slow_connections.replacement_factor(
            now, body, delivered=self._delivered(now), part_bytes=size_bytes
        )

    def _delivered(self, now: float) -> dict[object, int]:
        """Delivered bytes by body; ``None`` is the key of the ended ones. A moment old."""
        if now - self._snapshot_at >= _SNAPSHOT_SECONDS:
            self._snapshot = {body: self.delivered_bytes(body) for body in self._bodies}
            self._snapshot[None] = self._ended_bytes
            self._snapshot_at = now
        return self._snapshot

    def read(self) -> int:
        """Bytes delivered so far."""
        return self._ended_bytes + sum(map(self.delivered_bytes, self._bodies))

    def delivered_bytes(self, body: BodyInTransit) -> int:
        """Bytes of a body that the peer has received, by the kernel's count where there is one."""
        if (transport := body.transport) is not None and (info := tcp_info(transport)) is not None:
            self.rtt_seconds = info.rtt_seconds or self.rtt_seconds
            # A kept-alive connection has delivered earlier bodies, too.
            body.delivered_bytes = max(0, info.acked_bytes - body.acked_before_bytes)
        return body.delivered_bytes


class RecentThroughput:
    """The throughput of the last 20 seconds, from the sizes of stored parts. Pure: time is passed in."""

    def __init__(self) -> None:
        self._stored: deque[tuple[float, int]] = deque()

    def add(self, now: float, count_bytes: int) -> None:
        """Count the bytes of a part that has been stored now."""
        self._stored.append((now, count_bytes))
        self._forget(now)

    def bytes_per_second(self, now: float) -> float | None:
        """The throughput; None while there is less than a second to measure."""
        self._forget(now)
        span_seconds = now - self._stored[0][0] if self._stored else 0.0
        if span_seconds < _MIN_SPAN_SECONDS:
            return None
        # The bytes of the first part were sent before the span began.
        return (sum(count for _, count in self._stored) - self._stored[0][1]) / span_seconds

    def _forget(self, now: float) -> None:
        while self._stored and self._stored[0][0] < now - _SPAN_SECONDS:
            self._stored.popleft()
