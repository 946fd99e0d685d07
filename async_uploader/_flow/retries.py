"""Retries: which failed requests are sent again, after which backoff, and when to give up.

An attempt counts only while nothing progresses. If the upload has progressed since the last failure, counting
starts again, so a long upload over an unreliable network is not ended by the sum of its failures.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Final, Self, TypeVar

import anyio
from msgspec import Struct

from async_uploader._dispatcher import EventDispatcher
from async_uploader._errors import ApiError, SlowConnectionError, TransportError, UploaderError, is_transient
from async_uploader._limits import RATE_WINDOW_SECONDS
from async_uploader._options import DEFAULT_MAX_ATTEMPTS, MAX_ATTEMPTS
from async_uploader._units import format_duration
from async_uploader.events import Operation, RateLimitWait, RequestKind, RetryScheduled

from .account_windows import MAX_WAIT_SECONDS
from .rate_limit import RateLimiter

if TYPE_CHECKING:
    import tenacity

log: Final = logging.getLogger("async_uploader")

T = TypeVar("T")

# The service's rate limit resets every minute. A longer wait is unexpected, so it is logged.
_LONG_WAIT_SECONDS: Final = RATE_WINDOW_SECONDS + 1.0


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """Exponential backoff with full jitter: before retry n, a random time up to ``first_backoff * 2**(n-1)``.

    :param max_attempts: attempts of one request without progress in between; default 8
    :param first_backoff_seconds: upper limit of the first backoff
    :param max_backoff_seconds: upper limit of every backoff. If the service asks for a longer wait, that is used
    :param max_wait_seconds: longest wait that the service may ask for, with ``Retry-After`` or its rate limit;
        default 1 h. If it asks for more, the request fails immediately, and the error states the wait
    :param max_unreadable: attempts that may end in a 2xx whose body cannot be read. Such a body comes from a
        captive portal or a wrong base URL, so retries seldom help; default: no separate limit
    :param max_unreachable: attempts while nothing listens at the base URL, which has never responded; default 5,
        which take a few seconds
    """

    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    first_backoff_seconds: float = 0.5
    max_backoff_seconds: float = 30.0
    max_wait_seconds: float = MAX_WAIT_SECONDS
    max_unreadable: int = MAX_ATTEMPTS
    max_unreachable: int = 5

    def should_retry(self, error: BaseException, attempts: int) -> bool:
        """Whether to send a request again that has failed ``attempts`` times, the last time with ``error``."""
        limit = self.max_attempts
        if isinstance(error, TransportError) and error.unreadable:
            limit = min(limit, self.max_unreadable)
        if isinstance(error, TransportError) and error.unreachable:
            limit = min(limit, self.max_unreachable)
        return is_transient(error) and attempts < limit and not self.is_wait_too_long(error)

    def is_wait_too_long(self, error: BaseException) -> bool:
        """Whether the service asks for a longer wait than ``max_wait_seconds``."""
        return _requested_wait_seconds(error) > self.max_wait_seconds


class RetryRunner:
    """Sends requests when the rate limit allows, and retries them.

    :param limiter: the rate limit of the credential
    :param policy: which requests are retried, and when
    :param subject: the name of the source, for the log
    :param events: receives retries and waits; None: they are not reported
    :param sleep: waits for a number of seconds
    :ivar limiter: the rate limit of the credential
    """

    def __init__(
        self,
        limiter: RateLimiter,
        policy: RetryPolicy,
        *,
        subject: str = "",
        events: EventDispatcher | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self.limiter = limiter
        self._policy = policy
        self._subject = subject
        self._events = events
        self._sleep = sleep

    def without_events(self) -> Self:
        """The same runner, without events: an exception of a listener must not replace the error being handled."""
        return type(self)(self.limiter, self._policy, subject=self._subject, sleep=self._sleep)

    async def run(self, kind: RequestKind, request: Callable[[], Awaitable[T]], *, operation: Operation) -> T:
        """Send a request, with retries. Each attempt waits for the rate limit.

        :param request: sends it once
        :param operation: what the request does
        :raises UploaderError: the error of the last attempt
        """
        return await self.retry(partial(self.run_once, kind, request), operation=operation)

    async def run_once(
        self,
        kind: RequestKind,
        request: Callable[[], Awaitable[T]],
        *,
        waiting: AbstractContextManager[None] = nullcontext(),  # noqa: B008 - has no state
    ) -> T:
        """Send a request once, as soon as the rate limit allows.

        :param waiting: entered while waiting for the rate limit
        :raises ApiError: the rate limit resets later than ``max_wait_seconds`` from now
        """
        with waiting:
            await self.limiter.acquire(
                kind, on_wait=partial(self._report_wait, kind), max_wait_seconds=self._policy.max_wait_seconds
            )
        return await request()

    async def retry(
        self,
        attempt: Callable[[], Awaitable[T]],
        *,
        operation: Operation,
        part_number: int | None = None,
        progress: Callable[[], int] = lambda: 0,
        sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> T:
        """Call ``attempt`` until it succeeds, or fails and must not be retried.

        :param operation: what the request does
        :param part_number: the part that it sends, if any
        :param progress: a number that grows while the upload progresses
        :param sleep: waits for the backoff instead of the runner's own ``sleep``
        :raises UploaderError: the error of the last attempt
        """
        seen = progress()
        attempt = partial(self._with_explanation, attempt)
        try:
            return await attempt()
        except UploaderError as exc:
            # Only now: tenacity inspects its callables every time, which costs more than sending a small file, and
            # takes a while to import.
            import tenacity  # noqa: PLC0415

            attempt = _attempts_after(exc, attempt)

        def should_retry(state: tenacity.RetryCallState) -> bool:
            nonlocal seen
            if progress() > seen:
                seen = progress()
                state.attempt_number = 1
            error = _error_of(state)
            if isinstance(error, SlowConnectionError):
                state.attempt_number -= 1  # nothing has failed
                return True
            return error is not None and self._policy.should_retry(error, state.attempt_number)

        def report(state: tenacity.RetryCallState) -> None:
            error = _error_of(state)
            assert isinstance(error, Exception), "no other exception is transient"
            self._report_retry(
                RetryScheduled(
                    operation=operation, part_number=part_number, error=error, wait_seconds=state.upcoming_sleep
                )
            )

        retrying = tenacity.AsyncRetrying(
            retry=should_retry, wait=self._backoff_seconds, before_sleep=report, sleep=sleep or self._sleep
        )
        return await retrying(attempt)

    async def _with_explanation(self, attempt: Callable[[], Awaitable[T]]) -> T:
        try:
            return await attempt()
        except ApiError as exc:
            if not (is_transient(exc) and self._policy.is_wait_too_long(exc)):
                raise
            requested, longest = map(
                format_duration, (_requested_wait_seconds(exc), self._policy.max_wait_seconds)
            )
            raise exc.with_detail(f"It asks to wait {requested}; the longest accepted wait is {longest}") from exc

    def _backoff_seconds(self, state: tenacity.RetryCallState) -> float:
        import tenacity  # noqa: PLC0415

        if isinstance(_error_of(state), SlowConnectionError):
            return 0.0
        backoff = tenacity.wait_random_exponential(
            multiplier=self._policy.first_backoff_seconds, max=self._policy.max_backoff_seconds
        )
        return max(backoff(state), _requested_wait_seconds(_error_of(state)))

    def _report_wait(self, kind: RequestKind, wait_seconds: float) -> None:
        if wait_seconds > _LONG_WAIT_SECONDS:
            subject = f"{self._subject}: the" if self._subject else "The"
            log.warning("%s account's rate limit is used up; waiting %s.", subject, format_duration(wait_seconds))
        if self._events is not None:
            self._events.emit(RateLimitWait(kind=kind, wait_seconds=wait_seconds))

    def _report_retry(self, event: RetryScheduled) -> None:
        subject = f"{self._subject}, {event.request}" if self._subject else event.request
        # Programs that follow the events report an outage once, instead of every request that it affects.
        is_event = self._events is not None and isinstance(event.error, TransportError)
        extra = {"is_outage_event": is_event}
        log.warning("%s: %s Retrying in %.1f s.", subject, event.error, event.wait_seconds, extra=extra)
        if self._events is not None:
            self._events.emit(event)


def _attempts_after(failure: UploaderError, attempt: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
    """A function whose first call is the attempt that has failed already."""
    failures = [failure]

    async def next_attempt() -> T:
        if failures:
            raise failures.pop()
        return await attempt()

    return next_attempt


def _error_of(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _requested_wait_seconds(error: BaseException | None) -> float:
    """How long the service asks to wait; 0 if it does not say."""
    return (error.retry_after_seconds or 0.0) if isinstance(error, ApiError) else 0.0
