"""Adaptive concurrency: how many parts to have in flight, decided from measured throughput. Pure.

Time and measurements are passed in; nothing here waits or reads a clock. The states are in one module, because
each transition concerns two of them.

Problem
    A link is limited either per connection (a distant server: throughput grows in proportion to the connections)
    or as a whole (a home uplink: more connections gain nothing and slow down everybody else). Only
    measurements show which.

Approach
    Start with two connections. Multiply them while throughput grows in proportion. When it stops growing, return
    to the number that the throughput justifies. Then probe from time to time: a few more connections, or fewer if
    the throughput has dropped. Reduce the number if connections fail.

Rejected
    - Starting with many connections: most are too many on a shared link, and a part in flight cannot be taken
      back.
    - Measuring by finished parts: the first one comes too late for most uploads.
    - Measuring by what ``write()`` accepted: the kernel immediately buffers megabytes for each new connection.
    - A reduction for every failure: on a link that drops connections regularly, only one connection would remain,
      and long parts would never finish.

States
    1. BASELINE: measure the throughput of the first connections before growing. If it is still doubling after a
       few samples (TCP slow start on a distant link), open the next connections early and keep measuring the first
       ones.
    2. GROWING: measure after an increase.
       2a. Growth in proportion, and credible: increase again by a large step.
       2b. Growth beyond proportion: buffers are filling, or the earlier throughput was low for another reason.
           Wait for more samples, then take a smaller step.
       2c. A worthwhile gain that has stopped changing: increase again by a small step.
       2d. No worthwhile gain after enough samples: settle on the number that the throughput justifies.
    3. STEADY: measure, and look for a change.
       3a. Clearly faster than usual: probe a few more immediately.
       3b. Clearly slower than usual: probe fewer.
       3c. Neither: probe a few more anyway.
    4. PROBING_MORE: keep the additional connections and return to GROWING if they bring their share, else return.
    5. PROBING_FEWER: keep the smaller number if the connections given up did not cost their share, else return.

    A failed connection leads to STEADY with one connection fewer, unless it is one of the forgiven failures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple

from msgspec import Struct


class ConcurrencyPolicy(Struct, frozen=True, kw_only=True):
    """Limits, durations and thresholds of a :class:`ConcurrencyController`.

    "Share" is the relative gain in throughput divided by the relative increase in connections: 1 means growth in
    proportion.

    :param steps: numbers of connections to try while throughput grows in proportion; beyond them the number
        doubles
    :param most: upper limit for the number of connections
    :param settle_seconds: a new connection gets this long before it is measured
    :param measure_seconds: length of one sample while growing
    :param probe_seconds: length of one sample in the steady state and while probing. Longer, because a change
        there is not urgent and noise matters more
    :param samples_per_probe: samples before a probe begins, and before it is judged
    :param keep_seconds: an unconfirmed result is valid this long for the next upload
    :param worthwhile_share: an increase is worthwhile from this share on. Parts in flight cannot be taken back, so
        an increase must bring more than noise
    :param proportional_share: from this share on, growth counts as proportional, as far as it can be measured
    :param credible_share: no link gives more than this. Beyond it, new connections are filling buffers on the
        path, or something other than the link held the earlier throughput down
    :param worthwhile_probe_share: a probe must bring at least this share. More, because growth is no longer urgent
    :param spare: connections to keep for each one that the throughput justifies, to bridge the pauses between
        parts
    :param samples_until_buffers_full: samples to distrust after an increase, while buffers may be filling
    :param samples_of_gain: samples that must confirm a gain that is less than proportional
    :param samples_until_settled: samples before growth is given up. More than for an increase: many connections
        that open at once keep the computers at both ends busy for a while, and giving up too early costs more
    :param probe_step: relative size of a probe's increase
    :param slower_ratio: throughput below this ratio of the usual one is a change, not noise
    :param faster_ratio: the same for faster
    :param handshake_round_trips: round trips until a connection sends: TCP and TLS handshakes
    :param slow_start_ratio: throughput that grows by more than this ratio from sample to sample is still in slow
        start
    :param slow_start_doublings: no connection doubles its throughput more often: 12 doublings are 60 MB in flight
    :param distant_samples: a link is distant if the baseline still grows after this many samples
    :param distant_ratio: and if the last one grew by at least this ratio, so that it is safe to open more
        connections early
    :param few_rounds: a round is one part per connection. With more rounds left than this, an incomplete last
        round costs little
    :param forgiven_seconds: one failure per connection in this time is normal and forgiven
    :param forgiven_ratio: failures come in bursts; a burst of up to this ratio of the connections is forgiven
    :param reduction_ratio: failures reduce the connections by at most this ratio per second, because a short
        outage of the service must not reduce them to one
    """

    steps: tuple[int, ...] = (2, 6, 32)
    most: int = 32
    settle_seconds: float = 0.03
    measure_seconds: float = 0.03
    probe_seconds: float = 1.0
    samples_per_probe: int = 3
    keep_seconds: float = 60.0
    worthwhile_share: float = 0.35
    proportional_share: float = 0.85
    credible_share: float = 1.25
    worthwhile_probe_share: float = 0.5
    spare: float = 1.25
    samples_until_buffers_full: int = 1
    samples_of_gain: int = 2
    samples_until_settled: int = 8
    probe_step: float = 0.25
    slower_ratio: float = 0.7
    faster_ratio: float = 1.25
    handshake_round_trips: int = 3
    slow_start_ratio: float = 1.15
    slow_start_doublings: int = 12
    distant_samples: int = 3
    distant_ratio: float = 1.5
    few_rounds: int = 4
    forgiven_seconds: float = 10.0
    forgiven_ratio: float = 0.1
    reduction_ratio: float = 0.25


class State(Enum):
    """What the controller is doing; numbered as in the module's description."""

    BASELINE = 1
    GROWING = 2
    STEADY = 3
    PROBING_MORE = 4
    PROBING_FEWER = 5


class Sample(NamedTuple):
    """Throughput measured with a number of connections."""

    connections: int
    bytes_per_second: float


_ADAPTING: Final = (State.BASELINE, State.GROWING)


class ConcurrencyController:
    """Decides the number of connections for one link. Call :meth:`step` often; it returns the number to use.

    :ivar connections: the number to use now
    """

    def __init__(self, policy: ConcurrencyPolicy) -> None:
        self.connections: int = min(policy.steps[0], policy.most)
        self._policy = policy
        self._most = policy.most
        self._state = State.BASELINE
        # The sample with which the current number is compared. None in BASELINE and STEADY.
        self._reference: Sample | None = None
        # The usual throughput in the steady state.
        self._usual: Sample | None = None
        self._is_reduced_by_failures = False
        self._settled_at = -math.inf
        self._failures = _Failures(policy)
        self._measured_connections = self.connections
        self._changed_at: float | None = None
        self._sample_start: tuple[float, float] | None = None  # time, bytes moved
        self._rates: list[float] = []  # bytes per second, of the current number of connections
        # While the next connections are opened early: the number of connections that is still being measured.
        self._early_baseline: int | None = None

    @property
    def state(self) -> State:
        """What the controller is doing."""
        return self._state

    @property
    def is_growing(self) -> bool:
        """Whether the number of connections is still being established, so that :meth:`step` is urgent."""
        return self._state in _ADAPTING

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
        """Take a measurement; return the number of connections to use.

        :param moved_bytes: bytes that the service's host has acknowledged since the upload began
        :param busy: connections in use. After a reduction there are more of them for a while, and samples belong
            to the number that is in use
        :param rtt_seconds: the link's round-trip time; new connections need some of these to reach their speed
        :param parts_left: parts not yet acknowledged, those in flight included; 0 if unknown
        :param most: connections that could be used at this moment; None for no limit
        """
        policy = self._policy
        self._most = policy.most if most is None else min(max(1, most), policy.most)
        if self._changed_at is None:
            self._changed_at = now
        is_same = busy == self._measured_connections or (
            self._early_baseline is not None and busy == self.connections
        )
        self._measured_connections = busy
        if busy < self.connections or not is_same:
            self._restart(now)
        elif self._sample_start is None:
            settle_seconds = max(policy.settle_seconds, policy.handshake_round_trips * rtt_seconds)
            if now - self._changed_at >= settle_seconds:
                self._sample_start = now, moved_bytes
        elif now - self._sample_start[0] >= self._sample_seconds(rtt_seconds):
            began_at, began_bytes = self._sample_start
            self._rates.append((moved_bytes - began_bytes) / (now - began_at))
            self._sample_start = now, moved_bytes
            # On a link with a very short round trip, slow start is over by now.
            may_be_in_slow_start = rtt_seconds > policy.settle_seconds / 10
            self._judge(now, parts_left, may_be_in_slow_start=may_be_in_slow_start)
        return self.connections

    def begin(self, now: float) -> None:
        """An upload begins after a time without any.

        The number that was established is used again, unless it is old or a consequence of failures: a short
        upload has no time to correct it by probing.
        """
        self._restart(now)
        is_old = now - self._settled_at > self._policy.keep_seconds
        if not self.is_growing and (is_old or self._is_reduced_by_failures):
            self._is_reduced_by_failures, self._usual = False, None
            self._use(now, self._policy.steps[0], State.BASELINE)

    def connection_failed(self, now: float) -> None:
        """Count a failed connection; use one connection fewer if there are many failures."""
        fewest = self._failures.fewest_after(now, self.connections)
        if fewest is not None and self.connections > fewest:
            self._is_reduced_by_failures = True
            self._use(now, self.connections - 1, State.STEADY)

    def _sample_seconds(self, rtt_seconds: float) -> float:
        policy = self._policy
        return max(policy.measure_seconds, rtt_seconds) if self.is_growing else policy.probe_seconds

    def _restart(self, now: float) -> None:
        self._changed_at, self._sample_start = now, None
        self._rates.clear()
        self._early_baseline = None

    def _use(self, now: float, connections: int, state: State, *, reference: Sample | None = None) -> None:
        self.connections = max(1, min(connections, self._most))
        self._state, self._reference = state, reference
        self._restart(now)

    def _judge(self, now: float, parts_left: int, *, may_be_in_slow_start: bool) -> None:
        may_be_in_slow_start &= len(self._rates) < self._policy.slow_start_doublings
        match self._state:
            case State.BASELINE:
                self._judge_baseline(now, may_be_in_slow_start=may_be_in_slow_start)
            case State.GROWING:
                self._judge_growth(now, parts_left, may_be_in_slow_start=may_be_in_slow_start)
            case State.STEADY:
                self._judge_steady(now)
            # After a reduction, it takes a while until the number in use has decreased.
            case _ if self._measured_connections == self.connections:
                self._judge_probe(now)

    def _judge_baseline(self, now: float, *, may_be_in_slow_start: bool) -> None:
        policy, rates = self._policy, self._rates
        in_slow_start = may_be_in_slow_start and self._is_accelerating(rates[:-1], rates[-1:])
        if not in_slow_start and self._early_baseline is not None:
            # The next connections are open already: compare them with this baseline.
            self._state, self._reference = State.GROWING, Sample(self._early_baseline, rates[-1])
            rates.clear()
        elif not in_slow_start:
            self._grow(now, rates[-1], by_large_step=True)
        elif (
            self._early_baseline is None
            and len(rates) >= policy.distant_samples
            and rates[-1] > rates[-2] * policy.distant_ratio
        ):
            # New connections are slow at first, so the first ones can still be measured.
            self._early_baseline = self.connections
            self.connections = min(self._next_step(large=True), self._most)

    def _judge_growth(self, now: float, parts_left: int, *, may_be_in_slow_start: bool) -> None:
        policy, rates = self._policy, self._rates
        share = self._share(rates[-1])
        enough_samples = policy.samples_until_buffers_full + policy.samples_of_gain
        if share >= policy.proportional_share and self.connections < self._most:
            is_credible = share <= policy.credible_share
            if is_credible or len(rates) >= enough_samples:
                self._grow(now, rates[-1], by_large_step=is_credible)
            return
        # Compared over two samples: a pause between two parts can make one sample look as if growth had ended.
        in_slow_start = may_be_in_slow_start and self._is_accelerating(rates[:-2], rates[-2:])
        recent = sum(rates[-policy.samples_of_gain :]) / policy.samples_of_gain
        is_worthwhile = len(rates) >= enough_samples and self._share(recent) >= policy.worthwhile_share
        if is_worthwhile and not in_slow_start and self.connections < self._most:
            self._grow(now, recent)
        elif len(rates) >= policy.samples_until_settled and not in_slow_start:
            self._settle(now, parts_left)

    def _grow(self, now: float, rate: float, *, by_large_step: bool = False) -> None:
        reference = Sample(self.connections, rate)
        self._use(now, self._next_step(large=by_large_step), State.GROWING, reference=reference)

    def _settle(self, now: float, parts_left: int) -> None:
        assert self._reference is not None
        later = self._rates[self._policy.samples_until_settled // 2 :]
        gain = self._gain(sum(later) / len(later))
        justified = math.ceil(self._reference.connections * gain * self._policy.spare)
        justified = max(1, min(self.connections, justified))
        self._settled_at = now
        self._use(now, self._without_short_round(justified, parts_left), State.STEADY)

    def _without_short_round(self, connections: int, parts_left: int) -> int:
        """The number of connections, or a few more if that avoids an extra round for the last few parts."""
        rounds = -(-parts_left // connections)
        if not 1 < rounds <= self._policy.few_rounds:
            return connections
        needed = -(-parts_left // (rounds - 1))
        return needed if needed <= self.connections else connections

    def _judge_steady(self, now: float) -> None:
        policy = self._policy
        rate, is_sure = self._probe_rate()
        in_use = self._measured_connections
        here = Sample(in_use, rate)
        usual = self._usual
        usual_rate = usual.bytes_per_second if usual is not None and usual.connections == in_use else rate
        more = in_use + max(1, int(in_use * policy.probe_step))
        if is_sure:
            self._usual = here
        if self._rates[-1] > usual_rate * policy.faster_ratio:
            self._use(now, more, State.PROBING_MORE, reference=Sample(in_use, self._rates[-1]))
        elif is_sure and in_use == self.connections:
            if rate < usual_rate * policy.slower_ratio:
                fewer = math.ceil(self.connections * rate / (usual_rate or 1) * policy.spare)
                self._use(now, min(self.connections - 1, fewer), State.PROBING_FEWER, reference=here)
            else:
                self._use(now, more, State.PROBING_MORE, reference=here)

    def _judge_probe(self, now: float) -> None:
        assert self._reference is not None
        policy = self._policy
        rate, is_sure = self._probe_rate()
        share = self._share(rate)
        others = self._reference.connections
        has_more = self.connections > others
        worthwhile_share = policy.worthwhile_probe_share if is_sure else policy.proportional_share
        if has_more and share >= worthwhile_share:
            self._is_reduced_by_failures = False
            self._grow(now, rate)
        elif is_sure:
            self._settled_at = now
            if has_more:
                self._usual = self._reference
            fewer_suffice = self.connections < others and share < policy.worthwhile_probe_share
            self._use(now, self.connections if fewer_suffice else others, State.STEADY)

    def _probe_rate(self) -> tuple[float, bool]:
        """The mean of the recent samples, and whether there are enough of them."""
        recent = self._rates[-self._policy.samples_per_probe :]
        return sum(recent) / len(recent), len(recent) == self._policy.samples_per_probe

    def _gain(self, rate: float) -> float:
        """The ratio of a throughput to the reference's."""
        assert self._reference is not None
        return rate / self._reference.bytes_per_second if self._reference.bytes_per_second else 1.0

    def _share(self, rate: float) -> float:
        """The relative gain in throughput divided by the relative change in connections."""
        assert self._reference is not None
        change = self.connections / self._reference.connections - 1
        return (self._gain(rate) - 1) / change if change else 0.0

    def _next_step(self, *, large: bool) -> int:
        larger = [step for step in self._policy.steps if step > self.connections]
        return larger[0] if larger and large else self.connections * 2

    def _is_accelerating(self, before: Sequence[float], latest: Sequence[float]) -> bool:
        """Whether throughput still grows from sample to sample, as in TCP slow start."""
        return not before or max(latest) > max(before) * self._policy.slow_start_ratio


class _Failures:
    """Counts failed connections: some are forgiven, the others reduce the number of connections."""

    def __init__(self, policy: ConcurrencyPolicy) -> None:
        self._policy = policy
        self._last_at = -math.inf
        self._count = 0.0
        self._second_began_at, self._fewest = -math.inf, 1

    def fewest_after(self, now: float, connections: int) -> int | None:
        """Count a failure; return the minimum number of connections to keep, or None if it is forgiven."""
        policy = self._policy
        forgiven = (now - self._last_at) * connections / policy.forgiven_seconds
        self._last_at, self._count = now, max(0.0, self._count - forgiven) + 1
        if now - self._second_began_at >= 1:
            self._second_began_at = now
            self._fewest = connections - max(1, int(connections * policy.reduction_ratio))
        return max(1, self._fewest) if self._count > max(1, connections * policy.forgiven_ratio) else None
