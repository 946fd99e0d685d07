"""Adaptive concurrency: how many parts to have in flight, decided from measured throughput. Pure.

The states are in one module, because each transition concerns two of them.

Problem
    A link is limited either per connection (a distant server: throughput grows in proportion to the connections)
    or as a whole (a home uplink: more connections gain nothing and slow down everybody else). Only
    measurements show which.

Approach
    Start with two connections. Multiply them while throughput grows in proportion. When it stops growing, return
    to the number that the throughput justifies. Then probe from time to time: a few more connections, or fewer if
    the throughput has dropped. Reduce the number if connections fail. On a busy machine, take smaller steps and
    demand more evidence (:mod:`.samples`).

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
       2e. Noise: increase by a careful step once several samples agree on a worthwhile gain. Up to 8 connections,
           measure longer before settling, because a gain may hide in the noise.
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
from typing import Final

from .concurrency_policy import ConcurrencyPolicy
from .failures import Failures
from .samples import RecentBest, Sample, Samples


class State(Enum):
    """What the controller is doing; numbered as in the module's description."""

    BASELINE = 1
    GROWING = 2
    STEADY = 3
    PROBING_MORE = 4
    PROBING_FEWER = 5


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
        # The result of the last increase or probe.
        self._was_gain_worthwhile: bool | None = None
        self._settled_at = -math.inf
        self._may_be_in_slow_start = False
        self._failures = Failures(policy)
        self._measured_connections = self.connections
        self._changed_at: float | None = None
        self._samples = Samples(policy)  # of the current number of connections
        self._recent_best = RecentBest(policy.remembered_seconds)  # in the steady state
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

    @property
    def are_more_worthwhile(self) -> bool | None:
        """Whether more connections than now would be faster; None if that was not measured, or not yet."""
        if self.is_growing or self._is_reduced_by_failures or self._was_gain_worthwhile is None:
            return None
        return self._was_gain_worthwhile and self.connections >= self._most

    def step(
        self,
        now: float,
        *,
        moved_bytes: float,
        busy: int,
        rtt_seconds: float = 0.0,
        parts_left: int = 0,
        most: int | None = None,
        lag_seconds: float = 0.0,
    ) -> int:
        """Take a measurement; return the number of connections to use.

        :param moved_bytes: bytes that the service's host has acknowledged since the upload began
        :param busy: connections in use. After a reduction there are more of them for a while, and samples belong
            to the number that is in use
        :param rtt_seconds: the link's round-trip time; new connections need some of these to reach their speed
        :param parts_left: parts not yet acknowledged, those in flight included; 0 if unknown
        :param most: connections that could be used at this moment; None for no limit
        :param lag_seconds: how late this call is; a busy machine makes measurements unreliable
        """
        policy = self._policy
        self._most = policy.most if most is None else min(max(1, most), policy.most)
        if self._changed_at is None:
            self._changed_at = now
        is_slow = self._reference is not None and self._is_slow(self._reference.bytes_per_second)
        is_same = busy == self._measured_connections or (
            self._early_baseline is not None and busy == self.connections
        )
        self._measured_connections = busy
        if busy < self.connections or not is_same:
            self._restart(now)
        elif not self._samples.has_begun:
            settle_seconds = max(policy.settle_seconds, policy.handshake_round_trips * rtt_seconds)
            if now - self._changed_at >= settle_seconds:
                self._samples.begin(now, moved_bytes)
        elif self._samples.add(
            now,
            moved_bytes,
            min_seconds=self._sample_seconds(rtt_seconds),
            noisy_seconds=policy.noisy_sample_seconds(self.connections, is_slow=is_slow),
            rtt_seconds=rtt_seconds,
            lag_seconds=lag_seconds,
        ):
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
            self._is_reduced_by_failures, self._usual, self._was_gain_worthwhile = False, None, None
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
        self._changed_at = now
        self._samples.restart()
        self._early_baseline = None

    def _use(self, now: float, connections: int, state: State, *, reference: Sample | None = None) -> None:
        self.connections = max(1, min(connections, self._most))
        self._state, self._reference = state, reference
        self._restart(now)

    def _judge(self, now: float, parts_left: int, *, may_be_in_slow_start: bool) -> None:
        may_be_in_slow_start &= len(self._samples.rates) < self._policy.slow_start_doublings
        self._may_be_in_slow_start = may_be_in_slow_start
        match self._state:
            case State.BASELINE:
                self._judge_baseline(now)
            case State.GROWING:
                self._judge_growth(now, parts_left)
            case State.STEADY:
                self._judge_steady(now)
            # After a reduction, it takes a while until the number in use has decreased.
            case _ if self._measured_connections == self.connections:
                self._judge_probe(now)

    def _judge_baseline(self, now: float) -> None:
        policy, rates = self._policy, self._samples.rates
        in_slow_start = self._may_be_in_slow_start and self._is_accelerating(rates[:-1], rates[-1:])
        if not in_slow_start and self._early_baseline is not None:
            # The next connections are open already: compare them with this baseline.
            self._state, self._reference = State.GROWING, self._latest(self._early_baseline)
            self._samples.restart()
        elif not in_slow_start and self._is_baseline_known():
            self._grow(now, self._latest(self.connections), by_large_step=self._samples.is_clear)
        elif (
            in_slow_start
            and self._early_baseline is None
            and len(rates) >= policy.distant_samples
            and rates[-1] > rates[-2] * policy.distant_ratio
        ):
            # New connections are slow at first, so the first ones can still be measured.
            self._early_baseline = self.connections
            self.connections = min(policy.next_step(self.connections, large=True), self._most)

    def _is_baseline_known(self) -> bool:
        samples = self._samples
        if samples.is_clear:
            return True
        ceiling = samples.ceiling()
        is_enough = ceiling.is_confirmed and len(samples.rates) >= self._policy.samples_of_noisy_gain
        return ceiling.upper > 0 and (is_enough or len(samples.rates) >= self._policy.samples_until_settled)

    def _latest(self, connections: int) -> Sample:
        """The throughput of the current connections: the last sample, or what noisy samples agree on."""
        samples = self._samples
        if samples.is_clear:
            rate = samples.rates[-1]
        else:
            ceiling = samples.ceiling()
            # The baseline is the upper bound: the first step is large, so its gain is large compared to noise.
            rate = ceiling.upper if self._state is State.BASELINE else ceiling.lower
        return Sample(connections, rate, samples.is_clear, samples.seconds)

    def _judge_growth(self, now: float, parts_left: int) -> None:
        assert self._reference is not None
        rates = self._samples.rates
        can_grow = self.connections < self._most
        is_clear = self._samples.is_clear and self._reference.is_clear
        # On a slow link, new connections fill buffers for the time of a sample.
        is_filling = self._is_slow(rates[-1]) and len(rates) <= self._policy.samples_until_buffers_full
        if can_grow and is_clear and not is_filling and self._share(rates[-1]) >= self._policy.proportional_share:
            self._judge_proportional_growth(now)
            return
        # Compared over three samples: pauses between parts can make one or two look as if growth had ended.
        in_slow_start = self._may_be_in_slow_start and self._is_accelerating(rates[:-3], rates[-3:])
        if in_slow_start:
            return
        if can_grow and self._is_worthwhile(is_clear=is_clear):
            self._grow(now, self._latest(self.connections))
        elif self._is_settled(is_clear=is_clear):
            self._settle(now, parts_left)

    def _judge_proportional_growth(self, now: float) -> None:
        assert self._reference is not None
        policy, rates = self._policy, self._samples.rates
        latest = self._latest(self.connections)
        if self._share(rates[-1]) <= policy.credible_share:
            self._grow(now, latest, by_large_step=True)
        elif len(rates) >= policy.samples_until_buffers_full + policy.samples_of_gain:
            # Unless it was measured for long, the reference may be low by accident.
            is_certain = self._reference.seconds >= policy.certain_seconds or self._may_be_in_slow_start
            self._grow(now, latest._replace(is_clear=is_certain))

    def _is_worthwhile(self, *, is_clear: bool) -> bool:
        """Whether there are enough samples, and the gain exceeds the noise."""
        assert self._reference is not None
        policy, rates = self._policy, self._samples.rates
        if is_clear:
            recent = sum(rates[-policy.samples_of_gain :]) / policy.samples_of_gain
            needed, share = policy.samples_until_buffers_full + policy.samples_of_gain, policy.worthwhile_share
        else:
            recent = self._samples.ceiling().lower
            needed, share = policy.samples_of_noisy_gain, policy.worthwhile_share
            if self.connections < 2 * self._reference.connections:
                # The gain of a small step is small compared to noise.
                needed, share = policy.samples_until_settled, policy.worthwhile_probe_share
        return len(rates) >= needed and self._share(recent) >= share

    def _is_settled(self, *, is_clear: bool) -> bool:
        """Whether there are enough samples to give up growth. If a gain may hide in the noise, twice as many."""
        policy, samples = self._policy, self._samples
        may_gain = (
            not is_clear
            and self.connections <= policy.few_connections
            and self._share(samples.ceiling().upper) >= policy.worthwhile_share
        )
        return len(samples.rates) >= policy.samples_until_settled * (2 if may_gain else 1)

    def _grow(self, now: float, reference: Sample, *, by_large_step: bool = False) -> None:
        # Parts in flight cannot be taken back. On a slow link they last long, on a fast one they end soon.
        is_fast = reference.bytes_per_second >= self._policy.fast_bytes_per_second
        is_careful = self._is_slow(reference.bytes_per_second) or not (reference.is_clear or is_fast)
        large = by_large_step or (is_fast and not reference.is_clear)
        connections = self._policy.next_step(self.connections, large=large, is_careful=is_careful)
        self._use(now, connections, State.GROWING, reference=reference)

    def _is_slow(self, bytes_per_second: float) -> bool:
        return bytes_per_second < self._policy.slow_bytes_per_second and not self._may_be_in_slow_start

    def _settle(self, now: float, parts_left: int) -> None:
        assert self._reference is not None
        samples = self._samples
        later = samples.rates[self._policy.samples_until_settled // 2 :]
        is_clear = samples.is_clear and self._reference.is_clear
        gain = self._gain(sum(later) / len(later) if is_clear else samples.ceiling().lower)
        if self.connections > self._reference.connections:
            share = (gain - 1) / (self.connections / self._reference.connections - 1)
            self._was_gain_worthwhile = share >= self._policy.worthwhile_share
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
        policy, rates = self._policy, self._samples.rates
        recent = rates[-policy.samples_per_probe :]
        is_sure = len(recent) == policy.samples_per_probe
        in_use = self._measured_connections
        here = Sample(in_use, max(recent), is_clear=policy.is_even(recent))
        usual_rate = sum(recent) / len(recent)
        if self._usual is not None and self._usual.connections == in_use:
            usual_rate = self._usual.bytes_per_second
        more = in_use + max(1, int(in_use * policy.probe_step))
        is_faster = rates[-1] > usual_rate * policy.faster_ratio
        if is_sure or is_faster:
            self._usual = here
        best = self._recent_best.add(now, Sample(in_use, rates[-1]))
        if is_faster:
            self._use(now, more, State.PROBING_MORE, reference=here._replace(bytes_per_second=rates[-1]))
        elif is_sure and in_use == self.connections:
            if here.bytes_per_second < usual_rate * policy.slower_ratio:
                fewer = math.ceil(self.connections * here.bytes_per_second / (usual_rate or 1) * policy.spare)
                self._use(now, min(self.connections - 1, fewer), State.PROBING_FEWER, reference=here)
            else:
                self._use(now, more, State.PROBING_MORE, reference=here._replace(bytes_per_second=best))

    def _judge_probe(self, now: float) -> None:
        assert self._reference is not None
        policy, samples = self._policy, self._samples
        recent = sorted(samples.rates[-policy.samples_per_probe :])
        is_sure = len(recent) == policy.samples_per_probe
        # Compared with the best sample, or for fewer connections, as likely too low as too high.
        rate = recent[-1] if self.connections > self._reference.connections else recent[len(recent) // 2]
        share = self._share(rate)
        others = self._reference.connections
        if self.connections > others and self._is_probe_worthwhile(share, is_sure=is_sure):
            self._is_reduced_by_failures = False
            is_clear = self._reference.is_clear and policy.is_even(recent)
            self._grow(now, Sample(self.connections, rate, is_clear, samples.seconds))
        elif is_sure:
            self._settled_at = now
            fewer_suffice = self.connections < others and share < policy.worthwhile_probe_share
            if self.connections != others:
                self._was_gain_worthwhile = self.connections < others and not fewer_suffice
            self._use(now, self.connections if fewer_suffice else others, State.STEADY)

    def _is_probe_worthwhile(self, share: float, *, is_sure: bool) -> bool:
        policy = self._policy
        if is_sure:
            return share >= policy.worthwhile_probe_share
        return self._samples.is_clear and policy.proportional_share <= share <= policy.credible_share

    def _gain(self, rate: float) -> float:
        """The ratio of a throughput to the reference's."""
        assert self._reference is not None
        return rate / self._reference.bytes_per_second if self._reference.bytes_per_second else 1.0

    def _share(self, rate: float) -> float:
        """The relative gain in throughput divided by the relative change in connections."""
        assert self._reference is not None
        change = self.connections / self._reference.connections - 1
        return (self._gain(rate) - 1) / change if change else 0.0

    def _is_accelerating(self, before: Sequence[float], latest: Sequence[float]) -> bool:
        """Whether throughput still grows from sample to sample, as in TCP slow start."""
        return not before or max(latest) > max(before) * self._policy.slow_start_ratio
