"""How fast it goes and how long it will take: steady figures from unsteady ones. Pure; time is passed in."""

from __future__ import annotations

from math import exp
from typing import Final

# What is shown as the rate is an average of about the last ten seconds.
_RATE_SECONDS: Final = 10.0
# A forecast looks back further the longer an upload has been running: waits for the rate limit come and go.
_FORECAST_SECONDS: Final = (10.0, 120.0)
_FORECAST_SHARE: Final = 1 / 3
# How quickly the shown end follows the forecast, once it is worth something; in between it just counts down.
_FOLLOW_SECONDS: Final = 4.0
# Before that, any figure would be a guess.
_TOO_EARLY_SECONDS: Final = 1.5
_LONGEST_SECONDS: Final = 100 * 3600.0


class _Average:
    """Bytes a second, the present weighing most."""

    def __init__(self) -> None:
        self._bytes = self._seconds = 0.0

    def add(self, count_bytes: int, seconds: float, *, over_seconds: float) -> None:
        fading = exp(-seconds / over_seconds)
        self._bytes = self._bytes * fading + count_bytes
        self._seconds = self._seconds * fading + seconds

    @property
    def per_second(self) -> float:
        return self._bytes / self._seconds if self._seconds else 0.0


class Pace:
    """The pace of one upload, or of all together.

    :param now: seconds on any clock, as in :meth:`update`
    """

    def __init__(self, now: float) -> None:
        self._last = now
        self._began: float | None = None
        self._count: int | None = None
        self._rate = _Average()
        self._forecast = _Average()
        self._end: float | None = None
        self._is_unfinished = True

    def update(self, now: float, count_bytes: int, *, left_bytes: int | None) -> None:
        """Take note of a moment.

        :param count_bytes: how much has been moved. It falls when a failed attempt is taken back; what the line
            has carried, counts all the same
        :param left_bytes: how much is still to be moved; None where that is not known
        """
        seconds, self._last = now - self._last, now
        self._is_unfinished = left_bytes != 0
        if self._began is None or self._count is None:
            # Waiting for the first byte is no part of the pace.
            self._began = now if count_bytes else None
            self._count = count_bytes
            return
        grown, self._count = max(0, count_bytes - self._count), count_bytes
        shortest, longest = _FORECAST_SECONDS
        look_back = min(max(shortest, (now - self._began) * _FORECAST_SHARE), longest)
        self._rate.add(grown, seconds, over_seconds=_RATE_SECONDS)
        self._forecast.add(grown, seconds, over_seconds=look_back)
        self._end = self._expected_end(now, seconds, left_bytes)

    def _expected_end(self, now: float, seconds: float, left_bytes: int | None) -> float | None:
        rate = self._forecast.per_second
        if left_bytes is None or self._began is None or self._is_early or left_bytes > rate * _LONGEST_SECONDS:
            return None
        end = now + (left_bytes / rate if left_bytes else 0.0)
        if self._end is None:
            return end
        follow_seconds = min(_FOLLOW_SECONDS, (now - self._began) * _FORECAST_SHARE)
        return self._end + (end - self._end) * (1 - exp(-seconds / follow_seconds))

    @property
    def _is_early(self) -> bool:
        return self._began is None or self._last - self._began < _TOO_EARLY_SECONDS

    @property
    def bytes_per_second(self) -> float | None:
        """About the last ten seconds' average; None at the very beginning."""
        return None if self._is_early else self._rate.per_second

    @property
    def left_seconds(self) -> float | None:
        """How long it will still take; None where nobody can tell."""
        return None if self._end is None else max(1.0 if self._is_unfinished else 0.0, self._end - self._last)
