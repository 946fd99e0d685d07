"""The account's rate limit: every request waits here, and only here, before it is sent.

The service limits uploads, writes and reads separately, for the account as a whole (contract: ``X-RateLimit-*``).
A part that is refused with 429 after its body was sent has wasted bandwidth, so parts wait before they are sent.

The processes of one machine share the windows in a file. For those of several machines, a :class:`PermitSource`
decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import anyio

from async_uploader._clock import current_time
from async_uploader._errors import ApiError
from async_uploader._limits import RATE_WINDOW_SECONDS
from async_uploader._plan import Allowance
from async_uploader.events import RequestKind

from .account_windows import MAX_WAIT_SECONDS, AccountWindows
from .permits import PERMIT_SECONDS, PermitSource
from .shared_windows import SharedWindows
from .throughput import RecentThroughput

# How often a waiting request reads the windows again: responses to other processes change them, too.
_POLL_SECONDS: Final = 0.25
# How soon other processes learn of a response, unless the next request of this one is earlier.
_READ_SECONDS: Final = 0.05
# Another process holds the lock for microseconds. If it is suspended meanwhile, the others go ahead without it.
_LOCK_RETRY_SECONDS: Final = 0.001
_LOCK_TIMEOUT_SECONDS: Final = 0.5
# If a permit source has not responded for this long, the process uses its share of the windows that it knows.
_SILENCE_SECONDS: Final = 10.0
# The demand of other machines is unknown, so requests are spread over the whole window.
_ENDLESS: Final = 1 << 30


class RateLimiter:
    """The rate limit of one credential, shared by all its requests, and by all processes of this machine.

    :param window_seconds: length of a window until a response states it
    """

    def __init__(self, *, window_seconds: float = RATE_WINDOW_SECONDS) -> None:
        self._windows = AccountWindows(window_seconds=window_seconds)
        self._shared = SharedWindows()
        self._permits: PermitSource | None = None
        self._silent_since: float | None = None
        self._sharers = 1
        # Responses that are not yet in the windows. The next request reads them while it holds the lock.
        self._unread: list[tuple[float, RequestKind, int, Mapping[str, str]]] = []
        self._reading: asyncio.TimerHandle | None = None
        # Held by the next request of each kind; the others queue for it.
        self._next = {kind: anyio.Lock(fast_acquire=True) for kind in RequestKind}
        self._waiting_uploads: set[Callable[[], int]] = set()
        # Set by the next response; None if no request waits for one.
        self._updated: anyio.Event | None = None
        self._throughput = RecentThroughput()

    async def share(self, path: Path) -> None:
        """Share the windows with all processes that use this file. Without it, each counts its own requests."""
        await anyio.to_thread.run_sync(self._shared.open, path)

    def use_permits(self, permits: PermitSource) -> None:
        """Ask for a permit before each request. The local windows count, too, in case the source is silent."""
        self._permits = permits

    def close(self) -> None:
        """Stop sharing."""
        self._read_now()
        self._shared.close()

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
        demand = self.demand if kind is RequestKind.UPLOAD else lambda: 0
        async with self._next[kind]:
            is_reported = False
            while wait_seconds := await self._count_or_wait(kind, demand()):
                if wait_seconds > max_wait_seconds:
                    raise ApiError(status=429, title="Too many requests", retry_after_seconds=wait_seconds)
                if not is_reported:
                    on_wait(wait_seconds)
                    is_reported = True
                self._updated = self._updated or anyio.Event()
                with anyio.move_on_after(min(wait_seconds, _POLL_SECONDS)):
                    await self._updated.wait()

    async def _count_or_wait(self, kind: RequestKind, demand: int) -> float:
        """Count a request if it may be sent now, and return 0; else return the seconds that it has to wait."""
        if self._permits is None:
            return await self._count_or_wait_here(kind, demand)
        asked_at = current_time()
        permit = await self._permits.ask(kind, demand)
        now = current_time()
        if permit is not None and now - asked_at <= PERMIT_SECONDS:
            self._silent_since, self._sharers = None, permit.sharers
            if not permit.wait_seconds:
                with self._current_windows(now):
                    self._windows.of(kind).count_request(now)
            return permit.wait_seconds
        self._silent_since = self._silent_since or now
        if now - self._silent_since < _SILENCE_SECONDS:
            return _POLL_SECONDS
        return await self._count_or_wait_here(kind, _ENDLESS, sharers=self._sharers)

    async def _count_or_wait_here(self, kind: RequestKind, demand: int, *, sharers: int = 1) -> float:
        patience = current_time() + _LOCK_TIMEOUT_SECONDS
        while True:
            now = current_time()
            with self._current_windows(now) as is_current:
                if is_current or now > patience:
                    return self._windows.count_or_wait(kind, now, demand=demand, sharers=sharers)
            await anyio.sleep(_LOCK_RETRY_SECONDS)

    @contextmanager
    def _current_windows(self, now: float) -> Iterator[bool]:
        """Lock the windows, update them from other processes and responses, and write them at the end.

        :returns: False if another process holds the lock; the windows may then be outdated
        """
        if not self._shared.is_open:
            self._read_responses()
            yield True
            return
        with self._shared.exclusive() as contents:
            if contents is not None:
                self._windows.by_kind.update(contents.read(now))
                self._read_responses()
            yield contents is not None
            if contents is not None:
                contents.write(self._windows.by_kind)

    def update(self, kind: RequestKind, status: int, headers: Mapping[str, str]) -> None:
        """Update the windows from a response."""
        if kind is RequestKind.AUTH:
            return
        loop = asyncio.get_running_loop()
        self._unread.append((loop.time(), kind, status, headers))
        if status == 429 or not self._shared.is_open:
            self._read_now()
        elif self._reading is None:
            self._reading = loop.call_later(_READ_SECONDS, self._read_now)
        if self._permits is not None:
            self._permits.report(kind, status, headers)
        if self._updated is not None:
            self._updated.set()
            self._updated = None

    def _read_now(self) -> None:
        """Read the responses that no request has read since."""
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        if self._unread:
            with self._current_windows(current_time()):
                pass

    def _read_responses(self) -> None:
        for response in self._unread:
            self._windows.read_response(*response)
        self._unread.clear()

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
        self._throughput.add(current_time(), count_bytes)

    def allowance(self) -> Allowance | None:
        """The account's remaining uploads beyond the current demand; None while unknown."""
        self._read_now()
        window, now = self._windows.of(RequestKind.UPLOAD), current_time()
        if window.limit is None:
            return None
        remaining = window.limit if now >= window.resets_at else window.remaining
        rate = self._throughput.bytes_per_second(now)
        return Allowance(
            remaining=max(0, remaining - self.demand()),
            limit=window.limit,
            window_bytes=None if rate is None else rate * window.length_seconds,
        )
