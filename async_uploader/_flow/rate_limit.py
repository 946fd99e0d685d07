"""The account's rate limit: every request waits here, and only here, before it is sent.

The service limits uploads, writes and reads separately, for the account as a whole (contract: ``X-RateLimit-*``).
A part that is refused with 429 after its body was sent has wasted bandwidth, so parts wait before they are sent.

Until the first part has been answered, the limit of uploads is derived from the limit of writes or reads, which is
known from creating the container or from its status: the limits stand in a fixed proportion.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final

import anyio

from async_uploader._errors import ApiError
from async_uploader._limits import RATE_WINDOW_SECONDS, READS_A_MINUTE, UPLOADS_A_MINUTE, WRITES_A_MINUTE
from async_uploader._parsing import header_count, header_seconds, retry_after_seconds
from async_uploader._plan import Allowance
from async_uploader.events import RequestKind

from .rate_window import RateWindow
from .throughput import RecentThroughput

# Longer than any window of the service, and than most outages. An upload that waits longer appears to hang.
MAX_WAIT_SECONDS: Final = 3600.0


# How many requests of a kind an account may send per upload; the same in production and sandbox.
_REQUESTS_PER_UPLOAD: Final = {
    RequestKind.WRITE: WRITES_A_MINUTE // UPLOADS_A_MINUTE,
    RequestKind.READ: READS_A_MINUTE // UPLOADS_A_MINUTE,
}


class RateLimiter:
    """The rate limit of one credential, shared by all its requests.

    :param window_seconds: length of a window until a response states it
    """

    def __init__(self, *, window_seconds: float = RATE_WINDOW_SECONDS) -> None:
        self._window_seconds = window_seconds
        self._windows: defaultdict[RequestKind, RateWindow] = defaultdict(partial(RateWindow, window_seconds))
        # The request that is next; the others queue behind it.
        self._next: defaultdict[RequestKind, anyio.Lock] = defaultdict(anyio.Lock)
        self._waiting_uploads: set[Callable[[], int]] = set()
        self._updated = anyio.Event()
        self._throughput = RecentThroughput()

    async def acquire(
        self,
        kind: RequestKind,
        *,
        on_wait: Callable[[float], None] = lambda _: None,
        max_wait_seconds: float = MAX_WAIT_SECONDS,
    ) -> None:
        """Wait until a request may be sent, in the order of the calls, and count it.

        :param on_wait: called once with the expected number of seconds, if the request has to wait
        :param max_wait_seconds: longest wait; default 1 h
        :raises ApiError: the rate limit resets later than that (429)
        """
        window = self._windows[kind]
        demand = self.demand if kind is RequestKind.UPLOAD else lambda: 0
        async with self._next[kind]:
            is_reported = False
            while wait_seconds := window.wait_seconds(anyio.current_time(), demand=demand()):
                if wait_seconds > max_wait_seconds:
                    raise ApiError(status=429, title="Too many requests", retry_after_seconds=wait_seconds)
                if not is_reported:
                    on_wait(wait_seconds)
                    is_reported = True
                with anyio.move_on_after(wait_seconds):
                    await self._updated.wait()
            window.count_request(anyio.current_time())

    def update(self, kind: RequestKind, status: int, headers: Mapping[str, str]) -> None:
        """Take over the state of the rate limit from a response."""
        if kind is RequestKind.AUTH:
            return
        now = anyio.current_time()
        limit, remaining = (header_count(headers.get(f"X-RateLimit-{name}")) for name in ("Limit", "Remaining"))
        reset_seconds = header_seconds(headers.get("X-RateLimit-Retry-After"), date=headers.get("Date"))
        # A longer time is not a time until a reset, but a timestamp, say. If the limit is really used up, a 429
        # follows.
        is_plausible = reset_seconds is not None and reset_seconds <= MAX_WAIT_SECONDS
        if limit is not None and remaining is not None and reset_seconds is not None and is_plausible:
            self._windows[kind].update(now, limit=limit, remaining=remaining, reset_seconds=reset_seconds)
            uploads = self._windows[RequestKind.UPLOAD]
            if uploads.limit is None:
                estimate = max(1, limit // _REQUESTS_PER_UPLOAD[kind])
                uploads.update(
                    now, limit=estimate, remaining=estimate, reset_seconds=reset_seconds, is_estimate=True
                )
        if status == 429:
            wait_seconds = retry_after_seconds(status, headers)
            if wait_seconds is None:
                wait_seconds = self._window_seconds
            self._windows[kind].exhaust(now, seconds=wait_seconds)
        self._updated.set()
        self._updated = anyio.Event()

    @contextmanager
    def counting_demand(self, waiting: Callable[[], int]) -> Iterator[None]:
        """Add the parts of an upload to the demand while the ``with`` block lasts.

        :param waiting: returns how many of its parts are still to be sent
        """
        self._waiting_uploads.add(waiting)
        try:
            yield
        finally:
            self._waiting_uploads.discard(waiting)

    def demand(self) -> int:
        """How many parts all uploads still have to send, as far as known."""
        return sum(waiting() for waiting in self._waiting_uploads)

    def part_stored(self, count_bytes: int) -> None:
        """A part of this size has been stored: its bytes count towards the throughput."""
        self._throughput.add(anyio.current_time(), count_bytes)

    def allowance(self) -> Allowance | None:
        """What the account may still upload beyond the current demand; None while unknown."""
        window, now = self._windows[RequestKind.UPLOAD], anyio.current_time()
        if window.limit is None:
            return None
        remaining = window.limit if now >= window.resets_at else window.remaining
        rate = self._throughput.bytes_per_second(now)
        return Allowance(
            remaining=max(0, remaining - self.demand()),
            limit=window.limit,
            window_bytes=None if rate is None else rate * window.length_seconds,
        )
