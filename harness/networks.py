"""Models of networks, and a simulated upload over them with the package's planner and concurrency controller."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Final

from async_uploader._flow.concurrency import ConcurrencyController
from async_uploader._flow.concurrency_policy import ConcurrencyPolicy
from async_uploader._flow.rate_window import RateWindow
from async_uploader._limits import MIB
from async_uploader._plan import MAX_ADAPTIVE_CONCURRENCY, Allowance, fit_to_allowance, plan_parts

from .noise import BUFFER_BYTES, TICK_SECONDS, noise

# A new connection needs TCP and TLS handshakes. Its window starts with ten segments and doubles every round trip.
_HANDSHAKE_ROUND_TRIPS: Final = 2
_FIRST_WINDOW_BYTES: Final = 10 * 1460
_BACKOFF_SECONDS: Final = 0.25
_WINDOW_SECONDS: Final = 60.0
# The uploader's measuring interval after concurrency has grown.
_MAX_TICK_SECONDS: Final = 0.25
# With noise: the probability that a new connection begins to send in a tick.
_OPENED_PER_TICK: Final = 0.5
_NEVER: Final = math.inf
_FEW_CONNECTIONS: Final = 8
# The simulation ends when an upload takes this many times the theoretical minimum.
_GIVE_UP_FACTOR: Final = 50


@dataclass(frozen=True, kw_only=True)
class Network:
    """What limits an upload. Rates are in bytes per second.

    :param connection_rate: rate of each connection
    :param link_rate: rate of all connections together
    :param response_seconds: how long a connection waits for a response; it sends nothing meanwhile
    :param rtt_seconds: round-trip time; a new connection doubles its rate every round trip
    :param changes_at_seconds: when the rate of the link becomes ``later_link_rate``
    :param lifetime_seconds: mean lifetime of a connection; when it is lost, so is what it has sent of its part
    :param uploads_per_minute: the account's rate limit
    :param noise: condition and link of recorded noise, such as ("loaded", "8 MiB/s")
    """

    connection_rate: float
    link_rate: float = 10_000 * MIB
    response_seconds: float = 0.0
    rtt_seconds: float = 0.0
    changes_at_seconds: float = _NEVER
    later_link_rate: float = 0.0
    lifetime_seconds: float = _NEVER
    uploads_per_minute: int | None = None
    noise: tuple[str, str] | None = None

    @cached_property
    def ramp_up_seconds(self) -> float:
        """How long a new connection takes to reach its full rate."""
        doublings = math.log2(max(1.0, self.connection_rate * self.rtt_seconds / _FIRST_WINDOW_BYTES))
        return (_HANDSHAKE_ROUND_TRIPS + doublings) * self.rtt_seconds

    def link_at(self, now: float) -> float:
        """The rate of the link at a time."""
        return self.link_rate if now < self.changes_at_seconds else self.later_link_rate

    def bound_seconds(self, size_bytes: int, parts: int) -> float:
        """The theoretical minimum for an upload with this number of parts."""
        max_rate = self.connection_rate * min(parts, MAX_ADAPTIVE_CONCURRENCY)
        bytes_before_change = min(self.link_rate, max_rate) * self.changes_at_seconds
        transfer_seconds = size_bytes / min(self.link_rate, max_rate)
        if size_bytes > bytes_before_change:
            transfer_seconds = self.changes_at_seconds + (size_bytes - bytes_before_change) / min(
                self.later_link_rate, max_rate
            )
        # Parts in the first window do not wait.
        windows = 0 if self.uploads_per_minute is None else (parts - 1) // self.uploads_per_minute
        return max(transfer_seconds, windows * _WINDOW_SECONDS)


@dataclass(slots=True, eq=False)
class _Connection:
    opened_at: float
    ends_at: float
    part_bytes: float = 0.0
    remaining_bytes: float = 0.0
    free_at: float = 0.0
    has_filled_buffers: bool = False

    def rate(self, network: Network, now: float) -> float:
        """The rate without a shared link: slow start doubles it every round trip."""
        if self.is_at_full_rate(network, now):
            return network.connection_rate
        round_trips = (now - self.opened_at) / network.rtt_seconds - _HANDSHAKE_ROUND_TRIPS
        return 0.0 if round_trips < 0 else _FIRST_WINDOW_BYTES * 2**round_trips / network.rtt_seconds

    def is_at_full_rate(self, network: Network, now: float) -> bool:
        return now >= self.opened_at + network.ramp_up_seconds


@dataclass(slots=True)
class _Account:
    """The service's rate limit window, and what the uploader knows about it."""

    limit: int
    known: RateWindow = field(default_factory=RateWindow)
    opened_at: float = -_NEVER
    used: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        self.known.update(
            0.0, limit=self.limit, remaining=self.limit, reset_seconds=_WINDOW_SECONDS, is_estimate=True
        )

    def count_part(self, now: float) -> None:
        self.known.count_request(now)
        if now >= self.opened_at + _WINDOW_SECONDS:
            self.opened_at, self.used = now, 0
        self.used += 1
        self.refused += self.used > self.limit

    def respond(self, now: float) -> None:
        reset_seconds = math.ceil(max(0.0, self.opened_at + _WINDOW_SECONDS - now))
        self.known.update(now, limit=self.limit, remaining=self.limit - self.used, reset_seconds=reset_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The result of a simulated upload: duration, number of parts, most and final concurrency, parts refused with
    429, and whether more connections would be faster, by the controller's measurements.
    """

    seconds: float
    parts: int
    peak_connections: int
    final_connections: int
    refused: int
    are_more_worthwhile: bool | None


def max_justified(network: Network) -> int:
    """How many connections an uploader may open at most.

    8, or half more than the link can use: that a link is full shows only once there are too many.
    """
    return max(_FEW_CONNECTIONS, math.ceil(1.5 * network.link_rate / network.connection_rate))


def planned_part_bytes(network: Network, size_bytes: int) -> int:
    """The part size that the uploader chooses once the container is created."""
    limit = network.uploads_per_minute
    allowance = None if limit is None else Allowance(remaining=limit, limit=limit)
    return fit_to_allowance(plan_parts(size_bytes), allowance).part_bytes


def simulate(
    network: Network,
    *,
    size_bytes: int,
    part_bytes: int | None = None,
    connections: int | None = None,
    seed: int = 1,
    max_seconds: float = _NEVER,
) -> Run:
    """Simulate an upload. Part size and concurrency default to those that the uploader chooses.

    :param seed: of the noise and of lost connections
    :param max_seconds: the upload is abandoned after this time
    """
    part_bytes = part_bytes or planned_part_bytes(network, size_bytes)
    return _Upload(network, size_bytes, part_bytes, connections, seed=seed).run(max_seconds)


class _Upload:
    def __init__(
        self, network: Network, size_bytes: int, part_bytes: int, connections: int | None, *, seed: int
    ) -> None:
        self._network = network
        self._controller = ConcurrencyController(ConcurrencyPolicy()) if connections is None else None
        self._concurrency = self._controller.connections if self._controller else connections or 1
        self._waiting_parts = deque(
            float(min(part_bytes, size_bytes - offset)) for offset in range(0, size_bytes, part_bytes)
        )
        self._parts = len(self._waiting_parts)
        self._retries: list[tuple[float, float]] = []  # (time, bytes)
        self._connections: list[_Connection] = []
        self._account = _Account(network.uploads_per_minute) if network.uploads_per_minute else None
        self._sent_bytes = 0.0
        self._now = 0.0
        self._random = Random(seed)
        self._noise = noise(*network.noise, Random(seed)) if network.noise else None
        self._stepped_at = 0.0
        self._give_up_at = _GIVE_UP_FACTOR * (1 + network.bound_seconds(size_bytes, self._parts))
        self._peak = 0

    def run(self, max_seconds: float) -> Run:
        self._begin_parts()
        while self._waiting_parts or self._retries or self._busy_connections():
            self._peak = max(self._peak, len(self._busy_connections()))
            self._transfer()
            self._lose_connections()
            self._begin_parts()
            if self._now > self._give_up_at:
                self._now = _NEVER
                break
            if self._now > max_seconds:
                break
            if self._controller:
                self._step(self._controller)
        refused = self._account.refused if self._account else 0
        return Run(
            seconds=self._now,
            parts=self._parts,
            peak_connections=self._peak,
            final_connections=self._concurrency,
            refused=refused,
            are_more_worthwhile=self._controller.are_more_worthwhile if self._controller else None,
        )

    def _step(self, controller: ConcurrencyController) -> None:
        step_seconds = TICK_SECONDS if controller.is_growing or not self._noise else _MAX_TICK_SECONDS
        if self._noise and self._now < self._stepped_at + step_seconds:
            return
        lag_seconds = max(0.0, self._now - self._stepped_at - step_seconds) if self._noise else 0.0
        self._stepped_at = self._now
        self._concurrency = controller.step(
            self._now,
            moved_bytes=self._sent_bytes,
            busy=len(self._busy_connections()),
            rtt_seconds=self._network.rtt_seconds,
            parts_left=len(self._waiting_parts) + len(self._busy_connections()),
            lag_seconds=lag_seconds,
        )

    def _busy_connections(self) -> list[_Connection]:
        return [one for one in self._connections if one.remaining_bytes or one.free_at > self._now]

    def _begin_parts(self) -> None:
        due = [size for at, size in self._retries if at <= self._now]
        self._retries = [(at, size) for at, size in self._retries if at > self._now]
        self._waiting_parts.extendleft(due)
        # A part keeps its slot while it waits for its retry.
        free = self._concurrency - len(self._busy_connections()) - len(self._retries)
        for _ in range(free):
            if not self._waiting_parts or self._wait_seconds() > 0:
                return
            idle = next(
                (one for one in self._connections if not one.remaining_bytes and one.free_at <= self._now), None
            )
            if idle is None:
                lifetime_seconds = self._random.expovariate(1.0) * self._network.lifetime_seconds
                idle = _Connection(opened_at=self._now, ends_at=self._now + lifetime_seconds)
                self._connections.append(idle)
            idle.part_bytes = idle.remaining_bytes = self._waiting_parts.popleft()
            if self._account:
                self._account.count_part(self._now)

    def _wait_seconds(self) -> float:
        if self._account is None or not self._waiting_parts:
            return 0.0
        return self._account.known.wait_seconds(self._now, demand=len(self._waiting_parts))

    def _transfer(self) -> None:
        sending = [one for one in self._connections if one.remaining_bytes]
        own_rates = [one.rate(self._network, self._now) for one in sending]
        total_rate = sum(own_rates)
        share = min(1.0, self._network.link_at(self._now) / total_rate) if total_rate else 1.0
        if self._noise:
            tick_seconds, ratio = next(self._noise)
            rates = [rate * share * ratio for rate in own_rates]
        else:
            rates = [rate * share for rate in own_rates]
            tick_seconds = self._tick_seconds(sending, rates)
        for one, rate in zip(sending, rates, strict=True):
            sent = min(one.remaining_bytes, rate * tick_seconds)
            if self._noise and one.remaining_bytes and not one.has_filled_buffers:
                # Each connection begins a little later than the one before it.
                if self._random.random() < _OPENED_PER_TICK:
                    one.has_filled_buffers = True
                    sent = min(one.remaining_bytes, sent + BUFFER_BYTES)
                else:
                    sent = 0.0
            one.remaining_bytes -= sent
            self._sent_bytes += sent
            if one.remaining_bytes < 1:
                one.remaining_bytes = 0.0
                one.free_at = self._now + tick_seconds + self._network.response_seconds
        self._now += tick_seconds
        if self._account:
            for one in sending:
                if not one.remaining_bytes:
                    self._account.respond(self._now)

    def _tick_seconds(self, sending: list[_Connection], rates: list[float]) -> float:
        """The time until the next event."""
        is_growing = self._controller is not None and self._controller.is_growing
        if is_growing or not all(one.is_at_full_rate(self._network, self._now) for one in sending):
            return TICK_SECONDS if is_growing else max(TICK_SECONDS, self._network.rtt_seconds / 4)
        ends = [one.remaining_bytes / rate for one, rate in zip(sending, rates, strict=True)]
        frees = [one.free_at - self._now for one in self._connections if one.free_at > self._now]
        others = [at - self._now for at, _ in self._retries]
        others += [one.ends_at - self._now for one in sending]
        others.append(self._network.changes_at_seconds - self._now)
        if wait := self._wait_seconds():
            others.append(wait)
        longest = _MAX_TICK_SECONDS if self._controller else _NEVER
        return max(1e-6, min(longest, *ends, *frees, *(one for one in others if one > 0)))

    def _lose_connections(self) -> None:
        lost = [one for one in self._connections if one.ends_at <= self._now]
        self._connections = [one for one in self._connections if one.ends_at > self._now]
        for one in lost:
            if one.remaining_bytes:
                self._retries.append((self._now + _BACKOFF_SECONDS, one.part_bytes))
                if self._controller:
                    self._controller.connection_failed(self._now)


#: The networks of the tests and of `benchmarks.simulate`.
NETWORKS: dict[str, Network] = {
    "distant server, 25 MiB/s per connection": Network(connection_rate=25 * MIB, response_seconds=0.1),
    "distant server, real round trips": Network(connection_rate=25 * MIB, response_seconds=0.1, rtt_seconds=0.08),
    "slow connections": Network(connection_rate=2 * MIB, response_seconds=0.05, rtt_seconds=0.03),
    "shared link of 50 MiB/s": Network(connection_rate=25 * MIB, link_rate=50 * MIB, response_seconds=0.05),
    "shared link, real round trips": Network(
        connection_rate=25 * MIB, link_rate=50 * MIB, response_seconds=0.05, rtt_seconds=0.03
    ),
    "home uplink of 2 MiB/s": Network(
        connection_rate=20 * MIB, link_rate=2 * MIB, response_seconds=0.1, rtt_seconds=0.02
    ),
    "one fast connection": Network(connection_rate=400 * MIB, link_rate=400 * MIB, response_seconds=0.02),
    "link that slows down": Network(
        connection_rate=25 * MIB,
        link_rate=200 * MIB,
        response_seconds=0.05,
        changes_at_seconds=2.0,
        later_link_rate=60 * MIB,
    ),
    "link that gets faster": Network(
        connection_rate=25 * MIB,
        link_rate=50 * MIB,
        response_seconds=0.05,
        rtt_seconds=0.02,
        changes_at_seconds=2.0,
        later_link_rate=400 * MIB,
    ),
    "connections that last 30 s": Network(
        connection_rate=10 * MIB, response_seconds=0.1, rtt_seconds=0.03, lifetime_seconds=30.0
    ),
    "40 uploads per minute": Network(
        connection_rate=25 * MIB, response_seconds=0.1, rtt_seconds=0.03, uploads_per_minute=40
    ),
    "100 uploads per minute": Network(
        connection_rate=25 * MIB, response_seconds=0.1, rtt_seconds=0.03, uploads_per_minute=100
    ),
    "1,000 uploads per minute": Network(
        connection_rate=25 * MIB, response_seconds=0.1, rtt_seconds=0.03, uploads_per_minute=1000
    ),
}
