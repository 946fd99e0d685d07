"""The account's rate limits: a fixed window for each kind of request, reported in the headers of every
response."""

from __future__ import annotations

import math
from enum import Enum
from typing import Final

from async_uploader._limits import READS_A_MINUTE, UPLOADS_A_MINUTE, WRITES_A_MINUTE

# The limit in the headers when there is none: clients that adapt to the headers must not slow down.
UNLIMITED: Final = 1_000_000


class Budget(Enum):
    """The limit that a request counts towards. The values are the contract's: 100 uploads, 200 writes, 500
    reads."""

    UPLOADS = UPLOADS_A_MINUTE
    WRITES = WRITES_A_MINUTE
    READS = READS_A_MINUTE


class Window:
    """A fixed window, which opens with the first request after the previous window has closed."""

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit = limit
        self._seconds = seconds
        self._closes_at = -math.inf
        self._used = 0

    def admit(self, now: float) -> bool:
        """Count a request. If the window is full, return False and do not count it."""
        self._roll(now)
        if self._used >= self.limit:
            return False
        self._used += 1
        return True

    def usage(self, now: float) -> tuple[int, float | None]:
        """The number of requests in the window, and when it closes (None without one). Does not open a window."""
        return (self._used, self._closes_at) if self._used and now < self._closes_at else (0, None)

    def headers(self, now: float) -> dict[str, str]:
        self._roll(now)
        remaining_s = max(self._closes_at - now, 0.0) if self._used else 0.0
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.limit - self._used),
            "X-RateLimit-Retry-After": str(math.ceil(remaining_s)),
        }

    def _roll(self, now: float) -> None:
        if now >= self._closes_at:
            self._closes_at = now + self._seconds
            self._used = 0


class RateLimiter:
    """The windows of the account.

    :param uploads: uploads allowed in a window; writes and reads follow in the contract's ratio. None limits
        nothing
    """

    def __init__(self, uploads: int | None, window_seconds: float) -> None:
        self._uploads = uploads
        self._window_seconds = window_seconds
        self.reset()

    def reset(self) -> None:
        """Close all windows."""
        self._windows = {
            budget: Window(
                UNLIMITED if self._uploads is None else self._uploads * budget.value // Budget.UPLOADS.value,
                self._window_seconds,
            )
            for budget in Budget
        }

    def admit(self, budget: Budget, now: float) -> bool:
        """Count a request; False if the limit is reached."""
        return self._windows[budget].admit(now) or self._uploads is None

    def headers(self, budget: Budget, now: float) -> dict[str, str]:
        return self._windows[budget].headers(now)

    def usage(self, budget: Budget, now: float) -> tuple[int, float | None]:
        return self._windows[budget].usage(now)

    def limit(self, budget: Budget) -> int | None:
        """The requests allowed in a window; None without a limit."""
        return None if self._uploads is None else self._windows[budget].limit
