"""The account's rate limit, learned from the answers and spent before a request is sent.

The service counts requests a minute for a whole account, separately for uploads, writes and reads, and tells
the state of the window with each answer (contract: ``X-RateLimit-*``). A part that is refused with 429 after
its body was sent has wasted the user's line, so a part waits *before* it is sent.

Two things make that harder than counting down. Answers to parts arrive out of order and late, so what one says
may be older than what was spent since: the lower of the two counts holds. And nothing is known about uploads
until the first of them has been answered, which is one whole part late: until then the limit of writes or
reads, which is known from creating or looking at the container, gives it (they stand in a fixed proportion).

The window is pure: time is passed in. :class:`RateLimiter` is the one place that waits.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

import anyio

from async_uploader._errors import ApiError
from async_uploader._limits import RATE_WINDOW_SECONDS, READS_A_MINUTE, UPLOADS_A_MINUTE, WRITES_A_MINUTE
from async_uploader._parsing import header_count, header_seconds, retry_after_seconds
from async_uploader._plan import Allowance

# The service rounds the time to its reset to whole seconds.
_ROUNDING_SECONDS: Final = 1.0
# Clocks differ a little; going exactly at the reset would be a race.
_MARGIN_SECONDS: Final = 0.05
# The line's speed is that of so many seconds, and known after so many.
_SPAN_SECONDS: Final = 20.0
_LEAST_SPAN_SECONDS: Final = 1.0
# A request has arrived by then, as far as anybody can tell.
_LATE_SECONDS: Final = 1.0


# Longer than any window of the service, and than most outages. An upload that waits longer looks as if it hung.
MAX_WAIT_SECONDS: Final = 3600.0


class RequestKind(StrEnum):
    """What the service counts apart. ``AUTH`` has no limit."""

    UPLOAD = "upload"
    WRITE = "write"
    READ = "read"
    AUTH = "auth"


# How many times more of a kind than uploads an account may make: at least so many in production and sandbox.
_TIMES_UPLOADS: Final = {
    RequestKind.WRITE: WRITES_A_MINUTE // UPLOADS_A_MINUTE,
    RequestKind.READ: READS_A_MINUTE // UPLOADS_A_MINUTE,
}


class Window:
    """What is known of one kind's present window."""

    def __init__(self) -> None:
        self.limit: int | None = None
        self.left = 0
        self.resets_at = -math.inf
        #: 0 while no answer told.
        self.length_seconds = 0.0
        self._last_take = 0.0
        # The service opens a window when its first request arrives: until it has told when this one closes,
        # ``resets_at`` is a guess, and too early by the way of that request.
        self._is_guess = False
        self._last_reset_at = -math.inf
        # Requests that went out just before a reset may arrive just after it, and count there.
        self._unanswered = 0
        self._late_takes: deque[float] = deque(maxlen=1000)

    def learn(
        self, now: float, *, limit: int, remaining: int, reset_seconds: float, is_guess: bool = False
    ) -> None:
        """What an answer says: of a new window if it resets clearly later than the one that was known.

        A little later is only rounding, and the time that the answer took. All that may be, with 0 seconds to
        the reset, says that no window is open: the next request opens one.

        :param is_guess: it is an answer to a request of another kind
        """
        is_open = remaining < limit or reset_seconds > 0
        resets_at = now + reset_seconds if is_open else now - _ROUNDING_SECONDS
        self._unanswered -= 0 if is_guess or not self._unanswered else 1
        if resets_at <= self._last_reset_at + _ROUNDING_SECONDS:
            return  # late news of the window before
        if self._is_guess:
            self.left, self.resets_at = min(self.left, remaining), resets_at
        elif self.limit is None or resets_at > self.resets_at + max(_ROUNDING_SECONDS, self.length_seconds / 2):
            self.left, self.resets_at = remaining - self._on_their_way(now), resets_at
        else:
            self.left, self.resets_at = min(self.left, remaining), min(self.resets_at, resets_at)
        self._is_guess = is_guess
        self.limit = limit
        self.length_seconds = max(self.length_seconds, reset_seconds)

    def close(self, now: float, *, seconds: float) -> None:
        """A request was refused: nothing more for so long, whatever was known."""
        self.limit = self.limit or 1
        self.left = 0
        self.resets_at = now + seconds
        self._is_guess = False

    def wait_seconds(self, now: float, *, demand: int) -> float:
        """How long the next request has to wait; 0 when it may go.

        What is left of a window is spread over its time, so that the line is used steadily and others of the
        same account get in between, unless all that is still wanted (``demand``) fits: then waiting would gain
        nothing.
        """
        if self.limit is None or now >= self.resets_at + _MARGIN_SECONDS:
            return 0.0
        if self.left <= 0:
            return self.resets_at + _MARGIN_SECONDS - now
        if demand <= self.left:
            return 0.0
        spacing_seconds = (self.resets_at - self._last_take) / (self.left + 1)
        return max(0.0, self._last_take + spacing_seconds - now)

    def take(self, now: float) -> None:
        """A request goes out."""
        if self.limit is not None and now >= self.resets_at + _MARGIN_SECONDS:
            # A new window; an answer will tell when it closes.
            self._last_reset_at, self._is_guess = self.resets_at, True
            self.left = max(1, self.limit - self._on_their_way(now))
            self.resets_at = now + (self.length_seconds or RATE_WINDOW_SECONDS)
        self.left -= 1
        self._last_take = now
        self._unanswered += 1
        self._late_takes.append(now)

    def _on_their_way(self, now: float) -> int:
        """How many requests may not have arrived yet."""
        while self._late_takes and self._late_takes[0] < now - _LATE_SECONDS:
            self._late_takes.popleft()
        return min(self._unanswered, len(self._late_takes))


class Speed:
    """How fast bytes have arrived of late."""

    def __init__(self) -> None:
        self._arrived: deque[tuple[float, int]] = deque()

    def add(self, now: float, count_bytes: int) -> None:
        """So many bytes have arrived."""
        self._arrived.append((now, count_bytes))
        self._forget(now)

    def bytes_a_second(self, now: float) -> float | None:
        """None while there is too little to tell by."""
        self._forget(now)
        span_seconds = now - self._arrived[0][0] if self._arrived else 0.0
        if span_seconds < _LEAST_SPAN_SECONDS:
            return None
        # The first one tells when the span began: its bytes came before.
        return (sum(count for _, count in self._arrived) - self._arrived[0][1]) / span_seconds

    def _forget(self, now: float) -> None:
        while self._arrived and self._arrived[0][0] < now - _SPAN_SECONDS:
            self._arrived.popleft()


class RateLimiter:
    """All windows of one credential, shared by everything that uses it."""

    def __init__(self) -> None:
        self._windows: defaultdict[RequestKind, Window] = defaultdict(Window)
        self._turns: defaultdict[RequestKind, anyio.Lock] = defaultdict(anyio.Lock)
        self._wanted: set[Callable[[], int]] = set()
        self._news = anyio.Event()
        self._speed = Speed()

    def allowance(self) -> Allowance | None:
        """What may still be uploaded, beside what waits already; None while nothing is known."""
        window, now = self._windows[RequestKind.UPLOAD], anyio.current_time()
        if window.limit is None:
            return None
        left = window.limit if now >= window.resets_at else window.left
        rate = self._speed.bytes_a_second(now)
        length_seconds = window.length_seconds or RATE_WINDOW_SECONDS
        return Allowance(
            remaining=max(0, left - self.demand()),
            limit=window.limit,
            window_bytes=None if rate is None else rate * length_seconds,
        )

    def stored(self, count_bytes: int) -> None:
        """Bytes of a part have arrived: so fast is the line."""
        self._speed.add(anyio.current_time(), count_bytes)

    @contextmanager
    def wanted(self, uploads: Callable[[], int]) -> Iterator[None]:
        """Ask ``uploads``, in the block, how many of them somebody is still going to make."""
        self._wanted.add(uploads)
        try:
            yield
        finally:
            self._wanted.discard(uploads)

    def demand(self) -> int:
        """How many uploads are still going to be made, by all, as far as that is known."""
        return sum(uploads() for uploads in self._wanted)

    def learn(self, kind: RequestKind, status: int, headers: Mapping[str, str]) -> None:
        """Take note of what an answer's headers say."""
        if kind is RequestKind.AUTH:
            return
        now = anyio.current_time()
        limit, remaining = (header_count(headers.get(f"X-RateLimit-{name}")) for name in ("Limit", "Remaining"))
        reset = header_seconds(headers.get("X-RateLimit-Retry-After"), date=headers.get("Date"))
        # A longer time is no time to a reset (a timestamp, say). If the window is really used up, a 429 follows.
        is_known = reset is not None and reset <= MAX_WAIT_SECONDS
        if limit is not None and remaining is not None and reset is not None and is_known:
            self._windows[kind].learn(now, limit=limit, remaining=remaining, reset_seconds=reset)
            uploads = self._windows[RequestKind.UPLOAD]
            if uploads.limit is None:
                known = max(1, limit // _TIMES_UPLOADS[kind])
                uploads.learn(now, limit=known, remaining=known, reset_seconds=reset, is_guess=True)
        if status == 429:
            wait = retry_after_seconds(status, headers)
            self._windows[kind].close(now, seconds=RATE_WINDOW_SECONDS if wait is None else wait)
        self._news.set()
        self._news = anyio.Event()

    async def turn(
        self,
        kind: RequestKind,
        *,
        on_wait: Callable[[float], None] = lambda _: None,
        max_wait_seconds: float = MAX_WAIT_SECONDS,
    ) -> None:
        """Wait until a request of this kind may go out. First come, first served.

        :param on_wait: told how many seconds it will be, as far as is known, if the window makes it wait
        :param max_wait_seconds: the longest wait
        :raises ApiError: the window resets later than that
        """
        window = self._windows[kind]
        demand = self.demand if kind is RequestKind.UPLOAD else lambda: 0
        async with self._turns[kind]:
            is_told = False
            while wait := window.wait_seconds(anyio.current_time(), demand=demand()):
                if wait > max_wait_seconds:
                    raise ApiError(status=429, title="Too many requests", retry_after_seconds=wait)
                if not is_told:
                    on_wait(wait)
                    is_told = True
                with anyio.move_on_after(wait):
                    await self._news.wait()
            window.take(anyio.current_time())
