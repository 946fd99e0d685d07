"""Estimates throughput and remaining time from the bytes delivered so far. The time is passed in.

The event loop adds samples ten times per second, and the rendering thread reads at its own pace: a log line that
appears every five seconds is as exact as a bar.

The first second is excluded: buffers of the network swallow the first bytes at any speed, megabytes with many
connections. After that, the throughput is that of the last 10 seconds. The remaining time comes from a longer
span, because waits for the rate limit come and go; the end that it predicts is followed slowly, so that the
countdown does not jump.

If the process was stopped, its buffers were delivered meanwhile, and are filled again afterwards. So the estimator
starts over, and until it has a new throughput, the last one before the stop is shown.
"""

from __future__ import annotations

import threading
from collections import deque
from math import exp
from typing import Final

from ._stops import CLOCK

_BURST_SECONDS: Final = 1.0
# Any earlier value would be a guess.
_WARM_UP_SECONDS: Final = 2.0
_THROUGHPUT_SECONDS: Final = 10.0
# The forecast covers a third of the elapsed time, within these limits.
_FORECAST_SECONDS: Final = (10.0, 120.0)
_FORECAST_SHARE: Final = 1 / 3
# Samples are kept at this distance: 120 seconds take 480 of them.
_SAMPLE_SECONDS: Final = 0.25
# Time constant with which the displayed end follows the forecast.
_SMOOTHING_SECONDS: Final = 4.0
# Longer forecasts are not displayed.
_MAX_REMAINING_SECONDS: Final = 100 * 3600.0


class ProgressEstimator:
    """Throughput and remaining time of one upload, or of all together. Thread-safe.

    :param now: seconds on any clock, the same as in :meth:`update`
    """

    def __init__(self, now: float) -> None:
        self._lock = threading.RLock()
        self._sampled_at = self._updated_at = now
        self._began_at: float | None = None
        self._last_bytes = self._total_bytes = 0
        # Times, and the bytes delivered until then, also those of attempts that failed later.
        self._samples: deque[tuple[float, int]] = deque()
        self._ends_at: float | None = None
        self._stops = CLOCK.stops
        self._rate_before_stop: float | None = None

    def sample(self, now: float, delivered_bytes: int) -> None:
        """Add a sample.

        :param delivered_bytes: bytes delivered so far. It falls if a failed attempt is subtracted; these bytes
            still count for the throughput, because the network has delivered them
        """
        with self._lock:
            if CLOCK.may_have_stopped:
                return
            if self._stops != CLOCK.stops:
                self._start_over(now, delivered_bytes)
            new_bytes = delivered_bytes - self._last_bytes
            self._last_bytes, self._sampled_at = delivered_bytes, now
            if self._began_at is None and new_bytes > 0:
                # The time before the first byte does not count.
                self._began_at = now
                self._samples.append((now, 0))
            self._total_bytes += max(0, new_bytes)
            if self._samples and now - self._samples[-1][0] >= _SAMPLE_SECONDS:
                self._samples.append((now, self._total_bytes))
            while len(self._samples) > 2 and self._samples[1][0] < now - _FORECAST_SECONDS[1]:
                self._samples.popleft()

    def _start_over(self, now: float, delivered_bytes: int) -> None:
        self._stops, self._rate_before_stop = CLOCK.stops, self.bytes_per_second
        self._last_bytes, self._total_bytes, self._ends_at = delivered_bytes, 0, None
        self._samples.clear()
        if self._began_at is not None:
            self._began_at = now
            self._samples.append((now, 0))

    def update(self, now: float, delivered_bytes: int, *, remaining_bytes: int | None) -> None:
        """Add a sample, and update the estimates.

        :param remaining_bytes: bytes still to deliver; None if that is unknown
        """
        with self._lock:
            self.sample(now, delivered_bytes)
            seconds, self._updated_at = now - self._updated_at, now
            self._ends_at = None if remaining_bytes is None else self._smoothed_end(now, seconds, remaining_bytes)

    def _smoothed_end(self, now: float, seconds: float, remaining_bytes: int) -> float | None:
        rate = self._rate_before_stop
        if self._began_at is not None and not self._is_warming_up:
            shortest, longest = _FORECAST_SECONDS
            rate = self._rate(min(max(shortest, (now - self._began_at) * _FORECAST_SHARE), longest))
        if rate is None or remaining_bytes > rate * _MAX_REMAINING_SECONDS:
            return None
        end = now + (remaining_bytes / rate if remaining_bytes else 0.0)
        if self._ends_at is None or self._began_at is None or self._is_warming_up:
            return end
        smoothing_seconds = min(_SMOOTHING_SECONDS, (now - self._began_at) * _FORECAST_SHARE)
        return self._ends_at + (end - self._ends_at) * (1 - exp(-seconds / smoothing_seconds))

    def _rate(self, over_seconds: float) -> float:
        """Bytes per second of the last ``over_seconds``, without the first second of the upload."""
        assert self._began_at is not None
        start = max(self._sampled_at - over_seconds, self._began_at + _BURST_SECONDS)
        return max(0.0, self._total_bytes - self._bytes_at(start)) / (self._sampled_at - start)

    def _bytes_at(self, at: float) -> float:
        """Bytes delivered until a time, interpolated between samples."""
        before_at, before_bytes = self._samples[0]
        for sampled_at, count_bytes in (*self._samples, (self._sampled_at, self._total_bytes)):
            if sampled_at >= at:
                share = (at - before_at) / (sampled_at - before_at) if sampled_at > before_at else 0.0
                return before_bytes + (count_bytes - before_bytes) * share
            before_at, before_bytes = sampled_at, count_bytes
        return before_bytes

    @property
    def _is_warming_up(self) -> bool:
        return self._began_at is None or self._sampled_at - self._began_at < _WARM_UP_SECONDS

    @property
    def bytes_per_second(self) -> float | None:
        """Throughput of about the last 10 seconds; None during the first moments."""
        with self._lock:
            return self._rate_before_stop if self._is_warming_up else self._rate(_THROUGHPUT_SECONDS)

    @property
    def remaining_seconds(self) -> float | None:
        """Estimated time until the end; None if it cannot be estimated."""
        with self._lock:
            if self._ends_at is None:
                return None
            # Bytes that are delivered but not confirmed yet take some time, too.
            return max(1.0, self._ends_at - self._updated_at)
