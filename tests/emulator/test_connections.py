"""More connections than file descriptors: active connections are served."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from async_uploader.emulator import Emulator
from async_uploader.emulator._http.connections import Connections
from harness.forking import Forks

from .conftest import MIB, Api, basic
from .raw import Raw, upload_head

pytestmark = pytest.mark.anyio

_PROGRAM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[1])))
if sys.argv[2] == "uvloop":
    import asyncio, uvloop
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
from async_uploader.cli import main
sys.argv[1:] = ["emulator"]
main()
"""
HALF_HEADER = b"GET /videos HTTP/1.1\r\nHost: loc"
HALF_BODY = (
    f"POST /videos HTTP/1.1\r\nHost: localhost\r\nAuthorization: {basic('local-key')}\r\n"
    "Content-Length: 99\r\n\r\n{"
).encode()


@dataclass
class EmulatorProcess:
    """An emulator's process, and connections to it."""

    url: str
    process: subprocess.Popen[str]
    api: Api
    stack: AsyncExitStack

    async def connect(self, count: int, start: bytes) -> list[Raw]:
        """Open `count` connections that send `start` and nothing else."""

        async def one() -> Raw:
            raw = await self.stack.enter_async_context(Raw(self.url))
            if start:
                await raw.send(start)
            return raw

        return [await one() for _ in range(count)]

    async def stop(self) -> list[str]:
        """Stop the process; returns the lines of its standard error."""
        self.process.terminate()
        _, err = await asyncio.to_thread(self.process.communicate, timeout=30)
        assert self.process.returncode == 0
        assert "Traceback" not in err
        return err.splitlines()


@asynccontextmanager
async def emulator_process(
    forks: Forks, directory: Path, session: aiohttp.ClientSession, descriptors: int, loop: str = "asyncio"
) -> AsyncIterator[EmulatorProcess]:
    process = forks.python(
        "-c", _PROGRAM, str(descriptors), loop, cwd=directory, env={**os.environ, "TMPDIR": str(directory)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    async with AsyncExitStack() as stack:
        stack.enter_context(process)
        stack.callback(process.kill)
        assert process.stdout is not None
        url = (await asyncio.to_thread(process.stdout.readline)).split()[-1]
        yield EmulatorProcess(url, process, Api(session, url, basic("local-key")), stack)


@pytest.fixture
async def session_without_keep_alive() -> AsyncIterator[aiohttp.ClientSession]:
    """Opens a connection for each request."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(20)) as running:
        yield running


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("start", [b"", HALF_HEADER], ids=["idle", "half a header"])
async def test_idle_connections_are_replaced(
    forks: Forks, tmp_path: Path, session_without_keep_alive: aiohttp.ClientSession, loop: str, start: bytes
) -> None:
    """Requests and uploads are served with 150 idle connections and 100 descriptors."""
    async with emulator_process(forks, tmp_path, session_without_keep_alive, 100, loop) as running:
        await running.connect(150, start)
        for _ in range(5):
            video_id = await running.api.create()
            await running.api.send(video_id, b"x" * 2 * MIB, expect=201)
        (line,) = await running.stop()
        assert line.startswith("warning: Closed the connection that was idle longest: a new one replaces it. ")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_busy_connections_are_kept(
    forks: Forks, tmp_path: Path, session_without_keep_alive: aiohttp.ClientSession, loop: str
) -> None:
    """If all connections are busy, new ones are refused until one becomes idle."""
    async with emulator_process(forks, tmp_path, session_without_keep_alive, 100, loop) as running:
        begun = await running.connect(30, HALF_BODY)
        while (refused := await running.api.get("/videos")).status == 200:
            begun += await running.connect(1, HALF_BODY)
        assert refused.status == 503
        assert len(begun) < 100
        assert refused.slug == "service-unavailable"
        assert refused.headers["Retry-After"] == "1"
        first, *others = begun
        await first.send(b'"title": "x"}'.ljust(98))
        assert (await first.response()).status == 201
        for other in others:
            await other.__aexit__(None, None, None)
        while (await running.api.get("/videos")).status == 503:
            pass  # the emulator has not noticed all disconnects yet
        assert (await running.api.get("/videos", expect=200)).json["pagination"]["itemsTotal"] == 1
        lines = await running.stop()
        assert sum(line.startswith("warning: Refused a connection: all others are busy. ") for line in lines) == 1
        assert len(lines) <= 2


async def test_half_sent_uploads(
    forks: Forks, tmp_path: Path, session_without_keep_alive: aiohttp.ClientSession
) -> None:
    """The descriptors are enough for the files of uploads, too."""
    async with emulator_process(forks, tmp_path, session_without_keep_alive, 100) as running:
        video_id = await running.api.create()
        half = upload_head(video_id, None, 3 * MIB) + b"x" * (2 * MIB)
        for raw in await running.connect(40, b""):
            await raw.send(half)
        status = {(await running.api.get("/videos")).status for _ in range(5)}
        assert status <= {200, 503}
        assert len(await running.stop()) <= 2


async def test_other_code_uses_descriptors(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Accepting is retried if other code of the program has used all descriptors."""
    async with Emulator() as emulator:
        accept, failures = Connections._accept, [errno.EMFILE, errno.ENFILE, errno.ECONNABORTED]

        async def failing(connections: Connections, listener: socket.socket) -> None:
            if failures:
                code = failures.pop(0)
                raise OSError(code, os.strerror(code))
            await accept(connections, listener)

        monkeypatch.setattr(Connections, "_accept", failing)
        for _ in range(3):
            async with aiohttp.ClientSession() as fresh:
                await Api(fresh, emulator.url, basic("local-key")).get("/videos", expect=200)
    assert failures == []
    (record,) = caplog.records
    assert (record.levelno, record.exc_info) == (logging.WARNING, None)
    assert record.getMessage().startswith("Cannot accept a connection: Too many open files. ")


async def test_files_that_cannot_be_opened(emulator: Emulator, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request gets 503 if its file cannot be opened, and succeeds on a retry."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    video_id = await api.create()
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.mkstemp", fail)
        assert (await api.send(video_id, b"x", expect=503)).slug == "service-unavailable"
        patch.setattr("async_uploader.emulator._storage.store.Store.read_text", fail)
        assert (await api.get("/", expect=503)).slug == "service-unavailable"
    await api.send(video_id, b"x", expect=201)
    await api.get("/", expect=200)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_ten_thousand_connections(
    forks: Forks, tmp_path: Path, session_without_keep_alive: aiohttp.ClientSession, loop: str
) -> None:
    """Memory is bounded with as many connections as the hard limit allows: idle, half a header, half a body."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10_000, hard - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        async with emulator_process(forks, tmp_path, session_without_keep_alive, hard, loop) as running:
            process = psutil.Process(running.process.pid)
            before = process.memory_info().rss
            for start in (b"", HALF_HEADER, HALF_BODY):
                await running.connect(count // 3, start)
                video_id = await running.api.create()
                await running.api.send(video_id, b"x" * 2 * MIB, expect=201)
            used = process.memory_info().rss - before
            assert used < 40_000 * count, f"{used / count:.0f} bytes a connection"
            await running.stop()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
