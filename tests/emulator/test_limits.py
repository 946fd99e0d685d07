"""Rate limits and slow lines."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import aiohttp
import pytest

from async_uploader.emulator import Emulator
from async_uploader.emulator._ratelimit import Budget, RateLimiter
from async_uploader.emulator._source import SourceFile
from async_uploader.emulator._throttle import Pacer, read_bytes

from .conftest import MIB, PART, Api, basic, content
from .raw import Raw, upload_head


def test_windows() -> None:
    """A window opens with its first request, and the ratio of the kinds is the contract's."""
    limiter = RateLimiter(6, 10.0)
    assert [limiter.admit(Budget.UPLOADS, now=100 + n) for n in range(8)] == [True] * 6 + [False] * 2
    assert limiter.headers(Budget.UPLOADS, 107.5) == {
        "X-RateLimit-Limit": "6",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Retry-After": "3",
    }
    assert limiter.headers(Budget.WRITES, 107)["X-RateLimit-Limit"] == "12"
    assert limiter.headers(Budget.READS, 107)["X-RateLimit-Limit"] == "30"
    assert limiter.admit(Budget.UPLOADS, now=110)
    assert limiter.headers(Budget.UPLOADS, 110)["X-RateLimit-Remaining"] == "5"


def test_no_limit() -> None:
    """Without a limit the headers promise plenty, and nothing is refused."""
    limiter = RateLimiter(None, 60)
    assert all(limiter.admit(Budget.UPLOADS, 0) for _ in range(1000))
    assert int(limiter.headers(Budget.UPLOADS, 0)["X-RateLimit-Remaining"]) > 100_000


def test_pacer() -> None:
    """Late timers are made up for, idle time is not saved."""
    pacer = Pacer(1000, now=0.0)
    assert pacer.take(100, now=0.0) == pytest.approx(0.1)
    assert pacer.take(100, now=0.11) == pytest.approx(0.2)
    assert pacer.take(100, now=5.0) == pytest.approx(5.08)


def test_shared_pacer() -> None:
    """Two that share a line wait for each other."""
    pacer = Pacer(1000, now=0.0)
    assert [pacer.take(100, now=0.0) for _ in range(3)] == pytest.approx([0.1, 0.2, 0.3])


pytest_anyio = pytest.mark.anyio


@pytest_anyio
async def test_429_costs_no_body(session: aiohttp.ClientSession) -> None:
    """The limit is decided from the headers; a body sent all the same is counted as wasted."""
    async with Emulator(rate_limit=1) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        video_id = await api.create()
        await api.send(video_id, content(PART), "part 1/*", expect=201)
        async with Raw(emulator.url) as raw:
            await raw.send(upload_head(video_id, "part 2/*", PART).partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
            assert (await raw.answer()).slug == "too-many-requests"
        await emulator.wait_for(lambda e: e.statistics().requests == 3)
        assert emulator.statistics().bodies_into_429 == 0
        await api.send(video_id, content(PART), "part 2/*", expect=429)
        await emulator.wait_for(lambda e: e.statistics().bodies_into_429 == 1)
        assert emulator.statistics().bytes_into_429 > 0


@pytest_anyio
async def test_window_reopens(session: aiohttp.ClientSession) -> None:
    """After the window there is room again; logins never count."""
    async with Emulator(rate_limit=1, rate_window=0.2) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        for _ in range(9):
            await api.post("/auth/api-key", json={"apiKey": "local-key"}, expect=200)
        for _ in range(5):
            await api.get("/videos")
        await api.get("/videos", expect=429)
        await asyncio.sleep(0.2)
        await api.get("/videos", expect=200)


@pytest_anyio
@pytest.mark.parametrize(
    ("options", "connections", "seconds"),
    [
        ({"connection_rate": 10 * MIB}, 1, 0.5),
        ({"connection_rate": 10 * MIB}, 4, 0.5),
        ({"link_rate": 10 * MIB}, 4, 2.0),
        ({"link_rate": 10 * MIB, "connection_rate": 5 * MIB}, 1, 1.0),
    ],
)
async def test_lines(
    session: aiohttp.ClientSession, options: dict[str, float], connections: int, seconds: float
) -> None:
    """5 MiB each: connections are slow by themselves, and share the link."""
    async with Emulator(**options) as emulator:  # type: ignore[arg-type]
        api = Api(session, emulator.url, basic("local-key"))
        video_ids = [await api.create() for _ in range(connections)]
        began = time.monotonic()
        await asyncio.gather(*(api.send(video_id, content(PART), expect=201) for video_id in video_ids))
        took = time.monotonic() - began
        assert seconds * 0.97 < took < seconds * 1.5


@pytest_anyio
@pytest.mark.parametrize("settings", [{}, {"link_rate": 100 * MIB}])
async def test_a_line_does_not_wait_for_joining(
    session: aiohttp.ClientSession, settings: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one, an upload's last answer finds it finished; on one, the answer comes when the line says."""
    may_join = threading.Event()
    append = SourceFile.append

    def appended(*arguments: Any) -> None:
        may_join.wait(0 if not settings else 30)
        append(*arguments)

    monkeypatch.setattr(SourceFile, "append", appended)
    async with Emulator(**settings) as emulator:  # type: ignore[arg-type]
        api = Api(session, emulator.url, basic("local-key"))
        video_id = await api.create()
        await api.send(video_id, content(PART), "part 1/1", expect=201)
        assert emulator.videos[video_id].state == ("uploaded" if settings else "finished")
        may_join.set()
        assert (await emulator.finished(video_id)).sha256


@pytest.mark.parametrize(
    ("rate", "expected"), [(None, 262_144), (1, 16_384), (10_000_000, 25_000), (1_000_000_000, 65_536)]
)
def test_slow_lines_are_read_in_small_pieces(rate: float | None, expected: int) -> None:
    assert read_bytes(rate) == expected


@pytest_anyio
async def test_no_initial_burst(session: aiohttp.ClientSession) -> None:
    """A slow line's buffers are small: the client cannot be rid of megabytes at once."""
    async with Emulator(connection_rate=100_000) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        video_id = await api.create()
        async with Raw(emulator.url) as raw:
            await raw.send(upload_head(video_id, "part 1/*", PART))
            await emulator.wait_for(lambda e: e.statistics().uploads_in_flight)
            await asyncio.sleep(0.3)
            assert emulator.statistics().bytes_received < 100_000


@pytest_anyio
async def test_latency(session: aiohttp.ClientSession) -> None:
    """Every answer waits, refusals too."""
    async with Emulator(latency=0.1) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        for path, status in (("/videos", 200), ("/nowhere", 404)):
            began = time.monotonic()
            await api.get(path, expect=status)
            assert time.monotonic() - began >= 0.1
