"""Bodies of the web are received without aiohttp's copies, and aiohttp reuses their connections."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import aiohttp
import aiohttp.web
import pytest
import trustme

from async_uploader import Client, events
from async_uploader._api import body_receiver
from async_uploader._api.web_object import WebObject
from async_uploader.emulator import Emulator
from harness.range_server import RangeServer, SourceFault
from harness.world import KEY, PART, QuickClient, service
from tests.faults.proxy import Request, serving

pytestmark = pytest.mark.anyio


@pytest.fixture
def receivers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The receivers that were created."""
    created: list[Any] = []

    class Receiver(body_receiver.BodyReceiver):
        def __init__(self, *arguments: Any) -> None:
            created.append(self)
            super().__init__(*arguments)

    monkeypatch.setattr(body_receiver, "BodyReceiver", Receiver)
    return created


@pytest.fixture
async def client() -> AsyncIterator[tuple[Emulator, Client]]:
    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        yield emulator, client


async def _sha256(emulator: Emulator, video_id: str) -> str | None:
    return (await emulator.finished(video_id)).sha256


@pytest.mark.parametrize("has_tls", [False, True], ids=["http", "https"])
async def test_all_parts_use_one_connection(
    has_tls: bool, content: bytes, receivers: list[Any], client: tuple[Emulator, Client]
) -> None:
    emulator, uploader = client
    context = None
    if has_tls:
        authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        # aiohttp has created it when it was imported, so SSL_CERT_FILE would have no effect.
        authority.configure_trust(aiohttp.connector._SSL_CONTEXT_VERIFIED)
    async with RangeServer(content, tls=context) as server:
        video = await uploader.upload(server.url(), fetch="here", part_size=PART, concurrency=1)
        assert await _sha256(emulator, video.video_id) == hashlib.sha256(content).hexdigest()
        assert (len(server.requests), server.connections) == (4, 1)
    assert len(receivers) >= 2, "small bodies have arrived before"


async def test_a_cut_keeps_the_bytes_that_have_arrived(
    content: bytes, receivers: list[Any], client: tuple[Emulator, Client]
) -> None:
    emulator, uploader = client
    found: list[events.UploadEvent] = []
    async with RangeServer(content, SourceFault(skip=1, cut_after=0.5)) as server:
        video = await uploader.upload(
            server.url(), fetch="here", part_size=PART, concurrency=1, on_event=found.append
        )
        assert await _sha256(emulator, video.video_id) == hashlib.sha256(content).hexdigest()
        ranges = [request.headers["range"] for request in server.requests]
    assert not [event for event in found if isinstance(event, events.RetryScheduled)], "no part was sent again"
    rest = int(ranges[2].removeprefix("bytes=").split("-")[0])
    assert PART // 2 - PART // 100 <= rest <= PART // 2, "only the rest was requested"
    assert receivers


async def test_a_slow_source_does_not_stall(receivers: list[Any]) -> None:
    """Its bytes are passed on before the buffer is full."""
    content = bytes(range(30))
    proceed = asyncio.Event()

    async def respond(request: Request, writer: asyncio.StreamWriter) -> None:
        first, last = map(int, request.head.partition(b"bytes=")[2].partition(b"\r\n")[0].split(b"-"))
        head = f"HTTP/1.1 206 OK\r\nContent-Range: bytes {first}-{last}/30\r\nContent-Length: {last - first + 1}"
        writer.write(f"{head}\r\n\r\n".encode())
        for start in range(first, last + 1, 10):
            writer.write(content[start : min(start + 10, last + 1)])
            await writer.drain()
            if last:
                await proceed.wait()
                proceed.clear()

    received = b""
    async with serving(respond) as url:
        web_object = await WebObject.open(f"{url}/movie.mp4")
        async with aclosing(web_object.read(0, 30)) as chunks:
            async for chunk in chunks:
                received += chunk
                assert received == content[: len(received)]
                if not len(received) % 10:
                    proceed.set()
        await web_object.aclose()
    assert received == content
    assert receivers


async def test_a_body_without_a_length(
    content: bytes, receivers: list[Any], client: tuple[Emulator, Client]
) -> None:
    """aiohttp decodes it."""
    emulator, uploader = client

    async def respond(request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        selected = request.http_range
        first, end = selected.start or 0, min(selected.stop or len(content), len(content))
        headers = {"Content-Range": f"bytes {first}-{end - 1}/{len(content)}", "ETag": '"1"'}
        response = aiohttp.web.StreamResponse(status=206, headers=headers)
        response.enable_chunked_encoding()
        await response.prepare(request)
        for start in range(first, end, 256 * 1024):
            await response.write(content[start : min(start + 256 * 1024, end)])
            await asyncio.sleep(0)
        return response

    server = aiohttp.web.Application()
    server.router.add_get("/movie.mp4", respond)
    runner = aiohttp.web.AppRunner(server)
    await runner.setup()
    try:
        await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/movie.mp4"
        video = await uploader.upload(url, fetch="here", part_size=PART)
        assert await _sha256(emulator, video.video_id) == hashlib.sha256(content).hexdigest()
    finally:
        await runner.cleanup()
    assert not receivers
