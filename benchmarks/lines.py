"""Models of lines, for trying out how a climb finds the right number of connections."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from async_uploader._climb import Climb, ClimbPolicy
from async_uploader._limits import MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What bounds an upload. Rates in bytes per second.

    :param connection_rate: of each connection
    :param link_rate: of all together
    :param answer_seconds: the wait for an answer, in which a connection sends nothing
    :param rtt_seconds: the round trip; a new connection finds its speed within eight of them
    :param changes_at_seconds: when the link's rate becomes ``later_link_rate``
    """

    connection_rate: float
    link_rate: float = 10_000 * MIB
    answer_seconds: float = 0.0
    rtt_seconds: float = 0.0
    changes_at_seconds: float = 1e9
    later_link_rate: float = 0.0

    def link_at(self, now: float) -> float:
        """The link's rate at a time."""
        return self.link_rate if now < self.changes_at_seconds else self.later_link_rate

    def bound_seconds(self, size_bytes: int, most: int) -> float:
        """No upload over this line can be faster."""
        return size_bytes / min(self.link_rate, self.connection_rate * most)


@dataclass(slots=True)
class _Connection:
    opened_at: float
    left_bytes: float = 0.0
    free_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How an upload went: its time, the most connections, and those it had in the end."""

    seconds: float
    peak: int
    settled: int


def simulate(
    line: Line, *, size_bytes: int, part_bytes: int, connections: int | None = None, tick_seconds: float = 0.01
) -> Run:
    """Upload over a model of a line, with a fixed number of connections or as a climb finds them."""
    climb = Climb(ClimbPolicy(), now=0.0) if connections is None else None
    wanted = climb.connections if climb else connections or 1
    left_bytes, moved_bytes, now, peak = float(size_bytes), 0.0, 0.0, 0
    pool: list[_Connection] = []
    while True:
        idle = [one for one in pool if not one.left_bytes and one.free_at <= now]
        busy = len(pool) - len(idle)
        while left_bytes > 0 and busy < wanted:
            one = idle.pop() if idle else _Connection(opened_at=now)
            if one not in pool:
                pool.append(one)
            one.left_bytes = min(part_bytes, left_bytes)
            left_bytes -= one.left_bytes
            busy += 1
        sending = [one for one in pool if one.left_bytes]
        if left_bytes <= 0 and not sending and all(one.free_at <= now for one in pool):
            return Run(seconds=now, peak=peak, settled=wanted)
        peak = max(peak, busy)
        for one, rate in zip(sending, _rates(line, sending, now), strict=True):
            sent = min(one.left_bytes, rate * tick_seconds)
            one.left_bytes -= sent
            moved_bytes += sent
            if not one.left_bytes:
                one.free_at = now + line.answer_seconds
        now += tick_seconds
        if climb:
            wanted = climb.step(
                now,
                moved_bytes=moved_bytes,
                busy=busy,
                rtt_seconds=line.rtt_seconds,
                parts_left=busy + math.ceil(left_bytes / part_bytes),
            )


def _rates(line: Line, sending: list[_Connection], now: float) -> list[float]:
    """Each connection's rate: its own bound, a ramp while it is young, and its share of the link."""
    ramp: Callable[[_Connection], float] = lambda one: (  # noqa: E731
        min(1.0, (now - one.opened_at + 0.01) / (8 * line.rtt_seconds)) if line.rtt_seconds else 1.0
    )
    own = [line.connection_rate * ramp(one) for one in sending]
    total = sum(own)
    share = min(1.0, line.link_at(now) / total) if total else 1.0
    return [rate * share for rate in own]


#: The lines that the tests and `simulate.py` try.
LINES: dict[str, Line] = {
    "far server, 25 MiB/s a connection": Line(connection_rate=25 * MIB, answer_seconds=0.1),
    "far server, real round trips": Line(connection_rate=25 * MIB, answer_seconds=0.1, rtt_seconds=0.08),
    "slow connections": Line(connection_rate=2 * MIB, answer_seconds=0.05, rtt_seconds=0.03),
    "shared link of 50 MiB/s": Line(connection_rate=25 * MIB, link_rate=50 * MIB, answer_seconds=0.05),
    "shared link, real round trips": Line(
        connection_rate=25 * MIB, link_rate=50 * MIB, answer_seconds=0.05, rtt_seconds=0.03
    ),
    "home uplink of 2 MiB/s": Line(
        connection_rate=20 * MIB, link_rate=2 * MIB, answer_seconds=0.1, rtt_seconds=0.02
    ),
    "one fast connection": Line(connection_rate=400 * MIB, link_rate=400 * MIB, answer_seconds=0.02),
    "link that slows down": Line(
        connection_rate=25 * MIB,
        link_rate=200 * MIB,
        answer_seconds=0.05,
        changes_at_seconds=2.0,
        later_link_rate=60 * MIB,
    ),
}
