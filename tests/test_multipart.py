"""The multipart body of a part: its format, and the reuse of its buffer."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import hashlib
import mmap
import os
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import anyio
import pytest
import trustme
from aiohttp import web

from async_uploader._api.multipart import BLOCK_BYTES, SMALL_BLOCK_BYTES, BlockPool, PartBody, quoted
from async_uploader._buffers import page_aligned_buffer
from async_uploader._flow.throughput import BodyInTransit

from .conftest import LOOPS

MIB = 1024 * 1024

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Bytes:
    """A reader of bytes in memory, in blocks of odd lengths."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    async def readinto(self, buffer: memoryview) -> int:
        await anyio.lowlevel.checkpoint()
        count = min(len(buffer), 777_777, len(self._data))
        buffer[:count] = self._data[:count]
        self._data = self._data[count:]
        return count


class Unobserved:
    """An observer that ignores everything."""

    def body_started(self, body: BodyInTransit) -> None:
        pass

    def sent(self, count_bytes: int) -> None:
        pass

    def replacement_factor(self, body: BodyInTransit, size_bytes: int) -> None: ...

    def body_ended(self, body: BodyInTransit) -> None:
        pass


def body_of(data: bytes, *, filename: str = "movie.mp4", pool: BlockPool | None = None, **fields: str) -> PartBody:
    return PartBody(
        Bytes(data),
        size_bytes=len(data),
        filename=filename,
        form_fields=fields,
        pool=pool or BlockPool(),
        observer=Unobserved(),
    )


@contextlib.asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"{'https' if tls else 'http'}://{host}:{port}/"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("movie.mp4", "movie.mp4"),
        ('a"b', "a%22b"),
        ("a\r\nX-Evil: 1", "a%0D%0AX-Evil: 1"),
        ("a\\", "a%5C"),
        ("été 日本.mp4", "été 日本.mp4"),
    ],
)
def test_quoted(name: str, header: str) -> None:
    assert quoted(name) == header


@pytest.mark.parametrize(
    "size_bytes",
    [1, SMALL_BLOCK_BYTES, SMALL_BLOCK_BYTES + 1],
    ids=["one byte", "the largest that is sent at once", "in blocks"],
)
async def test_the_body_is_one_file_field_with_a_content_length(size_bytes: int) -> None:
    seen: dict[str, str] = {}
    content = "0123456789"[:size_bytes].ljust(size_bytes, "x")

    async def handler(request: web.BaseRequest) -> web.Response:
        seen.update(request.headers)
        reader = await request.multipart()
        async for field in reader:
            assert isinstance(field, aiohttp.BodyPartReader)
            seen[f"{field.name} {field.filename}"] = bytes(await field.read()).decode()
        return web.Response()

    async with serving(handler) as url, aiohttp.ClientSession() as session:
        body = body_of(content.encode(), filename='x"; name="y', videoId="vi1")
        async with session.post(url, data=body) as response:
            assert response.status == 200
    assert "Transfer-Encoding" not in seen
    assert int(seen["Content-Length"]) == body.size
    assert seen["videoId None"] == "vi1"
    assert seen["file x%22; name=%22y"] == content


def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@pytest.mark.parametrize("anyio_backend", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_reusing_the_buffer_changes_no_byte_for_a_slow_peer(tls: bool) -> None:
    """The peer pauses between reads, so that the transport has to keep some of the written bytes."""
    server, client = _contexts() if tls else (None, None)
    data = random.Random(1).randbytes(24 * MIB)
    digests: list[str] = []

    async def handler(request: web.BaseRequest) -> web.Response:
        digest, rest = hashlib.sha256(), len(data)
        head_bytes = (request.content_length or 0) - len(data) - len(tail)
        await request.content.readexactly(head_bytes)
        while rest:
            for _ in range(20):  # let the buffers of the sender fill
                await asyncio.sleep(0)
            chunk = await request.content.read(min(rest, 300_000))
            digest.update(chunk)
            rest -= len(chunk)
        await request.content.read()
        digests.append(digest.hexdigest())
        return web.Response()

    pool = BlockPool()
    tail = body_of(b"")._tail
    async with (
        serving(handler, server) as url,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client or True)) as session,
        anyio.create_task_group() as uploads,
    ):
        for _ in range(3):
            uploads.start_soon(_post, session, url, body_of(data, pool=pool))
    assert digests == [hashlib.sha256(data).hexdigest()] * 3
    assert 1 <= len(pool._free[BLOCK_BYTES]) <= 3


async def _post(session: aiohttp.ClientSession, url: str, body: PartBody) -> None:
    async with session.post(url, data=body) as response:
        assert response.status == 200


def test_many_parts_in_flight_use_small_blocks() -> None:
    pool = BlockPool()
    with contextlib.ExitStack() as parts:
        for _ in range(8):
            parts.enter_context(pool.part())
        assert len(pool.take()) == BLOCK_BYTES
        parts.enter_context(pool.part())
        assert len(pool.take()) == SMALL_BLOCK_BYTES
    assert len(pool.take()) == BLOCK_BYTES
    assert len(pool.take(is_small=True)) == SMALL_BLOCK_BYTES
    assert len(pool.take(is_small=True)) == SMALL_BLOCK_BYTES


def test_blocks_are_page_aligned() -> None:
    for block in (BlockPool().take(), page_aligned_buffer(100)):
        assert ctypes.addressof(ctypes.c_char.from_buffer(block)) % mmap.PAGESIZE == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork()")
def test_blocks_are_not_shared_with_forked_processes() -> None:
    block = page_aligned_buffer(1)
    if not (child := os.fork()):
        block[0] = 1
        os._exit(0)
    os.waitpid(child, 0)
    assert block[0] == 0
