"""The windows of an account for all kinds of requests. Pure: time is an argument.

Until the first response to a part, the limit of uploads is derived from the limit of writes or reads, which is
known from creating the container or from its status: the ratios of the limits are fixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from async_uploader._limits import RATE_WINDOW_SECONDS, READS_A_MINUTE, UPLOADS_A_MINUTE, WRITES_A_MINUTE
from async_uploader._parsing import header_count, header_seconds, retry_after_seconds
from async_uploader.events import RequestKind

from .rate_window import RateWindow

# Longer than any window of the service and most outages. An upload that waits longer appears to hang.
MAX_WAIT_SECONDS: Final = 3600.0
#: The headers that :meth:`AccountWindows.read_response` reads.
RATE_LIMIT_HEADERS: Final = (
    "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Retry-After", "Retry-After", "Date"
)  # fmt: skip
# How many requests of a kind an account may send per upload; the same in production and sandbox.
_REQUESTS_PER_UPLOAD: Final = {
    RequestKind.WRITE: WRITES_A_MINUTE // UPLOADS_A_MINUTE,
    RequestKind.READ: READS_A_MINUTE // UPLOADS_A_MINUTE,
}


class AccountWindows:
    """The current window of each kind of requests.

    :param window_seconds: length of a window until a response states it
    :ivar by_kind: the windows that are known
    """

    def __init__(self, *, window_seconds: float = RATE_WINDOW_SECONDS) -> None:
        self._window_seconds = window_seconds
        self.by_kind: dict[str, RateWindow] = {}

    def of(self, kind: RequestKind) -> RateWindow:
        """The window of a kind."""
        try:
            return self.by_kind[kind]
        except KeyError:
            window = self.by_kind[kind] = RateWindow(default_length_seconds=self._window_seconds)
            return window

    def count_or_wait(self, kind: RequestKind, now: float, *, demand: int, sharers: int = 1) -> float:
        """Count a request if it may be sent now, and return 0; otherwise, return the seconds to wait.

        :param demand: requests of this kind that are still to be sent
        :param sharers: number of processes that decide independently; this one takes its share of the window
        """
        window = self.of(kind)
        wait_seconds = window.wait_seconds(now, demand=demand, sharers=sharers)
        if not wait_seconds:
            window.count_request(now)
        return wait_seconds

    def read_response(self, now: float, kind: RequestKind, status: int, headers: Mapping[str, str]) -> None:
        """Update the windows from a response that arrived at ``now``."""
        limit, remaining = (header_count(headers.get(f"X-RateLimit-{name}")) for name in ("Limit", "Remaining"))
        reset_seconds = header_seconds(headers.get("X-RateLimit-Retry-After"), date=headers.get("Date"))
        # A longer time is probably a timestamp instead of the time until the reset. If the limit is used up, a 429
        # follows.
        is_plausible = reset_seconds is not None and reset_seconds <= MAX_WAIT_SECONDS
        if limit is not None and remaining is not None and reset_seconds is not None and is_plausible:
            self.of(kind).update(now, limit=limit, remaining=remaining, reset_seconds=reset_seconds)
            uploads = self.of(RequestKind.UPLOAD)
            if uploads.limit is None:
                estimate = max(1, limit // _REQUESTS_PER_UPLOAD[kind])
                uploads.update(
                    now, limit=estimate, remaining=estimate, reset_seconds=reset_seconds, is_estimate=True
                )
        if status == 429:
            wait_seconds = retry_after_seconds(status, headers)
            if wait_seconds is None:
                wait_seconds = self._window_seconds
            self.of(kind).exhaust(now, seconds=wait_seconds)
