"""Estimates throughput and remaining time from irregular progress. Pure: the time is passed in.

The throughput is an average of about 10 seconds. The remaining time comes from a longer average, because waits for
the rate limit come and go. The end that it predicts is followed slowly, so that the countdown does not jump.
"""

from __future__ import annotations

from math import exp
from typing import Final

_THROUGHPUT_SECONDS: Final = 10.0
# The forecast averages over a third of the elapsed time, within these limits.
_FORECAST_SECONDS: Final = (10.0, 120.0)
_FORECAST_SHARE: Final = 1 / 3
# Time constant with which the displayed end follows the forecast.
_SMOOTHING_SECONDS: Final = 4.0
# Any earlier value would be a guess.
_WARM_UP_SECONDS: Final = 1.5
# Longer forecasts are not displayed.
_MAX_REMAINING_SECONDS: Final = 100 * 3600.0


class _MovingAverage:
    """Exponential moving average of bytes per second."""

    def __init__(self) -> None:
        self._bytes = self._seconds = 0.0

    def add(self, count_bytes: int, seconds: float, *, over_seconds: float) -> None:
        decay = exp(-seconds / over_seconds)
        self._bytes = self._bytes * decay + count_bytes
        self._seconds = self._seconds * decay + seconds

    @property
    def bytes_per_second(self) -> float:
        return self._bytes / self._seconds if self._seconds else 0.0


class ProgressEstimator:
    """Throughput and remaining time of one upload, or of all together.

    :param now: seconds on any clock, the same as in :meth:`update`
    """

    def __init__(self, now: float) -> None:
        self._updated_at = now
        self._began_at: float | None = None
        self._transferred_bytes: int | None = None
        self._throughput = _MovingAverage()
        self._forecast = _MovingAverage()
        self._ends_at: float | None = None
        self._is_complete = False

    def update(self, now: float, transferred_bytes: int, *, remaining_bytes: int | None) -> None:
        """Add a sample.

        :param transferred_bytes: bytes transferred so far. It falls if a failed attempt is subtracted; these bytes
            still count for the throughput, because the network has transferred them
        :param remaining_bytes: bytes still to transfer; None if that is unknown
        """
        seconds, self._updated_at = now - self._updated_at, now
        self._is_complete = remaining_bytes == 0
        if self._began_at is None or self._transferred_bytes is None:
            # The time before the first byte does not count.
            self._began_at = now if transferred_bytes else None
            self._transferred_bytes = transferred_bytes
            return
        new_bytes = max(0, transferred_bytes - self._transferred_bytes)
        self._transferred_bytes = transferred_bytes
        shortest, longest = _FORECAST_SECONDS
        forecast_seconds = min(max(shortest, (now - self._began_at) * _FORECAST_SHARE), longest)
        self._throughput.add(new_bytes, seconds, over_seconds=_THROUGHPUT_SECONDS)
        self._forecast.add(new_bytes, seconds, over_seconds=forecast_seconds)
        self._ends_at = self._smoothed_end(now, seconds, remaining_bytes)

    def _smoothed_end(self, now: float, seconds: float, remaining_bytes: int | None) -> float | None:
        rate = self._forecast.bytes_per_second
        if remaining_bytes is None or self._began_at is None or self._is_warming_up:
            return None
        if remaining_bytes > rate * _MAX_REMAINING_SECONDS:
            return None
        end = now + (remaining_bytes / rate if remaining_bytes else 0.0)
        if self._ends_at is None:
            return end
        smoothing_seconds = min(_SMOOTHING_SECONDS, (now - self._began_at) * _FORECAST_SHARE)
        return self._ends_at + (end - self._ends_at) * (1 - exp(-seconds / smoothing_seconds))

    @property
    def _is_warming_up(self) -> bool:
        return self._began_at is None or self._updated_at - self._began_at < _WARM_UP_SECONDS

    @property
    def bytes_per_second(self) -> float | None:
        """Throughput of about the last 10 seconds; None during the first moments."""
        return None if self._is_warming_up else self._throughput.bytes_per_second

    @property
    def remaining_seconds(self) -> float | None:
        """Estimated time until the end; None if it cannot be estimated."""
        if self._ends_at is None:
            return None
        return max(0.0 if self._is_complete else 1.0, self._ends_at - self._updated_at)
