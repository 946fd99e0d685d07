"""`limit_rate`: bytes per second, as the receiver counts them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import anyio
import pytest
from aiohttp import web

from async_uploader import Client, ConfigurationError, events
from async_uploader._api.multipart import BlockPool, PartBody
from async_uploader._flow.bandwidth import Bandwidth
from async_uploader.emulator import Emulator

from .conftest import LOOPS, MIB
from .test_multipart import Bytes, Unobserved, _contexts, serving

KEY = "local-key"
MakeFile = Callable[..., Path]


class Arrivals:
    """A handler that counts the bytes that arrive."""

    def __init__(self) -> None:
        self.times: list[tuple[float, int]] = []

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        async for chunk in request.content.iter_any():
            self.times.append((time.monotonic(), len(chunk)))
        return web.Response()

    def rates(self, seconds: float) -> list[float]:
        """Bytes per second in each whole span of this length."""
        began = self.times[0][0]
        spans = [0] * int((self.times[-1][0] - began) / seconds)
        for at, count_bytes in self.times:
            if (span := int((at - began) / seconds)) < len(spans):
                spans[span] += count_bytes
        return [count_bytes / seconds for count_bytes in spans]


def _body(size_bytes: int, bandwidth: Bandwidth, pool: BlockPool) -> PartBody:
    return PartBody(
        Bytes(b"x" * size_bytes),
        size_bytes=size_bytes,
        filename="a.mp4",
        form_fields={},
        pool=pool,
        observer=Unobserved(),
        bandwidth=bandwidth,
    )


@pytest.mark.parametrize("anyio_backend", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_many_connections_share_an_even_rate(tls: bool) -> None:
    """Over five seconds the receiver gets the rate within 10 %, and about as much in each second."""
    server, client = _contexts() if tls else (None, None)
    arrivals, bandwidth, pool = Arrivals(), Bandwidth(2 * MIB), BlockPool()

    async def post(session: aiohttp.ClientSession, url: str) -> None:
        async with session.post(url, data=_body(2 * MIB, bandwidth, pool)) as response:
            assert response.status == 200

    async with (
        serving(arrivals, server) as url,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client or True)) as session,
        anyio.create_task_group() as posts,
    ):
        for _ in range(6):
            posts.start_soon(post, session, url)
    (over_five_seconds,) = arrivals.rates(5)
    assert over_five_seconds == pytest.approx(2 * MIB, rel=0.1)
    assert all(rate == pytest.approx(2 * MIB, rel=0.5) for rate in arrivals.rates(1))


async def test_without_a_limit_no_write_is_delayed(make_file: MakeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that is not used costs nothing."""

    async def held_back(*_: object) -> None:
        pytest.fail("a write was held back")

    monkeypatch.setattr(PartBody, "_hold_back", held_back)
    async with Emulator() as emulator, Client(api_key=KEY, base_url=emulator.url) as client:
        await client.upload(make_file(6 * MIB))


async def test_uploads_of_a_client_share_the_limit(make_file: MakeFile) -> None:
    paths = [make_file(6 * MIB, f"{number}.mp4") for number in range(3)]
    received: list[events.UploadEvent] = []
    async with Emulator() as emulator, Client(api_key=KEY, base_url=emulator.url, limit_rate=3 * MIB) as client:
        await asyncio.gather(*(client.upload(path, on_event=received.append) for path in paths))
    ended = [event for event in received if isinstance(event, events.PartEnded)]
    seconds = max(event.at_seconds for event in ended) - min(event.began_at_seconds for event in ended)
    assert 18 * MIB / seconds == pytest.approx(3 * MIB, rel=0.1)


async def test_waiting_for_the_limit_is_no_stall(make_file: MakeFile) -> None:
    """The next write is allowed two seconds after the last one, which is longer than the stall timeout."""
    received: list[events.UploadEvent] = []
    async with Emulator() as emulator, Client(api_key=KEY, base_url=emulator.url, limit_rate=512) as client:
        await client.upload(make_file(2000), stall_timeout=1.0, on_event=received.append)
    assert not [event for event in received if isinstance(event, events.RetryScheduled)]


async def test_a_cancelled_write_gives_its_bytes_back() -> None:
    bandwidth = Bandwidth(1000)
    await bandwidth.take(100)
    await bandwidth.take(1000)
    with anyio.move_on_after(0.01):
        await bandwidth.take(60_000)
    with anyio.fail_after(5):
        await bandwidth.take(1)


def test_writes_are_short_at_each_rate() -> None:
    for rate, size in itertools.product((1, 1000, 10**6, 10**9), (1,)):
        assert Bandwidth(rate).write_bytes >= size
        assert Bandwidth(rate).write_bytes <= max(1024, rate / 50)


@pytest.mark.parametrize("rate", [0, -1, 0.5, float("nan"), float("inf"), True, "2MiB"])
def test_invalid_rates(rate: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^limit_rate must be a number of bytes per second from 1, not "):
        Client(api_key=KEY, limit_rate=rate)  # type: ignore[arg-type]
