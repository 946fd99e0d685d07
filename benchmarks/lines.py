"""Models of lines, for trying out how an upload is planned: its parts, its connections, its limit."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Final

from async_uploader._flow.concurrency import ConcurrencyController, ConcurrencyPolicy
from async_uploader._flow.rate_window import RateWindow
from async_uploader._limits import MIB
from async_uploader._plan import MOST_CONNECTIONS, Allowance, fit, plan_parts

# A new connection: TCP's and TLS's handshakes, then ten segments, and twice as much with each round trip.
_HANDSHAKE_ROUND_TRIPS: Final = 2
_FIRST_WINDOW_BYTES: Final = 10 * 1460
_BACKOFF_SECONDS: Final = 0.25
_MINUTE: Final = 60.0
# The uploader measures this often while concurrency grows; the model can take longer steps otherwise.
_TICK_SECONDS: Final = 0.01
_LONG_TICK_SECONDS: Final = 0.25
_NEVER: Final = math.inf
# An upload that takes so many times what it could is given up.
_HOPELESS: Final = 50


@dataclass(frozen=True, kw_only=True)
class Line:
    """What bounds an upload. Rates in bytes per second.

    :param connection_rate: of each connection
    :param link_rate: of all together
    :param answer_seconds: the wait for an answer, in which a connection sends nothing
    :param rtt_seconds: the round trip; in steps of it a new connection finds its speed
    :param changes_at_seconds: when the link's rate becomes ``later_link_rate``
    :param life_seconds: after so long, on average, a connection is lost, with what it had sent of its part
    :param uploads_a_minute: what the account's limit allows
    """

    connection_rate: float
    link_rate: float = 10_000 * MIB
    answer_seconds: float = 0.0
    rtt_seconds: float = 0.0
    changes_at_seconds: float = _NEVER
    later_link_rate: float = 0.0
    life_seconds: float = _NEVER
    uploads_a_minute: int | None = None

    @cached_property
    def settle_seconds(self) -> float:
        """A new connection needs so long to find its speed."""
        doublings = math.log2(max(1.0, self.connection_rate * self.rtt_seconds / _FIRST_WINDOW_BYTES))
        return (_HANDSHAKE_ROUND_TRIPS + doublings) * self.rtt_seconds

    def link_at(self, now: float) -> float:
        """The link's rate at a time."""
        return self.link_rate if now < self.changes_at_seconds else self.later_link_rate

    def bound_seconds(self, size_bytes: int, parts: int) -> float:
        """No upload of so many parts can be faster over this line."""
        most = self.connection_rate * min(parts, MOST_CONNECTIONS)
        before = min(self.link_rate, most) * self.changes_at_seconds
        line = size_bytes / min(self.link_rate, most)
        if size_bytes > before:
            line = self.changes_at_seconds + (size_bytes - before) / min(self.later_link_rate, most)
        # What fits into the first window waits for nothing.
        windows = 0 if self.uploads_a_minute is None else (parts - 1) // self.uploads_a_minute
        return max(line, windows * _MINUTE)


@dataclass(slots=True, eq=False)
class _Connection:
    opened_at: float
    ends_at: float
    part_bytes: float = 0.0
    left_bytes: float = 0.0
    free_at: float = 0.0

    def rate(self, line: Line, now: float) -> float:
        """By itself: slow start doubles it with each round trip."""
        if self.is_settled(line, now):
            return line.connection_rate
        round_trips = (now - self.opened_at) / line.rtt_seconds - _HANDSHAKE_ROUND_TRIPS
        return 0.0 if round_trips < 0 else _FIRST_WINDOW_BYTES * 2**round_trips / line.rtt_seconds

    def is_settled(self, line: Line, now: float) -> bool:
        return now >= self.opened_at + line.settle_seconds


@dataclass(slots=True)
class _Account:
    """The service's window, and what the uploader knows of it."""

    limit: int
    known: RateWindow = field(default_factory=RateWindow)
    opened_at: float = -_NEVER
    used: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        self.known.update(0.0, limit=self.limit, remaining=self.limit, reset_seconds=_MINUTE, is_estimate=True)

    def take(self, now: float) -> None:
        self.known.count_request(now)
        if now >= self.opened_at + _MINUTE:
            self.opened_at, self.used = now, 0
        self.used += 1
        self.refused += self.used > self.limit

    def answer(self, now: float) -> None:
        reset_seconds = math.ceil(max(0.0, self.opened_at + _MINUTE - now))
        self.known.update(now, limit=self.limit, remaining=self.limit - self.used, reset_seconds=reset_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How an upload went: its time, its parts, the most connections, and those it had in the end."""

    seconds: float
    parts: int
    peak: int
    settled: int
    refused: int


def planned_bytes(line: Line, size_bytes: int) -> int:
    """The part size that the uploader chooses, by what it knows once the container is there."""
    limit = line.uploads_a_minute
    allowance = None if limit is None else Allowance(left=limit, limit=limit)
    return fit(plan_parts(size_bytes), allowance).part_bytes


def simulate(line: Line, *, size_bytes: int, part_bytes: int | None = None, connections: int | None = None) -> Run:
    """Upload over a model of a line; what is None is planned, and found out, as the uploader does."""
    return _Upload(line, size_bytes, part_bytes or planned_bytes(line, size_bytes), connections).run()


class _Upload:
    def __init__(self, line: Line, size_bytes: int, part_bytes: int, connections: int | None) -> None:
        self._line = line
        self._controller = ConcurrencyController(ConcurrencyPolicy()) if connections is None else None
        self._wanted = self._controller.connections if self._controller else connections or 1
        self._waiting = deque(
            float(min(part_bytes, size_bytes - offset)) for offset in range(0, size_bytes, part_bytes)
        )
        self._parts = len(self._waiting)
        self._again: list[tuple[float, float]] = []  # when, and how many bytes
        self._pool: list[_Connection] = []
        self._account = _Account(line.uploads_a_minute) if line.uploads_a_minute else None
        self._moved_bytes = 0.0
        self._now = 0.0
        self._random = Random(1)
        self._hopeless_at = _HOPELESS * (1 + line.bound_seconds(size_bytes, self._parts))
        self._peak = 0

    def run(self) -> Run:
        self._begin_parts()
        while self._waiting or self._again or self._busy():
            self._peak = max(self._peak, len(self._busy()))
            self._move()
            self._drop()
            self._begin_parts()
            if self._now > self._hopeless_at:
                self._now = _NEVER
                break
            if self._controller:
                self._wanted = self._controller.step(
                    self._now,
                    moved_bytes=self._moved_bytes,
                    busy=len(self._busy()),
                    rtt_seconds=self._line.rtt_seconds,
                    parts_left=len(self._waiting) + len(self._busy()),
                )
        refused = self._account.refused if self._account else 0
        return Run(seconds=self._now, parts=self._parts, peak=self._peak, settled=self._wanted, refused=refused)

    def _busy(self) -> list[_Connection]:
        return [one for one in self._pool if one.left_bytes or one.free_at > self._now]

    def _begin_parts(self) -> None:
        due = [size for at, size in self._again if at <= self._now]
        self._again = [(at, size) for at, size in self._again if at > self._now]
        self._waiting.extendleft(due)
        # A part that waits for its second try holds its place.
        free = self._wanted - len(self._busy()) - len(self._again)
        for _ in range(free):
            if not self._waiting or self._wait_seconds() > 0:
                return
            idle = next((one for one in self._pool if not one.left_bytes and one.free_at <= self._now), None)
            if idle is None:
                life_seconds = self._random.expovariate(1.0) * self._line.life_seconds
                idle = _Connection(opened_at=self._now, ends_at=self._now + life_seconds)
                self._pool.append(idle)
            idle.part_bytes = idle.left_bytes = self._waiting.popleft()
            if self._account:
                self._account.take(self._now)

    def _wait_seconds(self) -> float:
        if self._account is None or not self._waiting:
            return 0.0
        return self._account.known.wait_seconds(self._now, demand=len(self._waiting))

    def _move(self) -> None:
        sending = [one for one in self._pool if one.left_bytes]
        own = [one.rate(self._line, self._now) for one in sending]
        total = sum(own)
        share = min(1.0, self._line.link_at(self._now) / total) if total else 1.0
        rates = [rate * share for rate in own]
        tick_seconds = self._tick_seconds(sending, rates)
        for one, rate in zip(sending, rates, strict=True):
            sent = min(one.left_bytes, rate * tick_seconds)
            one.left_bytes -= sent
            self._moved_bytes += sent
            if one.left_bytes < 1:
                one.left_bytes = 0.0
                one.free_at = self._now + tick_seconds + self._line.answer_seconds
        self._now += tick_seconds
        if self._account:
            for one in sending:
                if not one.left_bytes:
                    self._account.answer(self._now)

    def _tick_seconds(self, sending: list[_Connection], rates: list[float]) -> float:
        """As long as nothing can happen in between."""
        is_lively = self._controller is not None and self._controller.is_growing
        if is_lively or not all(one.is_settled(self._line, self._now) for one in sending):
            return _TICK_SECONDS if is_lively else max(_TICK_SECONDS, self._line.rtt_seconds / 4)
        ends = [one.left_bytes / rate for one, rate in zip(sending, rates, strict=True)]
        frees = [one.free_at - self._now for one in self._pool if one.free_at > self._now]
        others = [at - self._now for at, _ in self._again]
        others += [one.ends_at - self._now for one in sending]
        others.append(self._line.changes_at_seconds - self._now)
        if wait := self._wait_seconds():
            others.append(wait)
        longest = _LONG_TICK_SECONDS if self._controller else _NEVER
        return max(1e-6, min(longest, *ends, *frees, *(one for one in others if one > 0)))

    def _drop(self) -> None:
        lost = [one for one in self._pool if one.ends_at <= self._now]
        self._pool = [one for one in self._pool if one.ends_at > self._now]
        for one in lost:
            if one.left_bytes:
                self._again.append((self._now + _BACKOFF_SECONDS, one.part_bytes))
                if self._controller:
                    self._controller.connection_failed(self._now)


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
    "link that gets faster": Line(
        connection_rate=25 * MIB,
        link_rate=50 * MIB,
        answer_seconds=0.05,
        rtt_seconds=0.02,
        changes_at_seconds=2.0,
        later_link_rate=400 * MIB,
    ),
    "connections that last 30 s": Line(
        connection_rate=10 * MIB, answer_seconds=0.1, rtt_seconds=0.03, life_seconds=30.0
    ),
    "40 uploads a minute": Line(
        connection_rate=25 * MIB, answer_seconds=0.1, rtt_seconds=0.03, uploads_a_minute=40
    ),
    "100 uploads a minute": Line(
        connection_rate=25 * MIB, answer_seconds=0.1, rtt_seconds=0.03, uploads_a_minute=100
    ),
    "1,000 uploads a minute": Line(
        connection_rate=25 * MIB, answer_seconds=0.1, rtt_seconds=0.03, uploads_a_minute=1000
    ),
}
