"""Progress without a terminal, as in the log of a CI run: one line at growing intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ._format import (
    format_amount,
    format_percent,
    format_rate,
    format_rate_limit,
    format_remaining,
    format_retries,
)
from ._stops import running_seconds

if TYPE_CHECKING:
    from ._display import Display, FileProgress

INTERVAL_SECONDS: Final = 5.0
# The interval grows to a twentieth of the elapsed time, so that long uploads do not fill a log.
_ELAPSED_SHARE: Final = 1 / 20
_MAX_INTERVAL_SECONDS: Final = 30.0


class LogRenderer:
    """Prints one line for all sources together."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._began_at = running_seconds() - INTERVAL_SECONDS

    def render(self) -> float:
        """Print a line.

        :returns: seconds until the next one
        """
        now = running_seconds()
        line = self._line(now)
        if line:
            self._display.print(line)
        return min(max(INTERVAL_SECONDS, (now - self._began_at) * _ELAPSED_SHARE), _MAX_INTERVAL_SECONDS)

    def close(self) -> None:
        """Do nothing: printed lines stay."""

    def _line(self, now: float) -> str:
        files = self._display.active_files()
        if self._display.count == 1:
            return _file_line(files[0], now, self._display.rate_limited_until) if files else ""
        if self._display.is_idle:
            return ""
        snapshot, estimator = self._display.snapshot(), self._display.estimator
        estimator.update(now, self._display.delivered_bytes(), remaining_bytes=snapshot.remaining_bytes)
        retries_at = {request: at for file in files for request, at in list(file.retries_at.items())}
        fields = [
            f"{snapshot.count_done} of {self._display.count_text} files",
            f"{self._display.failed} failed" if self._display.failed else "",
            _workers(self._display),
            format_percent(snapshot.delivered_bytes, snapshot.total_bytes, is_complete=snapshot.is_complete),
            format_amount(snapshot.delivered_bytes, snapshot.total_bytes),
            format_rate(estimator.bytes_per_second),
            _remaining(estimator.remaining_seconds),
            format_retries(retries_at, now),
            format_rate_limit(self._display.rate_limited_until, now),
        ]
        return ", ".join(filter(None, fields))


def _workers(display: Display) -> str:
    if display.worker_count is None:
        return ""
    return f"{display.worker_count} workers with {display.parts_in_flight} parts in flight"


def _file_line(file: FileProgress, now: float, limited_until: float) -> str:
    snapshot, estimator = file.snapshot(), file.estimator
    estimator.update(now, file.delivered_bytes(), remaining_bytes=snapshot.remaining_bytes)
    fields = [
        format_percent(snapshot.delivered_bytes, snapshot.total_bytes, is_complete=snapshot.is_complete),
        format_amount(snapshot.delivered_bytes, snapshot.total_bytes),
        f"{snapshot.count_done} of {snapshot.count or '?'} parts",
        format_rate(estimator.bytes_per_second),
        _remaining(estimator.remaining_seconds),
        format_retries(file.retries_at, now),
        format_rate_limit(limited_until, now),
    ]
    return f"{file.name}: {', '.join(filter(None, fields))}"


def _remaining(seconds: float | None) -> str:
    return f"{format_remaining(seconds)} left" if seconds is not None else ""
