"""The account's request limits: fixed windows, one for each kind of request, told in every answer's headers."""

from __future__ import annotations

import math
from enum import Enum
from typing import Final

from async_uploader._limits import READS_A_MINUTE, UPLOADS_A_MINUTE, WRITES_A_MINUTE

# What the headers say when nothing is limited: clients that pace themselves by them must not slow down.
UNLIMITED: Final = 1_000_000


class Budget(Enum):
    """Whose limit a request counts against. The contract's ratio: 100 uploads, 200 writes, 500 reads."""

    UPLOADS = UPLOADS_A_MINUTE
    WRITES = WRITES_A_MINUTE
    READS = READS_A_MINUTE


class Window:
    """A fixed window: it opens with the first request after the last one has closed."""

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit = limit
        self._seconds = seconds
        self._closes_at = -math.inf
        self._used = 0

    def admit(self, now: float) -> bool:
        """Count a request; False if the window is full, in which case it does not count."""
        self._roll(now)
        if self._used >= self.limit:
            return False
        self._used += 1
        return True

    def usage(self, now: float) -> tuple[int, float | None]:
        """How many requests count at present, and when they will not any more. Looking opens no window."""
        return (self._used, self._closes_at) if self._used and now < self._closes_at else (0, None)

    def headers(self, now: float) -> dict[str, str]:
        self._roll(now)
        left = max(self._closes_at - now, 0.0) if self._used else 0.0
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.limit - self._used),
            "X-RateLimit-Retry-After": str(math.ceil(left)),
        }

    def _roll(self, now: float) -> None:
        if now >= self._closes_at:
            self._closes_at = now + self._seconds
            self._used = 0


class RateLimiter:
    def __init__(self, uploads: int | None, window_seconds: float) -> None:
        self._is_limited = uploads is not None
        self._windows = {
            budget: Window(
                UNLIMITED if uploads is None else uploads * budget.value // Budget.UPLOADS.value,
                window_seconds,
            )
            for budget in Budget
        }

    def admit(self, budget: Budget, now: float) -> bool:
        return self._windows[budget].admit(now) or not self._is_limited

    def headers(self, budget: Budget, now: float) -> dict[str, str]:
        return self._windows[budget].headers(now)

    def usage(self, budget: Budget, now: float) -> tuple[int, float | None]:
        return self._windows[budget].usage(now)

    def limit(self, budget: Budget) -> int | None:
        """The requests allowed in a window; None where nothing is limited."""
        return self._windows[budget].limit if self._is_limited else None
