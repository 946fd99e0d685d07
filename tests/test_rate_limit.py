"""The rate limit: learned from responses, counted down, shared, and waited for."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.lowlevel
import msgspec
import pytest

from async_uploader._errors import ApiError
from async_uploader._flow.permits import Permit
from async_uploader._flow.rate_limit import RateLimiter
from async_uploader._flow.rate_window import RateWindow
from async_uploader.events import RequestKind


def headers(limit: int, remaining: int, reset: int) -> dict[str, str]:
    return {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(remaining),
        "X-RateLimit-Retry-After": str(reset),
    }


def known_window(*, limit: int = 6, remaining: int = 6, reset_seconds: float = 60, now: float = 0) -> RateWindow:
    window = RateWindow()
    window.update(now, limit=limit, remaining=remaining, reset_seconds=reset_seconds)
    return window


def send_times(window: RateWindow, *, demand: int, until: float) -> list[float]:
    """When requests are sent, each as soon as it may be."""
    now, times = 0.0, []
    while demand:
        now += window.wait_seconds(now, demand=demand)
        if now > until:
            break
        window.count_request(now)
        demand -= 1
        times.append(round(now, 1))
    return times


def test_no_request_waits_while_the_limit_is_unknown() -> None:
    assert send_times(RateWindow(), demand=1000, until=0) == [0.0] * 1000


def test_requests_within_the_limit_are_sent_at_once() -> None:
    assert send_times(known_window(), demand=6, until=0) == [0.0] * 6


def test_more_requests_than_the_limit_are_spread_over_the_window() -> None:
    times = send_times(known_window(), demand=12, until=200)
    assert times[:6] == [8.6, 17.1, 25.7, 34.3, 42.9, 51.4]
    # The last six fit into the second window.
    assert all(60 <= time < 60.2 for time in times[6:])


def test_an_older_response_does_not_raise_the_count() -> None:
    window = known_window(remaining=6)
    for _ in range(4):
        window.count_request(1)
    window.update(2, limit=6, remaining=5, reset_seconds=58)
    assert window.remaining == 2


def test_requests_that_the_first_response_counted_are_not_counted_twice() -> None:
    """Whether it counted those in transit is known only when they have been answered."""
    window = RateWindow()
    for _ in range(4):
        window.count_request(0)
    window.update(0.1, limit=6, remaining=2, reset_seconds=60)
    assert window.remaining <= 0
    for remaining in (4, 5, 3):
        window.update(0.2, limit=6, remaining=remaining, reset_seconds=60)
    assert window.remaining == 2


def test_a_lower_count_shows_other_users_of_the_account() -> None:
    window = known_window(remaining=6)
    window.update(2, limit=6, remaining=0, reset_seconds=58)
    assert window.wait_seconds(2, demand=1) == pytest.approx(58, abs=0.1)


def test_a_response_of_a_later_window_replaces_the_state() -> None:
    window = known_window(remaining=0, reset_seconds=10)
    window.update(10.5, limit=6, remaining=5, reset_seconds=60)
    assert window.remaining == 5
    assert window.wait_seconds(10.5, demand=1) == 0


def test_rounded_reset_times_do_not_start_a_new_window() -> None:
    window = known_window(remaining=1, reset_seconds=10)
    window.update(0.9, limit=6, remaining=5, reset_seconds=10)
    assert window.remaining == 1


def test_a_response_without_an_open_window_says_nothing_about_the_length_of_the_next() -> None:
    """A request that was refused before it was counted returns the full limit, with a reset in 0 seconds."""
    window = known_window(limit=3, remaining=3, reset_seconds=0)
    assert send_times(window, demand=3, until=0) == [0.0] * 3
    assert window.wait_seconds(1, demand=1) > 1
    window.update(1, limit=3, remaining=0, reset_seconds=2)
    assert window.wait_seconds(1, demand=1) == pytest.approx(2, abs=0.1)


def test_a_refusal_exhausts_the_window() -> None:
    window = known_window()
    window.exhaust(5, seconds=7)
    assert window.wait_seconds(5, demand=1) == pytest.approx(7, abs=0.1)
    assert window.wait_seconds(12.1, demand=1) == 0


async def test_the_first_upload_uses_an_estimate_from_the_creation_of_the_container() -> None:
    limiter = RateLimiter()
    limiter.update(RequestKind.WRITE, 201, headers(12, 11, 60))
    assert limiter._windows.of(RequestKind.UPLOAD).remaining == 6


async def test_the_response_to_an_upload_takes_precedence_over_an_estimate() -> None:
    limiter = RateLimiter()
    limiter.update(RequestKind.UPLOAD, 201, headers(40, 39, 60))
    limiter.update(RequestKind.WRITE, 201, headers(40, 39, 60))
    assert limiter._windows.of(RequestKind.UPLOAD).limit == 40


@pytest.mark.parametrize("value", ["", "-1", "x", "1.5", "٣"])
async def test_malformed_headers_set_no_limit(value: str) -> None:
    limiter = RateLimiter()
    limiter.update(RequestKind.UPLOAD, 201, {**headers(6, 0, 60), "X-RateLimit-Remaining": value})
    assert limiter._windows.of(RequestKind.UPLOAD).limit is None


ShareRateLimit = Callable[[], Awaitable[RateLimiter]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file that rate limiters share."""
    return tmp_path / "rate-limits" / "account"


@pytest.fixture
async def share(path: Path) -> AsyncIterator[ShareRateLimit]:
    """Create a rate limiter as another process with the same credential would."""
    limiters: list[RateLimiter] = []

    async def create() -> RateLimiter:
        limiter = RateLimiter()
        limiters.append(limiter)
        await limiter.share(path)
        return limiter

    yield create
    for limiter in limiters:
        limiter.close()


def write(path: Path, contents: bytes) -> None:
    path.write_bytes(contents)


async def uploads_allowed(limiter: RateLimiter) -> int:
    """Count uploads until one would have to wait."""
    count = 0
    with suppress(ApiError):
        while True:
            await limiter.acquire(RequestKind.UPLOAD, max_wait_seconds=0)
            count += 1
    return count


async def test_processes_share_their_windows(share: ShareRateLimit) -> None:
    first, second = await share(), await share()
    first.update(RequestKind.UPLOAD, 201, headers(6, 4, 60))
    await first.acquire(RequestKind.UPLOAD)
    assert await uploads_allowed(second) == 3
    assert await uploads_allowed(first) == 0


async def test_a_response_is_shared_even_if_no_request_follows(share: ShareRateLimit) -> None:
    first, second = await share(), await share()
    first.update(RequestKind.UPLOAD, 201, headers(6, 1, 60))
    with anyio.fail_after(10):
        while second.allowance() is None:
            await second.acquire(RequestKind.READ)  # reads the windows
            await anyio.lowlevel.checkpoint()


async def test_a_process_starts_with_the_windows_of_its_predecessor(share: ShareRateLimit) -> None:
    first = await share()
    first.update(RequestKind.UPLOAD, 201, headers(6, 2, 60))
    first.close()
    assert await uploads_allowed(await share()) == 2


async def test_a_refusal_holds_for_all_processes(share: ShareRateLimit) -> None:
    first, second = await share(), await share()
    first.update(RequestKind.UPLOAD, 429, {"Retry-After": "7"})
    assert await uploads_allowed(second) == 0


@pytest.mark.parametrize(
    "contents", [b"", b"\0", b"\0\0\0\x01\xc1", b"\xff\xff\xff\xff" + b"x" * 100, b"\0\0\0\x05\xa4text"]
)
async def test_damaged_contents_count_as_none(share: ShareRateLimit, path: Path, contents: bytes) -> None:
    limiter = await share()
    write(path, contents)
    await limiter.acquire(RequestKind.UPLOAD)
    limiter.update(RequestKind.UPLOAD, 201, headers(6, 1, 60))
    limiter.close()
    assert await uploads_allowed(await share()) == 1


@pytest.mark.parametrize(
    "window",
    [
        RateWindow(limit=6, last_request_at=time.monotonic() + 1e6, resets_at=time.monotonic() + 60),
        RateWindow(limit=6, last_request_at=0, resets_at=time.monotonic() + 1e6),
    ],
    ids=["request", "reset"],
)
async def test_windows_from_before_a_restart_of_the_machine_are_ignored(
    share: ShareRateLimit, path: Path, window: RateWindow
) -> None:
    limiter = await share()
    data = msgspec.msgpack.encode({"upload": window})
    write(path, len(data).to_bytes(4, "big") + data)
    await limiter.acquire(RequestKind.UPLOAD, max_wait_seconds=0)


async def test_a_process_that_is_stopped_while_it_holds_the_lock_stops_no_other(
    share: ShareRateLimit, path: Path
) -> None:
    first, second = await share(), await share()
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        first.update(RequestKind.UPLOAD, 201, headers(6, 3, 60))
        await second.acquire(RequestKind.UPLOAD)
        assert os.stat(path).st_size == 0
    await first.acquire(RequestKind.UPLOAD)
    assert await uploads_allowed(second) == 2


async def test_expired_files_are_deleted(share: ShareRateLimit, path: Path) -> None:
    path.parent.mkdir()
    for name, age_seconds in {"old": 25 * 3600, "recent": 23 * 3600}.items():
        (path.parent / name).touch()
        os.utime(path.parent / name, (time.time() - age_seconds,) * 2)
    await share()
    assert sorted(each.name for each in path.parent.iterdir()) == ["account", "recent"]


async def test_without_a_directory_each_process_counts_its_own_requests(share: ShareRateLimit, path: Path) -> None:
    path.parent.write_bytes(b"a file, not a directory")
    first, second = await share(), await share()
    first.update(RequestKind.UPLOAD, 201, headers(6, 2, 60))
    second.update(RequestKind.UPLOAD, 201, headers(6, 3, 60))
    assert (await uploads_allowed(first), await uploads_allowed(second)) == (2, 3)


class Permits:
    """A permit source with fixed responses; None: it does not respond."""

    def __init__(self, *answers: Permit | None) -> None:
        self.answers = list(answers)
        self.asked: list[int] = []
        self.reported: list[tuple[RequestKind, int, int]] = []

    async def ask(self, kind: RequestKind, demand: int) -> Permit | None:
        assert kind is RequestKind.UPLOAD
        self.asked.append(demand)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def report(self, kind: RequestKind, status: int, headers: Mapping[str, str]) -> None:
        self.reported.append((kind, status, len(headers)))


async def test_a_permit_source_decides_and_learns() -> None:
    limiter = RateLimiter()
    permits = Permits(Permit(0.01, 3), Permit(0.0, 3))
    limiter.use_permits(permits)
    limiter.update(RequestKind.UPLOAD, 201, headers(6, 0, 60))  # says nothing about the others
    with limiter.counting_demand(lambda: 7):
        await limiter.acquire(RequestKind.UPLOAD)
    assert permits.asked == [7, 7]
    assert permits.reported == [(RequestKind.UPLOAD, 201, 3)]
    assert limiter._windows.of(RequestKind.UPLOAD).unanswered == 1


async def test_a_silent_permit_source_is_replaced_by_a_share_of_the_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limiter = RateLimiter()
    limiter.use_permits(Permits(Permit(0.0, 3), None))
    await limiter.acquire(RequestKind.UPLOAD)
    limiter.update(RequestKind.UPLOAD, 201, headers(60, 30, 60))
    with pytest.raises(TimeoutError), anyio.fail_after(0.05):
        await limiter.acquire(RequestKind.UPLOAD)
    monkeypatch.setattr("async_uploader._flow.rate_limit._SILENCE_SECONDS", 0.0)
    waits: list[float] = []
    with anyio.move_on_after(0.05):
        await limiter.acquire(RequestKind.UPLOAD, on_wait=waits.append)
    # A third of the 30 requests of this minute, spread evenly.
    assert waits == [pytest.approx(60 / 11, rel=0.05)]


async def test_a_permit_that_arrives_late_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a suspension of the process."""
    limiter = RateLimiter()
    permits = Permits(Permit(0.0, 1))
    limiter.use_permits(permits)
    monkeypatch.setattr("async_uploader._flow.rate_limit.PERMIT_SECONDS", -1.0)
    with pytest.raises(TimeoutError), anyio.fail_after(0.05):
        await limiter.acquire(RequestKind.UPLOAD)


@pytest.mark.parametrize(("sharers", "wait_seconds"), [(1, 0.0), (2, 0.0), (3, 60.05)])
def test_processes_that_do_not_know_of_each_other_share_what_remains(sharers: int, wait_seconds: float) -> None:
    window = known_window(remaining=2)
    assert window.wait_seconds(0, demand=1, sharers=sharers) == pytest.approx(wait_seconds)
