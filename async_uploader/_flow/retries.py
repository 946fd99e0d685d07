"""What is tried again, after how long, and when to give up.

Retrying itself is tenacity's; this is the policy. An attempt counts only against a standstill: when the upload
has got on since the last failure, the next one is the first again, so a long upload over a bad line is not
ended by the sum of its troubles.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final, TypeVar

import anyio
import tenacity
from msgspec import Struct

from async_uploader._dispatcher import EventDispatcher
from async_uploader._errors import ApiError, TransportError
from async_uploader._limits import RATE_WINDOW_SECONDS
from async_uploader._options import DEFAULT_MAX_ATTEMPTS, MAX_ATTEMPTS
from async_uploader._units import format_duration
from async_uploader.events import Operation, RateLimitWait, RequestKind, RetryScheduled

from .rate_limit import MAX_WAIT_SECONDS, RateLimiter

log: Final = logging.getLogger("async_uploader")

T = TypeVar("T")

# The service's windows are a minute. A longer wait is a surprise, so it is logged.
_LONG_WAIT_SECONDS: Final = RATE_WINDOW_SECONDS + 1.0


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """Exponential backoff with full jitter: before try n, a random time up to ``first * 2**(n-1)`` seconds.

    :param max_attempts: tries for one request without any progress in between
    :param first_backoff_seconds: upper end of the first wait
    :param max_backoff_seconds: upper end of every wait; what the service itself asks for may be longer
    :param max_unreadable: attempts that may end in a 2xx that cannot be read: a portal's page, or a wrong base URL
    :param max_wait_seconds: the longest wait that the service may ask for, by ``Retry-After`` or its rate limit;
        default 1 h. If it asks for more, the request fails at once, and the error says how long
    """

    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    first_backoff_seconds: float = 0.5
    max_backoff_seconds: float = 30.0
    max_wait_seconds: float = MAX_WAIT_SECONDS
    max_unreadable: int = MAX_ATTEMPTS


class RetryRunner(Struct, frozen=True, kw_only=True):
    """When requests of one credential go out: the account's window, and the patience of one caller.

    :param subject: whose requests they are, for the log
    :param events: receives retries and waits
    """

    limiter: RateLimiter
    policy: RetryPolicy = RetryPolicy()
    subject: str = ""
    events: EventDispatcher | None = None

    async def run(self, kind: RequestKind, request: Callable[[], Awaitable[T]], *, operation: Operation) -> T:
        """Call ``request`` in its turn until it returns, fails for good, or has failed too often.

        :param operation: what the request does
        :raises UploaderError: the last attempt's own error
        """

        async def attempt() -> T:
            return await self.in_turn(kind, request)

        return await self.persist(attempt, operation=operation)

    async def in_turn(
        self,
        kind: RequestKind,
        request: Callable[[], Awaitable[T]],
        *,
        waiting: AbstractContextManager[None] = nullcontext(),  # noqa: B008 - has no state
    ) -> T:
        """Call ``request`` once, when the account's window allows it.

        :param waiting: is entered until then
        :raises ApiError: the window resets later than the policy waits
        """

        def tell(wait_seconds: float) -> None:
            if wait_seconds > _LONG_WAIT_SECONDS:
                named = f"{self.subject}: the" if self.subject else "The"
                log.warning(
                    "%s account's rate limit is used up; waiting %s.", named, format_duration(wait_seconds)
                )
            if self.events is not None:
                self.events.emit(RateLimitWait(kind=kind, wait_seconds=wait_seconds))

        with waiting:
            await self.limiter.turn(kind, on_wait=tell, max_wait_seconds=self.policy.max_wait_seconds)
        return await request()

    async def persist(
        self,
        attempt: Callable[[], Awaitable[T]],
        *,
        operation: Operation,
        part_number: int | None = None,
        progress: Callable[[], int] = lambda: 0,
        sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> T:
        """Call ``attempt`` until it returns, fails for good, or has failed too often.

        :param operation: what the request does
        :param part_number: the part that it sends, if it does
        :param progress: a number that grows as the upload gets on
        :param sleep: waits so many seconds before another try, if there is more to it
        :raises UploaderError: the last attempt's own error
        """
        seen = progress()

        async def attempt_within_reason() -> T:
            try:
                return await attempt()
            except ApiError as exc:
                if not (is_retryable(exc) and self._is_too_long(exc)):
                    raise
                asked, limit = map(format_duration, (asked_wait_seconds(exc), self.policy.max_wait_seconds))
                raise exc.with_detail(f"It asks to wait {asked}, and {limit} is the longest wait") from exc

        def try_again(state: tenacity.RetryCallState) -> bool:
            nonlocal seen
            if progress() > seen:
                seen = progress()
                state.attempt_number = 1
            error = _error_of(state)
            return error is not None and is_retryable(error) and not self._is_final(error, state.attempt_number)

        def tell(state: tenacity.RetryCallState) -> None:
            error = _error_of(state)
            assert isinstance(error, Exception), "only these are retried"
            event = RetryScheduled(
                operation=operation, part_number=part_number, error=error, wait_seconds=state.upcoming_sleep
            )
            named = f"{self.subject}, {event.request}" if self.subject else event.request
            log.warning("%s: %s Again in %.1f s.", named, error, state.upcoming_sleep)
            if self.events is not None:
                self.events.emit(event)

        backoff = tenacity.wait_random_exponential(
            multiplier=self.policy.first_backoff_seconds, max=self.policy.max_backoff_seconds
        )
        retrying = tenacity.AsyncRetrying(
            retry=try_again,
            wait=lambda state: max(backoff(state), asked_wait_seconds(_error_of(state))),
            stop=tenacity.stop_after_attempt(self.policy.max_attempts),
            before_sleep=tell,
            sleep=sleep or anyio.sleep,
            reraise=True,
        )
        return await retrying(attempt_within_reason)

    def _is_final(self, error: BaseException, attempts: int) -> bool:
        is_hopeless = (
            isinstance(error, TransportError) and error.unreadable and attempts >= self.policy.max_unreadable
        )
        return is_hopeless or self._is_too_long(error)

    def _is_too_long(self, error: BaseException) -> bool:
        return asked_wait_seconds(error) > self.policy.max_wait_seconds


def is_retryable(error: BaseException) -> bool:
    """Whether the same request can fare better later. Cancellation never does."""
    match error:
        case TransportError():
            return error.retryable
        case ApiError():
            return error.status in (408, 429) or error.status >= 500
        case _:
            return False


def _error_of(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def asked_wait_seconds(error: BaseException | None) -> float:
    """How long the service asked to wait, 0 if it did not."""
    return (error.retry_after_seconds or 0.0) if isinstance(error, ApiError) else 0.0
