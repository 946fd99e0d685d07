"""How many parts in flight: found by trying, while the upload runs. Pure; time and measurements are passed in.

A line can be bound by each connection (a far server: more connections are faster in proportion) or as a whole (a
home's uplink: more connections gain nothing and crowd out everybody else). Nobody tells which. So: begin with two,
and multiply while the total rate grows along; when it does not, go back to what the rate was worth. After that,
look now and then whether one more is worth it, and give way when connections fail.

Rejected: beginning with many connections (on a shared line most of them are already too many, and taking back
takes a part's time); measuring by finished parts (the first one would come too late for most uploads); measuring
by what ``write()`` took (each new connection's kernel buffers swallow megabytes at once).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

# A step up is worth it when the rate grows by so much of what the connections did: 1 would be in proportion.
_WORTH_A_STEP: Final = 0.35
# In proportion, as far as one can measure: then the next step may be a large one.
_IN_PROPORTION: Final = 0.85
# What the line gives without the pauses between parts, needs a few more to keep it full.
_SPARE: Final = 1.25
# To go up is urgent, to go back is not: what is in flight stays there until its end. So it is measured for longer,
# as many connections that open at once keep the computers at both ends busy with that, for a while.
_SURE: Final = 8
# Nor is a gain that is not in proportion believed at once: buffers on the way make new connections look fast.
_GAINING: Final = 2
# Of more rounds of parts than these, the last one costs little.
_FEW_ROUNDS: Final = 4
# One more of N connections could give 1/N more; half of that has to be seen.
_WORTH_ONE_MORE: Final = 0.5
# TCP doubles a new connection's speed with each round trip: from 14 kB to 2 MB in flight in seven.
_SETTLE_ROUND_TRIPS: Final = 8
_MEASURE_ROUND_TRIPS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ClimbPolicy:
    """Bounds and pace of a climb.

    :param steps: connections to go through as long as the rate grows in proportion; else they are doubled
    :param most: never more
    :param settle_seconds: a new connection needs so long to show what it can do
    :param measure_seconds: and is then measured for so long
    :param probe_seconds: between two tries of one more, once the climb is over
    """

    steps: tuple[int, ...] = (2, 6, 32)
    most: int = 32
    settle_seconds: float = 0.03
    measure_seconds: float = 0.03
    probe_seconds: float = 3.0


class Climb:
    """The number of connections for one line. Ask :meth:`step` often; it says when it changes."""

    def __init__(self, policy: ClimbPolicy, *, now: float) -> None:
        self.connections = min(policy.steps[0], policy.most)
        self._policy = policy
        self._is_climbing = True
        self._lower: tuple[int, float] | None = None  # connections and rate that the present number has to beat
        self._began_at = now
        self._from: tuple[float, float] | None = None  # time and bytes at the measurement's start

    def step(
        self,
        now: float,
        *,
        moved_bytes: float,
        busy: int,
        rtt_seconds: float = 0.0,
        parts_left: int = 0,
    ) -> int:
        """Take note of what has moved; returns how many connections there should be.

        :param moved_bytes: bytes that have reached the other side since the upload began
        :param busy: connections that are in use; a measurement counts only when all are
        :param rtt_seconds: the line's round trip, in which new connections find their speed
        :param parts_left: that have not arrived, those in flight included; 0 while it is not known
        """
        if busy < self.connections:
            self._restart(now)
        elif self._from is None:
            if now - self._began_at >= max(self._policy.settle_seconds, _SETTLE_ROUND_TRIPS * rtt_seconds):
                self._from = now, moved_bytes
        elif now - self._from[0] >= max(self._measure_seconds, _MEASURE_ROUND_TRIPS * rtt_seconds):
            seconds = now - self._from[0]
            self._judge(
                now,
                (moved_bytes - self._from[1]) / seconds,
                parts_left,
                measured=seconds / self._measure_seconds,
            )
        return self.connections

    @property
    def is_climbing(self) -> bool:
        """Whether it is still to be found out how many are worth it."""
        return self._is_climbing

    @property
    def _measure_seconds(self) -> float:
        return self._policy.measure_seconds if self._is_climbing else self._policy.probe_seconds

    def failed(self, now: float) -> None:
        """A connection has failed: give way, and do not climb further."""
        self._is_climbing = False
        self._go_to(now, max(1, self.connections * 3 // 4), lower=None)

    def _restart(self, now: float) -> None:
        self._began_at, self._from = now, None

    def _go_to(self, now: float, connections: int, *, lower: tuple[int, float] | None) -> None:
        self.connections = max(1, min(connections, self._policy.most))
        self._lower = lower
        self._restart(now)

    def _judge(self, now: float, rate: float, parts_left: int, *, measured: float) -> None:
        here = self.connections, rate
        if self._lower is None:
            self._go_to(now, self._next(in_proportion=True), lower=here)
            return
        fewer, lower_rate = self._lower
        gain = rate / lower_rate if lower_rate else 1.0
        share = (gain - 1) / (self.connections / fewer - 1) if self.connections > fewer else 0.0
        if not self._is_climbing:
            is_worth_it = share >= _WORTH_ONE_MORE
            self._go_to(now, self._next() if is_worth_it else fewer, lower=here if is_worth_it else None)
            return
        is_in_proportion = share >= _IN_PROPORTION
        may_go_up = share >= _WORTH_A_STEP and self.connections < self._policy.most
        if measured < (1 if is_in_proportion else _GAINING if may_go_up else _SURE):
            return  # it goes on being measured
        if may_go_up:
            self._go_to(now, self._next(in_proportion=is_in_proportion), lower=here)
        else:
            self._is_climbing = False
            worth = max(1, min(self.connections, math.ceil(fewer * gain * _SPARE)))
            self._go_to(now, _in_even_rounds(worth, parts_left, most=self.connections), lower=None)

    def _next(self, *, in_proportion: bool = False) -> int:
        if not self._is_climbing:
            return self.connections + 1
        steps = [step for step in self._policy.steps if step > self.connections]
        return steps[0] if steps and in_proportion else self.connections * 2


def _in_even_rounds(connections: int, parts_left: int, *, most: int) -> int:
    """A few more, if that saves the upload a last round for the few parts that are left over."""
    rounds = -(-parts_left // connections)
    if not 1 < rounds <= _FEW_ROUNDS:
        return connections
    needed = -(-parts_left // (rounds - 1))
    return needed if needed <= most else connections
