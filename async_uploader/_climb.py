"""How many parts in flight: found by trying, while the upload runs. Pure; time and measurements are passed in.

A line can be bound by each connection (a far server: more connections are faster in proportion) or as a whole (a
home's uplink: more connections gain nothing and crowd out everybody else). Nobody tells which. So: begin with two,
and multiply while the total rate grows along; when it does not, go back to what the rate was worth. After that,
look now and then whether a few more are worth it, and climb on if they are; try fewer when the line has become
slower; give way when connections fail.

Rejected: beginning with many connections (on a shared line most of them are already too many, and taking back
takes a part's time); measuring by finished parts (the first one would come too late for most uploads); measuring
by what ``write()`` took (each new connection's kernel buffers swallow megabytes at once); giving way in proportion
with each failure (on a line that loses connections for its own reasons, one is left, and parts never end).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

# A step up is worth it when the rate grows by so much of what the connections did: 1 would be in proportion.
_WORTH_A_STEP: Final = 0.35
# In proportion, as far as one can measure: then the next step may be a large one.
_IN_PROPORTION: Final = 0.85
# No line gives more than that: new connections fill buffers on the way, for a moment; or it was not the line that
# kept the rate before so low, and then that tells little.
_TOO_GOOD: Final = 1.25
# What the line gives without the pauses between parts, needs a few more to keep it full.
_SPARE: Final = 1.25
# To go up is urgent, to go back is not: what is in flight stays there until its end. So it is measured for longer,
# as many connections that open at once keep the computers at both ends busy with that, for a while.
_SURE: Final = 8
# Nor is a gain that is not in proportion believed at once, for these buffers: it has to be seen twice after that.
_FILLING: Final = 1
_GAINING: Final = 2
# Of more rounds of parts than these, the last one costs little.
_FEW_ROUNDS: Final = 4
# A few more connections, later: half of what they could give has to be seen.
_WORTH_A_FEW_MORE: Final = 0.5
_A_FEW: Final = 0.25
# The line has become slower or faster, if it is not only noise.
_SLOWER: Final = 0.7
_FASTER: Final = 1.25
# A connection's handshakes take so many round trips; then TCP doubles its speed with each.
_HANDSHAKE_ROUND_TRIPS: Final = 3
_STILL_GROWING: Final = 1.15
# Nothing grows for longer: 12 doublings are 60 MB in flight.
_GROWN: Final = 12
# A line whose first connections still double by now is far: the next ones are opened ahead of their turn, and are
# slow for as long as the first ones have been until now, so these can still be measured.
_FAR: Final = 3
_GROWING_FAST: Final = 1.5
# One failure of a connection in so long has reasons of its own, and these come in heaps of so many, too. More of
# them cost no more than a quarter of the connections a second: a service that was away for a moment is not a line
# that carries only one.
_FORGIVEN_SECONDS: Final = 10.0
_HEAP: Final = 0.1
_MOST_TO_GIVE: Final = 0.25


class ClimbPolicy(Struct, frozen=True, kw_only=True):
    """Bounds and pace of a climb.

    :param steps: connections to go through as long as the rate grows in proportion; else they are doubled
    :param most: never more
    :param settle_seconds: a new connection needs so long to show what it can do
    :param measure_seconds: and is then measured for so long
    :param probe_seconds: once the climb is over, the rate is measured for so long each time
    :param probes: so often, before a few more are tried
    :param keep_seconds: what was found holds so long for the next upload, if it was not confirmed
    """

    steps: tuple[int, ...] = (2, 6, 32)
    most: int = 32
    settle_seconds: float = 0.03
    measure_seconds: float = 0.03
    probe_seconds: float = 1.0
    probes: int = 3
    keep_seconds: float = 60.0


class Climb:
    """The number of connections for one line. Ask :meth:`step` often; it says when it changes."""

    def __init__(self, policy: ClimbPolicy) -> None:
        self.connections = min(policy.steps[0], policy.most)
        self._policy = policy
        self._most = policy.most
        self._is_climbing = True
        self._has_given_way = False
        self._found_at = -math.inf
        self._other: tuple[int, float] | None = None  # connections and rate that the present number has to beat
        self._usual: tuple[int, float] | None = None  # the same of this number before, once the climb is over
        self._busy = self.connections
        self._began_at: float | None = None
        self._from: tuple[float, float] | None = None  # time and bytes at the measurement's start
        self._rates: list[float] = []  # of this number, measured one after the other
        self._ahead = 0  # the number that these are of, if more have been opened ahead of their turn
        self._failed_at, self._failures = -math.inf, 0.0
        self._keep: tuple[float, int] = -math.inf, 1  # since when, and how many of the connections at least

    def step(
        self,
        now: float,
        *,
        moved_bytes: float,
        busy: int,
        rtt_seconds: float = 0.0,
        parts_left: int = 0,
        most: int | None = None,
    ) -> int:
        """Take note of what has moved; returns how many connections there should be.

        :param moved_bytes: bytes that have reached the other side since the upload began
        :param busy: connections that are in use. It takes a while until there are as few as there should be, and
            a measurement is of as many as there are
        :param rtt_seconds: the line's round trip, in which new connections find their speed
        :param parts_left: that have not arrived, those in flight included; 0 while it is not known
        :param most: connections that could be used just now; None for as many as one likes
        """
        policy = self._policy
        self._most = policy.most if most is None else min(max(1, most), policy.most)
        if self._began_at is None:
            self._began_at = now
        is_as_many = busy == self._busy or (self._ahead and busy == self.connections)
        self._busy = busy
        if busy < self.connections or not is_as_many:
            self._restart(now)
        elif self._from is None:
            if now - self._began_at >= max(policy.settle_seconds, _HANDSHAKE_ROUND_TRIPS * rtt_seconds):
                self._from = now, moved_bytes
        elif now - self._from[0] >= self._window_seconds(rtt_seconds):
            self._rates.append((moved_bytes - self._from[1]) / (now - self._from[0]))
            self._from = now, moved_bytes
            if self._is_climbing:
                self._judge_step(now, parts_left, may_grow=rtt_seconds > policy.settle_seconds / 10)
            else:
                self._watch(now)
        return self.connections

    def begin(self, now: float) -> None:
        """An upload begins after a time without any, in which nothing has moved.

        What was found still holds, but neither for long nor if failures have led to it: a short upload has no time
        to find out better by looking out for more.
        """
        self._restart(now)
        is_old = now - self._found_at > self._policy.keep_seconds
        if not self._is_climbing and (is_old or self._has_given_way):
            self._is_climbing, self._has_given_way, self._usual = True, False, None
            self._go_to(now, self._policy.steps[0], other=None)

    def _restart(self, now: float) -> None:
        self._began_at, self._from = now, None
        self._rates.clear()
        self._ahead = 0

    @property
    def is_climbing(self) -> bool:
        """Whether it is still to be found out how many are worth it."""
        return self._is_climbing

    def failed(self, now: float) -> None:
        """A connection has failed: give way by one, if many do."""
        forgiven = (now - self._failed_at) * self.connections / _FORGIVEN_SECONDS
        self._failed_at, self._failures = now, max(0.0, self._failures - forgiven) + 1
        if now - self._keep[0] >= 1:
            self._keep = now, self.connections - max(1, int(self.connections * _MOST_TO_GIVE))
        if self._failures > max(1, self.connections * _HEAP) and self.connections > max(1, self._keep[1]):
            self._is_climbing, self._has_given_way = False, True
            self._go_to(now, self.connections - 1, other=None)

    def _window_seconds(self, rtt_seconds: float) -> float:
        return max(self._policy.measure_seconds, rtt_seconds) if self._is_climbing else self._policy.probe_seconds

    def _go_to(self, now: float, connections: int, *, other: tuple[int, float] | None) -> None:
        self.connections = max(1, min(connections, self._most))
        self._other = other
        self._restart(now)

    def _judge_step(self, now: float, parts_left: int, *, may_grow: bool) -> None:
        rates = self._rates
        may_grow &= len(rates) < _GROWN
        if self._other is None:
            is_growing = may_grow and _grows(rates[:-1], rates[-1:])
            if not is_growing and self._ahead:
                self._other = self._ahead, rates[-1]
                rates.clear()
            elif not is_growing:
                self._go_to(now, self._next(in_proportion=True), other=(self.connections, rates[-1]))
            elif len(rates) >= _FAR and rates[-1] > rates[-2] * _GROWING_FAST and not self._ahead:
                self._ahead = self.connections
                self.connections = min(self._next(in_proportion=True), self._most)
            return
        fewer, _ = self._other
        share = self._share(rates[-1])
        if share >= _IN_PROPORTION and self.connections < self._most:
            is_credible = share <= _TOO_GOOD
            if is_credible or len(rates) >= _FILLING + _GAINING:
                self._go_to(now, self._next(in_proportion=is_credible), other=(self.connections, rates[-1]))
            return
        # Of two, as a pause between two parts makes one look as if it grew no more.
        is_growing = may_grow and _grows(rates[:-2], rates[-2:])
        recent = sum(rates[-_GAINING:]) / _GAINING
        is_worth_it = len(rates) >= _FILLING + _GAINING and self._share(recent) >= _WORTH_A_STEP
        if is_worth_it and not is_growing and self.connections < self._most:
            self._go_to(now, self._next(), other=(self.connections, recent))
        elif len(rates) >= _SURE and not is_growing:
            later = rates[_SURE // 2 :]
            worth = math.ceil(fewer * self._gain(sum(later) / len(later)) * _SPARE)
            self._is_climbing, self._found_at = False, now
            worth = max(1, min(self.connections, worth))
            self._go_to(now, _in_even_rounds(worth, parts_left, most=self.connections), other=None)

    def _watch(self, now: float) -> None:
        recent = self._rates[-self._policy.probes :]
        rate = sum(recent) / len(recent)
        is_sure = len(recent) == self._policy.probes
        if self._other is None:
            self._look_out(now, rate, latest=recent[-1], is_sure=is_sure)
        elif self._busy == self.connections:  # where fewer are to be tried, it takes a while until they are
            self._judge_probe(now, self._other[0], rate, is_sure=is_sure)

    def _look_out(self, now: float, rate: float, *, latest: float, is_sure: bool) -> None:
        """See whether a few more are to be tried, or fewer."""
        here = self._busy, rate
        usual_rate = self._usual[1] if self._usual and self._usual[0] == self._busy else rate
        more = self._busy + max(1, int(self._busy * _A_FEW))
        if is_sure:
            self._usual = here
        if latest > usual_rate * _FASTER:
            self._go_to(now, more, other=(self._busy, latest))
        elif is_sure and self._busy == self.connections:
            fewer = min(self.connections - 1, math.ceil(self.connections * rate / (usual_rate or 1) * _SPARE))
            self._go_to(now, fewer if rate < usual_rate * _SLOWER else more, other=here)

    def _judge_probe(self, now: float, others: int, rate: float, *, is_sure: bool) -> None:
        share = self._share(rate)
        if self.connections > others and share >= (_WORTH_A_FEW_MORE if is_sure else _IN_PROPORTION):
            self._is_climbing, self._has_given_way = True, False
            self._go_to(now, self._next(), other=(self.connections, rate))
        elif is_sure:
            self._found_at = now
            if self.connections > others:
                self._usual = self._other
            # Fewer do, if not much of the rate went with those that are gone.
            is_enough = self.connections < others and share < _WORTH_A_FEW_MORE
            self._go_to(now, self.connections if is_enough else others, other=None)

    def _gain(self, rate: float) -> float:
        assert self._other is not None
        return rate / self._other[1] if self._other[1] else 1.0

    def _share(self, rate: float) -> float:
        """How much the rate has changed, of what the number of connections has."""
        assert self._other is not None
        change = self.connections / self._other[0] - 1
        return (self._gain(rate) - 1) / change if change else 0.0

    def _next(self, *, in_proportion: bool = False) -> int:
        steps = [step for step in self._policy.steps if step > self.connections]
        return steps[0] if steps and in_proportion else self.connections * 2


def _grows(before: Sequence[float], now: Sequence[float]) -> bool:
    return not before or max(now) > max(before) * _STILL_GROWING


def _in_even_rounds(connections: int, parts_left: int, *, most: int) -> int:
    """A few more, if that saves the upload a last round for the few parts that are left over."""
    rounds = -(-parts_left // connections)
    if not 1 < rounds <= _FEW_ROUNDS:
        return connections
    needed = -(-parts_left // (rounds - 1))
    return needed if needed <= most else connections
