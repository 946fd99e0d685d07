"""Rate limits, throttling and latency."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import fields
from typing import Any

import aiohttp
import pytest

from async_uploader.emulator import Emulator, EmulatorOptions
from async_uploader.emulator._config import Config
from async_uploader.emulator._http.rate_limit import Budget, RateLimiter
from async_uploader.emulator._http.throttle import Pacer, read_bytes
from async_uploader.emulator._storage.source_file import SourceFile

from .conftest import MIB, PART, Api, basic, content
from .raw import Raw, upload_head


def test_windows() -> None:
    """A window opens with its first request. The limits have the ratio of the contract."""
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
    """Without a limit, nothing is refused, and the headers report a high limit."""
    limiter = RateLimiter(None, 60)
    assert all(limiter.admit(Budget.UPLOADS, 0) for _ in range(1000))
    assert int(limiter.headers(Budget.UPLOADS, 0)["X-RateLimit-Remaining"]) > 100_000


def test_pacer() -> None:
    """A pacer compensates for late timers, and does not save idle time."""
    pacer = Pacer(1000, now=0.0)
    assert pacer.take(100, now=0.0) == pytest.approx(0.1)
    assert pacer.take(100, now=0.11) == pytest.approx(0.2)
    assert pacer.take(100, now=5.0) == pytest.approx(5.08)


def test_shared_pacer() -> None:
    """Tasks that share a pacer wait for each other."""
    pacer = Pacer(1000, now=0.0)
    assert [pacer.take(100, now=0.0) for _ in range(3)] == pytest.approx([0.1, 0.2, 0.3])


pytest_anyio = pytest.mark.anyio


@pytest_anyio
async def test_429_costs_no_body(session: aiohttp.ClientSession) -> None:
    """A 429 is sent before the body is read. A body that is sent anyway is counted."""
    async with Emulator(rate_limit=1) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        video_id = await api.create()
        await api.send(video_id, content(PART), "part 1/*", expect=201)
        async with Raw(emulator.url) as raw:
            await raw.send(upload_head(video_id, "part 2/*", PART).partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
            assert (await raw.response()).slug == "too-many-requests"
        await emulator.wait_for(lambda e: e.statistics().requests == 3)
        assert emulator.statistics().bodies_into_429 == 0
        await api.send(video_id, content(PART), "part 2/*", expect=429)
        await emulator.wait_for(lambda e: e.statistics().bodies_into_429 == 1)
        assert emulator.statistics().bytes_into_429 > 0


@pytest_anyio
async def test_window_reopens(session: aiohttp.ClientSession) -> None:
    """Requests are accepted again after the window. Logins are not limited."""
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
async def test_throttling(
    session: aiohttp.ClientSession, options: dict[str, float], connections: int, seconds: float
) -> None:
    """Each connection has its own rate, and all share the rate of the link."""
    async with Emulator(**options) as emulator:  # type: ignore[arg-type]
        api = Api(session, emulator.url, basic("local-key"))
        video_ids = [await api.create() for _ in range(connections)]
        started = time.monotonic()
        await asyncio.gather(*(api.send(video_id, content(PART), expect=201) for video_id in video_ids))
        elapsed = time.monotonic() - started
        assert seconds * 0.97 < elapsed < seconds * 3  # less than if all shared one connection's rate


@pytest_anyio
@pytest.mark.parametrize("settings", [{}, {"link_rate": 100 * MIB}])
async def test_throttled_uploads_do_not_wait_for_joining(
    session: aiohttp.ClientSession, settings: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last response of an upload waits for the join, unless the connection is throttled."""
    may_join = threading.Event()
    append = SourceFile.append

    def delayed_append(*arguments: Any) -> None:
        may_join.wait(0 if not settings else 30)
        append(*arguments)

    monkeypatch.setattr(SourceFile, "append", delayed_append)
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
def test_read_sizes(rate: float | None, expected: int) -> None:
    """Throttled connections are read in small blocks."""
    assert read_bytes(rate) == expected


@pytest_anyio
async def test_no_initial_burst(session: aiohttp.ClientSession) -> None:
    """A throttled connection has small buffers, so that the client cannot send megabytes at once."""
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
    """Every response is delayed, including errors."""
    async with Emulator(latency=0.1) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        for path, status in (("/videos", 200), ("/nowhere", 404)):
            started = time.monotonic()
            await api.get(path, expect=status)
            assert time.monotonic() - started >= 0.1


def test_every_option_is_described() -> None:
    """`EmulatorOptions` has the fields of `Config`."""
    assert list(EmulatorOptions.__annotations__) == [field.name for field in fields(Config)]
    for name in EmulatorOptions.__annotations__:
        assert f":param {name}: " in str(EmulatorOptions.__doc__)
