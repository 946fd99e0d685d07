"""The limits, durations and thresholds of adaptive concurrency, with the reason for each."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from async_uploader._limits import MIB


class ConcurrencyPolicy(Struct, frozen=True, kw_only=True):
    """Limits, durations and thresholds of a :class:`~.concurrency.ConcurrencyController`.

    "Share" is the relative gain in throughput divided by the relative increase in connections: 1 means growth in
    proportion.

    :param steps: numbers of connections to try while throughput grows in proportion; beyond them the number
        doubles
    :param careful_steps: the same for noisy or slow links. It takes two mistakes in a row to exceed 8
    :param few_connections: so many do no harm, so there is time to measure
    :param slow_bytes_per_second: below this throughput, a part takes long, and too many in flight last long
    :param fast_bytes_per_second: from this throughput on, a part takes less than a second, so large steps do
        little harm
    :param most: upper limit for the number of connections
    :param settle_seconds: a new connection gets this long before it is measured
    :param measure_seconds: length of one sample while growing
    :param noisy_seconds: a sample that is not clear lasts at least this long
    :param noisy_slow_seconds: the same for many connections on a slow link, where a mistake lasts long
    :param clear_deviation: a sample is clear if its bytes deviate from a constant rate by at most this ratio,
    :param clear_lag_ratio: and if measurements were late by at most this ratio of its length
    :param agreement_ratio: noisy samples confirm each other if the lowest is at least this ratio of the highest
    :param certain_seconds: a reference that was measured for this long is not low by accident
    :param probe_seconds: length of one sample in the steady state and while probing. Longer, because a change
        there is not urgent and noise matters more
    :param samples_per_probe: samples before a probe begins, and before it is judged
    :param remembered_seconds: a probe is compared with the best sample of this time
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
    :param samples_of_noisy_gain: noisy samples before an increase; ``samples_until_settled`` for a small one
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
