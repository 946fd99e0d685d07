"""The emulator's wall clock, which tests can move."""

from __future__ import annotations

import time


class Clock:
    """Seconds since the epoch, plus the time by which the clock was advanced."""

    def __init__(self) -> None:
        self._advanced_s = 0.0

    def now(self) -> float:
        return time.time() + self._advanced_s

    def advance(self, seconds: float) -> None:
        """Move the clock forwards.

        :raises ValueError: the number is negative or not finite
        """
        if not 0 <= seconds < float("inf"):
            raise ValueError("The clock can only be moved forwards, by a finite number of seconds.")
        self._advanced_s += seconds

    def reset(self) -> None:
        """Return to the time of this machine."""
        self._advanced_s = 0.0
