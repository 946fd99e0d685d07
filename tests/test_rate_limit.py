"""The account's window: learned, spent, waited for. Time is passed in."""

from __future__ import annotations

import pytest

from async_uploader._flow.rate_limit import RateLimiter, Window
from async_uploader.events import RequestKind


def headers(limit: int, remaining: int, reset: int) -> dict[str, str]:
    return {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(remaining),
        "X-RateLimit-Retry-After": str(reset),
    }


def learned(*, limit: int = 6, remaining: int = 6, reset_seconds: float = 60, now: float = 0) -> Window:
    window = Window()
    window.learn(now, limit=limit, remaining=remaining, reset_seconds=reset_seconds)
    return window


def sent(window: Window, *, demand: int, until: float) -> list[float]:
    """When requests go out that are sent as soon as they may."""
    now, times = 0.0, []
    while demand:
        now += window.wait_seconds(now, demand=demand)
        if now > until:
            break
        window.take(now)
        demand -= 1
        times.append(round(now, 1))
    return times


def test_nothing_waits_while_nothing_is_known() -> None:
    assert sent(Window(), demand=1000, until=0) == [0.0] * 1000


def test_what_fits_goes_at_once() -> None:
    assert sent(learned(), demand=6, until=0) == [0.0] * 6


def test_what_does_not_fit_is_spread_over_the_window_and_the_rest_goes_after_it() -> None:
    times = sent(learned(), demand=12, until=200)
    assert times[:6] == [8.6, 17.1, 25.7, 34.3, 42.9, 51.4]
    # The last six fit into the second window.
    assert all(60 <= time < 60.2 for time in times[6:])


def test_an_older_answer_gives_nothing_back() -> None:
    window = learned(remaining=6)
    for _ in range(4):
        window.take(1)
    window.learn(2, limit=6, remaining=5, reset_seconds=58)
    assert window.left == 2


def test_a_lower_count_means_that_others_use_the_account() -> None:
    window = learned(remaining=6)
    window.learn(2, limit=6, remaining=0, reset_seconds=58)
    assert window.wait_seconds(2, demand=1) == pytest.approx(58, abs=0.1)


def test_an_answer_of_a_later_window_opens_it() -> None:
    window = learned(remaining=0, reset_seconds=10)
    window.learn(10.5, limit=6, remaining=5, reset_seconds=60)
    assert window.left == 5
    assert window.wait_seconds(10.5, demand=1) == 0


def test_rounded_seconds_do_not_make_a_new_window() -> None:
    window = learned(remaining=1, reset_seconds=10)
    window.learn(0.9, limit=6, remaining=5, reset_seconds=10)
    assert window.left == 1


def test_an_answer_with_no_window_open_leaves_the_length_of_the_next_to_be_told() -> None:
    """As one does that was refused before it was counted: the limit, all of it left, reset in 0 seconds."""
    window = learned(limit=3, remaining=3, reset_seconds=0)
    assert sent(window, demand=3, until=0) == [0.0] * 3
    assert window.wait_seconds(1, demand=1) > 1
    window.learn(1, limit=3, remaining=0, reset_seconds=2)
    assert window.wait_seconds(1, demand=1) == pytest.approx(2, abs=0.1)


def test_a_refusal_closes_the_window() -> None:
    window = learned()
    window.close(5, seconds=7)
    assert window.wait_seconds(5, demand=1) == pytest.approx(7, abs=0.1)
    assert window.wait_seconds(12.1, demand=1) == 0


async def test_the_first_upload_goes_by_what_creating_the_container_told() -> None:
    limiter = RateLimiter()
    limiter.learn(RequestKind.WRITE, 201, headers(12, 11, 60))
    assert limiter._windows[RequestKind.UPLOAD].left == 6


async def test_an_upload_s_own_answer_goes_before() -> None:
    limiter = RateLimiter()
    limiter.learn(RequestKind.UPLOAD, 201, headers(40, 39, 60))
    limiter.learn(RequestKind.WRITE, 201, headers(40, 39, 60))
    assert limiter._windows[RequestKind.UPLOAD].limit == 40


@pytest.mark.parametrize("value", ["", "-1", "x", "1.5", "٣"])
async def test_nonsense_in_the_headers_is_no_limit(value: str) -> None:
    limiter = RateLimiter()
    limiter.learn(RequestKind.UPLOAD, 201, {**headers(6, 0, 60), "X-RateLimit-Remaining": value})
    assert limiter._windows[RequestKind.UPLOAD].limit is None
