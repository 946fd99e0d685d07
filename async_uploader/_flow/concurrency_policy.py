"""The limits, durations and thresholds of adaptive concurrency, with the reason for each."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from async_uploader._limits import MIB


class ConcurrencyPolicy(Struct, frozen=True, kw_only=True):
    """Limits, durations and thresholds of a :class:`~.concurrency.ConcurrencyController`.

    A *share* is the relative gain in throughput, divided by the relative increase in connections: a share of 1 is
    growth in proportion, a share of 0 is no growth. *Clear* and *noisy* samples are explained in :mod:`.samples`,
    probes and the steady state in :mod:`.concurrency`.

    Numbers of connections:

    :param steps: numbers of connections to try while throughput grows in proportion. After the last one, the
        number doubles
    :param careful_steps: the same on noisy or slow links. The steps are smaller: only two wrong measurements
        in a row lead to more than 8 connections
    :param few_connections: up to this number, connections do no harm, so the controller measures longer before it
        stops growing
    :param slow_bytes_per_second: below this throughput, a link is slow: a part takes long, so a wrong increase
        lasts long
    :param fast_bytes_per_second: from this throughput on, a link is fast: a part takes less than a second, so a
        wrong increase is soon corrected
    :param most: maximum number of connections

    Durations:

    :param settle_seconds: minimum time between a change of the connections and the next sample
    :param measure_seconds: length of a clear sample during growth
    :param noisy_seconds: minimum length of a noisy sample
    :param noisy_slow_seconds: the same for many connections on a slow link, where a wrong increase lasts long
    :param clear_deviation: a sample is clear if its bytes deviate from a constant rate by at most this ratio of
        all its bytes,
    :param clear_lag_ratio: and if its measurements were late by at most this ratio of its length
    :param agreement_ratio: noisy samples agree if the lowest is at least this ratio of the highest
    :param certain_seconds: a reference that was measured for at least this long is not too low by chance
    :param probe_seconds: length of a sample in the steady state and in probes. It is longer than during growth,
        because a change is less urgent and noise costs more
    :param samples_per_probe: number of samples before a probe begins, and before its result is judged
    :param remembered_seconds: a probe is compared with the best sample of this time
    :param keep_seconds: the next upload begins with the number of connections of the last one, if growth or the
        last probe ended at most this long ago

    Thresholds of growth:

    :param worthwhile_share: minimum share of an increase that is worth its connections. It is well above 0,
        because parts in flight cannot be taken back
    :param proportional_share: from this share on, growth counts as proportional; measurements are not exact
    :param credible_share: no link has a larger share. Beyond it, new connections fill buffers of the network, or
        the earlier throughput was low for another reason
    :param worthwhile_probe_share: minimum share of a probe that is worth its connections. It is higher than
        ``worthwhile_share``, because growth is no longer urgent
    :param spare: connections to use for each one that the throughput justifies, to bridge the pauses between parts
    :param samples_until_buffers_full: number of samples to ignore after an increase, because they may only show
        that buffers are filled
    :param samples_of_gain: number of clear samples that must confirm a gain that is not proportional
    :param samples_of_noisy_gain: number of noisy samples that must confirm a gain. A small step, whose gain is
        small compared to noise, needs ``samples_until_settled``
    :param samples_until_settled: number of samples without a gain before growth ends. It is higher than for a
        gain, because connections that open together keep both computers busy for a while, and because ending
        too early costs more than ending too late
    :param probe_step: relative increase of a probe
    :param slower_ratio: throughput below this ratio of the usual one is a change, not noise
    :param faster_ratio: throughput above this ratio of the usual one is a change, not noise

    TCP, and the last parts:

    :param handshake_round_trips: number of round trips before a new connection sends data: TCP and TLS handshakes
    :param slow_start_ratio: throughput that grows by more than this ratio from sample to sample may still be in
        slow start
    :param slow_start_doublings: maximum number of samples in slow start. After 12 doublings, 60 MB are in flight
    :param distant_samples: a link is distant if its first connections still accelerate after this many samples,
    :param distant_ratio: and if their throughput has just grown by at least this ratio
    :param few_rounds: a round is one part per connection. If more rounds are left than this number, an incomplete
        last round costs little

    Failures:

    :param forgiven_seconds: one failure per connection in this time is normal, and is forgiven
    :param forgiven_ratio: failures come in bursts. A burst of up to this ratio of the connections is forgiven
    :param reduction_ratio: failures reduce the connections by at most this ratio per second, so that a short
        outage of the service does not leave only one
    """

    steps: tuple[int, ...] = (2, 6, 32)
    careful_steps: tuple[int, ...] = (2, 6, 8, 12, 32)
    few_connections: int = 8
    slow_bytes_per_second: float = 16 * MIB
    fast_bytes_per_second: float = 80 * MIB
    most: int = 32
    settle_seconds: float = 0.03
    measure_seconds: float = 0.03
    noisy_seconds: float = 0.1
    noisy_slow_seconds: float = 0.2
    clear_deviation: float = 0.15
    clear_lag_ratio: float = 0.25
    agreement_ratio: float = 0.8
    certain_seconds: float = 0.5
    probe_seconds: float = 1.0
    samples_per_probe: int = 3
    remembered_seconds: float = 30.0
    keep_seconds: float = 60.0
    worthwhile_share: float = 0.35
    proportional_share: float = 0.85
    credible_share: float = 1.25
    worthwhile_probe_share: float = 0.5
    spare: float = 1.25
    samples_until_buffers_full: int = 1
    samples_of_gain: int = 2
    samples_of_noisy_gain: int = 4
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

    def next_step(self, connections: int, *, large: bool, is_careful: bool = False) -> int:
        """The number of connections to try after this one."""
        steps = self.careful_steps if is_careful else self.steps
        larger = [step for step in steps if step > connections]
        return larger[0] if larger and (large or is_careful) else connections * 2

    def noisy_sample_seconds(self, connections: int, *, is_slow: bool) -> float:
        """The minimum length of a sample that is not clear, of so many connections."""
        return self.noisy_slow_seconds if is_slow and connections > self.few_connections else self.noisy_seconds

    def is_even(self, rates: Sequence[float]) -> bool:
        """Whether samples agree as if they were measured without noise."""
        return min(rates) >= max(rates) * (1 - self.clear_deviation)
