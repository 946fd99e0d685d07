"""The current window of the account's rate limit, learned from response headers. Pure: time is passed in.

Problem
    The service counts requests per minute and returns the state of the window with every response (contract:
    ``X-RateLimit-*``). Counting down from the last response is not enough:

    - Responses to parts arrive late and out of order, so a response may be older than the requests sent since.
    - Nothing is known about uploads until the first response to a part.
    - When a window opens is known only from a response, and requests sent just before a reset may count after it.

Approach
    Count each request when it is sent. Use the lowest of the counts for the same window. A response belongs
    to a new window if its reset is clearly later than the known one. Until a response of a new window arrives, its
    reset is an estimate. Spread the remaining requests over the window if they do not cover the demand.

Rejected
    - Sending until the service refuses with 429: the body of each refused part is wasted bandwidth.
    - A fixed rate of 100 requests per minute: other programs may use the same account.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import Final

import msgspec

from async_uploader._limits import RATE_WINDOW_SECONDS

# The service rounds the time until its reset to whole seconds.
_ROUNDING_SECONDS: Final = 1.0
# A request sent exactly at the reset may still be counted in the old window, as clocks differ a little.
_MARGIN_SECONDS: Final = 0.05
# A request that was sent longer ago than this is assumed to have reached the service.
_ARRIVAL_SECONDS: Final = 1.0


class RateWindow(msgspec.Struct, kw_only=True):
    """The current window of one kind of requests, as far as known. Processes share it as MessagePack.

    :ivar default_length_seconds: length of a window until a response states it
    :ivar limit: requests allowed per window; None while unknown
    :ivar remaining: requests that may still be sent in this window
    :ivar resets_at: when the next window begins
    :ivar is_estimate: whether `resets_at` is an estimate. The service opens a window when its first request
        arrives. Until a response states when it resets, the estimate is too early by that request's travel time
    :ivar lowest_reported: the lowest count of remaining requests in the responses of this window
    :ivar unanswered: requests without a response. Those sent just before a reset may be counted after it
    """

    default_length_seconds: float = RATE_WINDOW_SECONDS
    limit: int | None = None
    remaining: int = 0
    resets_at: float = -math.inf
    is_estimate: bool = False
    known_length_seconds: float = 0.0
    last_request_at: float = 0.0
    last_reset_at: float = -math.inf
    lowest_reported: int = 0
    unanswered: int = 0
    recent_requests: list[float] = []

    @property
    def length_seconds(self) -> float:
        """Length of a window: the longest time until a reset that was seen, or the default."""
        return self.known_length_seconds or self.default_length_seconds

    def update(
        self, now: float, *, limit: int, remaining: int, reset_seconds: float, is_estimate: bool = False
    ) -> None:
        """Update the window from a response.

        The response belongs to a new window if its reset is clearly later than the known one. A slightly later one
        is due to rounding and to the response's travel time. If all requests remain and the reset is in 0 seconds,
        no window is open: the next request opens one.

        :param is_estimate: the values are derived from a response to another kind of request
        """
        is_open = remaining < limit or reset_seconds > 0
        resets_at = now + reset_seconds if is_open else now - _ROUNDING_SECONDS
        if not is_estimate and self.unanswered:
            self.unanswered -= 1
        if resets_at <= self.last_reset_at + _ROUNDING_SECONDS:
            return  # a late response of the previous window
        clearly_later = self.resets_at + max(_ROUNDING_SECONDS, self.known_length_seconds / 2)
        if self.is_estimate:
            self.remaining, self.resets_at = min(self.remaining, remaining), resets_at
            self.lowest_reported = remaining
        elif self.limit is None or resets_at > clearly_later:
            self.remaining, self.resets_at = remaining - self._in_transit(now), resets_at
            self.lowest_reported = remaining
        else:
            self.remaining, self.resets_at = min(self.remaining, remaining), min(self.resets_at, resets_at)
            self.lowest_reported = min(self.lowest_reported, remaining)
        if not is_estimate:
            # The lowest count includes all requests with a response, so only unanswered ones can be missing.
            self.remaining = max(self.remaining, self.lowest_reported - self.unanswered)
        self.is_estimate = is_estimate
        self.limit = limit
        self.known_length_seconds = max(self.known_length_seconds, reset_seconds)

    def exhaust(self, now: float, *, seconds: float) -> None:
        """Allow no request for the given time, because the service has refused one."""
        self.limit = self.limit or 1
        self.remaining = 0
        self.resets_at = now + seconds
        self.is_estimate = False

    def wait_seconds(self, now: float, *, demand: int, sharers: int = 1) -> float:
        """How long the next request has to wait; 0 if it may be sent now.

        If the remaining requests do not cover the demand, they are spread over the rest of the window. This keeps
        the connections busy and leaves gaps for other users of the account. Otherwise, waiting would gain nothing.

        :param demand: requests that are still to be sent
        :param sharers: number of processes that decide independently; this one takes its share of what remains
        """
        if self.limit is None or self._is_over(now):
            return 0.0
        remaining = self.remaining // sharers
        if remaining <= 0:
            return self.resets_at + _MARGIN_SECONDS - now
        if demand <= remaining:
            return 0.0
        spacing_seconds = (self.resets_at - self.last_request_at) / (remaining + 1)
        return max(0.0, self.last_request_at + spacing_seconds - now)

    def count_request(self, now: float) -> None:
        """Count a request that is sent now."""
        if self.limit is not None and self._is_over(now):
            # This request opens a new window; a response will state when it resets.
            self.last_reset_at, self.is_estimate = self.resets_at, True
            self.remaining = max(1, self.limit - self._in_transit(now))
            self.resets_at = now + self.length_seconds
        self.remaining -= 1
        self.last_request_at = now
        self.unanswered += 1
        self._forget_arrived(now)
        self.recent_requests.append(now)

    def _is_over(self, now: float) -> bool:
        return now >= self.resets_at + _MARGIN_SECONDS

    def _in_transit(self, now: float) -> int:
        """How many requests may not have reached the service yet."""
        self._forget_arrived(now)
        return min(self.unanswered, len(self.recent_requests))

    def _forget_arrived(self, now: float) -> None:
        oldest = bisect_left(self.recent_requests, now - _ARRIVAL_SECONDS)
        del self.recent_requests[:oldest]
