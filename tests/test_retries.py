"""What is tried again, how often, and how long the waits are."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest
from msgspec.structs import replace

from async_uploader import ApiError, SourceError, TransportError, UploaderError
from async_uploader._flow.rate_limit import RateLimiter
from async_uploader._flow.retries import RetryPolicy, RetryRunner, is_retryable
from async_uploader.events import Operation


def busy(retry_after_seconds: float | None = None) -> ApiError:
    return ApiError(status=503, title="Busy", retry_after_seconds=retry_after_seconds)


@pytest.mark.parametrize(
    ("error", "retryable"),
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
def test_retryable(error: BaseException, retryable: bool) -> None:
    assert is_retryable(error) is retryable


class Attempts:
    """Fails as told, and remembers how long it was waited before each try."""

    def __init__(self, *errors: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
        self._errors: Iterator[Exception | None] = iter(errors)
        self.count = 0
        self.waits: list[float] = []
        self.pacing = RetryRunner(limiter=RateLimiter(), policy=RetryPolicy(max_attempts=3))

        async def sleep(seconds: float) -> None:
            self.waits.append(seconds)

        monkeypatch.setattr(anyio, "sleep", sleep)

    async def __call__(self) -> str:
        self.count += 1
        if error := next(self._errors):
            raise error
        return "done"


async def test_until_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = Attempts(busy(), TransportError("x", maybe_received=True), None, monkeypatch=monkeypatch)
    assert await attempts.pacing.persist(attempts, operation=Operation.VIDEO) == "done"
    assert len(attempts.waits) == 2


async def test_the_last_error_comes_out_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    last = busy()
    attempts = Attempts(busy(), busy(), last, monkeypatch=monkeypatch)
    with pytest.raises(ApiError) as caught:
        await attempts.pacing.persist(attempts, operation=Operation.VIDEO)
    assert caught.value is last
    assert attempts.count == 3


async def test_progress_starts_the_count_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = Attempts(*[busy() for _ in range(9)], None, monkeypatch=monkeypatch)
    done = await attempts.pacing.persist(attempts, operation=Operation.VIDEO, progress=lambda: attempts.count // 2)
    assert (done, attempts.count) == ("done", 10)


async def test_backoff_has_full_jitter_and_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    firsts, seconds = [], []
    for _ in range(200):
        attempts = Attempts(busy(), busy(), None, monkeypatch=monkeypatch)
        await attempts.pacing.persist(attempts, operation=Operation.VIDEO)
        first, second = attempts.waits
        firsts.append(first)
        seconds.append(second)
    assert 0 <= min(firsts) < 0.1
    assert 0.4 < max(firsts) <= 0.5
    assert 0 <= min(seconds) < 0.2
    assert 0.8 < max(seconds) <= 1.0


async def test_what_the_service_asks_for_is_waited_even_beyond_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = Attempts(busy(retry_after_seconds=90), None, monkeypatch=monkeypatch)
    await attempts.pacing.persist(attempts, operation=Operation.VIDEO)
    assert attempts.waits == [90]


async def test_a_wait_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    attempts = Attempts(busy(retry_after_seconds=2), None, monkeypatch=monkeypatch)
    pacing = replace(attempts.pacing, subject="movie.mp4")
    await pacing.persist(attempts, operation=Operation.PART, part_number=12)
    assert caplog.messages == ["movie.mp4, part 12: The service answered 503: Busy. Again in 2.0 s."]
