"""Throughput samples of one number of connections, and their evaluation. Pure: time is an argument.

Problem
    A busy machine makes throughput irregular: the uploader's timers are late, and the service waits for a
    processor. For a second or longer, a link can look several times slower than it is. Blocks and buffers make
    short samples look faster.

Approach
    A sample is *clear* if its bytes arrived at a constant rate, and if the measurements were on time. Clear
    samples are short and count at once. Other samples are longer, and several must confirm each other. Noise
    lowers throughput and cannot raise it above the link's rate for long, so the highest samples that agree are the
    estimate, not the mean.

Rejected
    - The mean and its standard error: pauses of the machine are rare and long, so samples of a second have errors
      of a factor of three.
    - Ignoring the time in which timers were late: a service that waits for a processor is not noticed.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from .concurrency_policy import ConcurrencyPolicy

# The number of samples that must agree. Two can agree by chance.
_CONFIRMING_SAMPLES: Final = 3


class Sample(NamedTuple):
    """Throughput measured with a number of connections.

    :ivar is_clear: whether it was measured without noise
    :ivar seconds: how long it was measured
    """

    connections: int
    bytes_per_second: float
    is_clear: bool = True
    seconds: float = 0.0


class Ceiling(NamedTuple):
    """The throughput without noise lies between these bounds.

    :ivar is_confirmed: whether enough samples agree
    """

    lower: float
    upper: float
    is_confirmed: bool


class Samples:
    """Measures throughput in samples.

    :ivar rates: bytes per second of each sample
    :ivar is_clear: whether the samples are clear. The first one may be noisy, because it follows a change
    """

    def __init__(self, policy: ConcurrencyPolicy) -> None:
        self._policy = policy
        self.restart()

    def restart(self) -> None:
        """Forget all samples; :meth:`begin` starts the next one."""
        self.rates: list[float] = []
        self.is_clear: bool = False
        self.seconds: float = 0.0
        self._points: list[tuple[float, float]] = []  # time, bytes moved
        self._lag_seconds = 0.0
        self._noisy_later = 0

    @property
    def has_begun(self) -> bool:
        """Whether a sample has begun."""
        return bool(self._points)

    def begin(self, now: float, moved_bytes: float) -> None:
        """Start a sample."""
        self._points = [(now, moved_bytes)]
        self._lag_seconds = 0.0

    def add(
        self,
        now: float,
        moved_bytes: float,
        *,
        min_seconds: float,
        noisy_seconds: float,
        rtt_seconds: float,
        lag_seconds: float,
    ) -> bool:
        """Take a measurement; returns whether it has completed a sample.

        :param min_seconds: length of a clear sample
        :param noisy_seconds: minimum length of any other sample
        :param rtt_seconds: acknowledgements arrive in bursts, one each round trip
        :param lag_seconds: how late the measurement is
        """
        policy = self._policy
        began_at, began_bytes = self._points[0]
        seconds = now - began_at
        self._lag_seconds += lag_seconds
        if now - self._points[-1][0] >= rtt_seconds:
            self._points.append((now, moved_bytes))
        if seconds < min_seconds:
            return False
        is_on_time = self._lag_seconds <= policy.clear_lag_ratio * seconds
        is_clear = is_on_time and self._deviation(now, moved_bytes) <= policy.clear_deviation
        if not is_clear and seconds < noisy_seconds:
            return False
        self._noisy_later += not is_clear and bool(self.rates)
        self.is_clear = is_clear and not self._noisy_later
        self.seconds += seconds
        self.rates.append((moved_bytes - began_bytes) / seconds)
        self.begin(now, moved_bytes)
        return True

    def ceiling(self) -> Ceiling:
        """The highest samples that agree. One outlier is ignored: new connections fill buffers."""
        highest = sorted(self.rates, reverse=True)
        last = _CONFIRMING_SAMPLES - 1
        for upper, lower in zip(highest[:2], highest[last:], strict=False):
            if 0 < upper * self._policy.agreement_ratio <= lower:
                return Ceiling(lower, upper, is_confirmed=True)
        return Ceiling(highest[last] if len(highest) > last else 0.0, highest[0], is_confirmed=False)

    def _deviation(self, now: float, moved_bytes: float) -> float:
        """How far the bytes of the sample deviate from a constant rate, in relation to all of them."""
        began_at, began_bytes = self._points[0]
        if moved_bytes <= began_bytes:
            return 1.0
        rate = (moved_bytes - began_bytes) / (now - began_at)
        deviations = [count - began_bytes - rate * (at - began_at) for at, count in self._points]
        return (max(deviations) - min(deviations)) / (moved_bytes - began_bytes)


class RecentBest:
    """The best of recent samples. A pause of the machine lowers a reference; its end is not the gain of a probe.

    :param seconds: how long a sample is remembered
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._remembered: deque[tuple[float, Sample]] = deque()

    def add(self, now: float, sample: Sample) -> float:
        """Remember a sample; return the highest rate with no more connections than it has."""
        remembered = self._remembered
        remembered.append((now, sample))
        while remembered[0][0] < now - self._seconds:
            remembered.popleft()
        return max(one.bytes_per_second for _, one in remembered if one.connections <= sample.connections)
