"""Progress where there is no terminal, as in the log of a CI run: a line now and then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from . import _words

if TYPE_CHECKING:
    from ._display import Display, FileDisplay

INTERVAL_SECONDS: Final = 5.0
# The longer it takes, the fewer lines: one for each twentieth of what has passed, and at least two a minute.
_SHARE: Final = 1 / 20
_MAX_INTERVAL_SECONDS: Final = 30.0


class Lines:
    """Writes one line for everything, however many files there are."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._began = time.monotonic() - INTERVAL_SECONDS

    def paint(self) -> float:
        """Write it."""
        now = time.monotonic()
        line = self._line(now)
        if line:
            self._display.say(line)
        return min(max(INTERVAL_SECONDS, (now - self._began) * _SHARE), _MAX_INTERVAL_SECONDS)

    def close(self) -> None:
        """Nothing is left to be done."""

    def _line(self, now: float) -> str:
        files = self._display.files()
        if self._display.count == 1:
            return _line_of(files[0], now, self._display.limited_until) if files else ""
        standing, pace = self._display.standing(), self._display.pace
        pace.update(now, self._display.new_bytes(), left_bytes=standing.left_bytes)
        words = [
            f"{standing.done} of {standing.count} files",
            _words.percent(standing.acknowledged_bytes, standing.total_bytes),
            _words.amount(standing.acknowledged_bytes, standing.total_bytes),
            _words.rate(pace.bytes_per_second),
            _left(pace.left_seconds),
            _words.again({what: until for file in files for what, until in list(file.waits.items())}, now),
            _words.rate_limit(self._display.limited_until, now),
        ]
        return ", ".join(filter(None, words))


def _line_of(file: FileDisplay, now: float, limited_until: float) -> str:
    standing, pace = file.standing(), file.pace
    pace.update(now, file.new_bytes(), left_bytes=standing.left_bytes)
    words = [
        _words.percent(standing.acknowledged_bytes, standing.total_bytes),
        _words.amount(standing.acknowledged_bytes, standing.total_bytes),
        f"{standing.done} of {standing.count or '?'} parts",
        _words.rate(pace.bytes_per_second),
        _left(pace.left_seconds),
        _words.again(file.waits, now),
        _words.rate_limit(limited_until, now),
    ]
    return f"{file.name}: {', '.join(filter(None, words))}"


def _left(seconds: float | None) -> str:
    return f"{_words.left(seconds)} left" if seconds is not None else ""
