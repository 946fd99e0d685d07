"""Retries: which errors, how often, and after which backoff."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest

from async_uploader import ApiError, SourceError, TransportError, UploaderError
from async_uploader._errors import is_transient
from async_uploader._flow.rate_limit import RateLimiter
from async_uploader._flow.retries import RetryPolicy, RetryRunner
from async_uploader.events import Operation


def unavailable(retry_after_seconds: float | None = None) -> ApiError:
    return ApiError(status=503, title="Busy", retry_after_seconds=retry_after_seconds)


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (TransportError("x", maybe_received=True), True),
        (TransportError("x", maybe_received=False, retryable=False), False),
        *[(ApiError(status=status, title="x"), True) for status in (408, 429, 500, 502, 503, 504)],
        *[(ApiError(status=status, title="x"), False) for status in (302, 400, 401, 403, 404, 405, 413)],
        (SourceError("x"), False),
        (UploaderError("x"), False),
        (anyio.get_cancelled_exc_class, False),
        (KeyboardInterrupt(), False),
    ],
)
def test_transient_errors(error: BaseException, transient: bool) -> None:
    assert is_transient(error) is transient


class Attempts:
    """Attempts that fail with the given errors, and succeed on None. Records the waits in between."""

    def __init__(self, *errors: Exception | None, subject: str = "") -> None:
        self._errors: Iterator[Exception | None] = iter(errors)
        self.count = 0
        self.waits: list[float] = []
        self.retries = RetryRunner(RateLimiter(), RetryPolicy(max_attempts=3), subject=subject, sleep=self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def __call__(self) -> str:
        self.count += 1
        if error := next(self._errors):
            raise error
        return "done"


async def test_retries_until_success() -> None:
    attempts = Attempts(unavailable(), TransportError("x", maybe_received=True), None)
    assert await attempts.retries.retry(attempts, operation=Operation.VIDEO) == "done"
    assert len(attempts.waits) == 2


async def test_the_last_error_is_raised_unchanged() -> None:
    last = unavailable()
    attempts = Attempts(unavailable(), unavailable(), last)
    with pytest.raises(ApiError) as caught:
        await attempts.retries.retry(attempts, operation=Operation.VIDEO)
    assert caught.value is last
    assert attempts.count == 3


async def test_progress_resets_the_number_of_attempts() -> None:
    attempts = Attempts(*[unavailable() for _ in range(9)], None)
    done = await attempts.retries.retry(attempts, operation=Operation.VIDEO, progress=lambda: attempts.count // 2)
    assert (done, attempts.count) == ("done", 10)


async def test_backoff_grows_and_has_full_jitter() -> None:
    first_waits, second_waits = [], []
    for _ in range(200):
        attempts = Attempts(unavailable(), unavailable(), None)
        await attempts.retries.retry(attempts, operation=Operation.VIDEO)
        first, second = attempts.waits
        first_waits.append(first)
        second_waits.append(second)
    assert 0 <= min(first_waits) < 0.1
    assert 0.4 < max(first_waits) <= 0.5
    assert 0 <= min(second_waits) < 0.2
    assert 0.8 < max(second_waits) <= 1.0


async def test_a_requested_wait_may_exceed_the_longest_backoff() -> None:
    attempts = Attempts(unavailable(retry_after_seconds=90), None)
    await attempts.retries.retry(attempts, operation=Operation.VIDEO)
    assert attempts.waits == [90]


async def test_each_retry_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    attempts = Attempts(unavailable(retry_after_seconds=2), None, subject="movie.mp4")
    await attempts.retries.retry(attempts, operation=Operation.PART, part_number=12)
    assert caplog.messages == ["movie.mp4, part 12: The service responded with 503: Busy. Retrying in 2.0 s."]
