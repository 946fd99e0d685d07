"""HTTPS with a certificate of the emulator's own authority."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from async_uploader.emulator import Emulator
from async_uploader.pytest_plugin import running_emulator

from .conftest import Api, basic

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.anyio


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(tls=True, allowed_hosts=["videos.example"]) as emulator:
        yield emulator


@pytest.fixture
async def api(emulator: Emulator) -> AsyncIterator[Api]:
    """A client that trusts only the emulator's authority."""
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=emulator.ca_file))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Api(session, emulator.url, basic("local-key"))


async def test_uploads(emulator: Emulator, api: Api) -> None:
    """The API, assets and the page are served with https."""
    assert emulator.url.startswith("https://127.0.0.1:")
    video_id = await api.create()
    reply = await api.send(video_id, b"all of it", expect=201)
    assert reply.json["assets"]["player"].startswith(emulator.url)
    await emulator.finished(video_id)
    mp4 = reply.json["assets"]["mp4"].removeprefix(emulator.url)
    assert (await api.get(mp4, expect=200)).body == b"all of it"
    await api.get("/", expect=200)
    await api.post("/_emulator/reset", headers={"Origin": emulator.url}, expect=204)


def test_a_client_in_another_process(tmp_path: Path) -> None:
    """Clients need only `SSL_CERT_FILE`, which is in `RunningEmulator.env`."""
    movie = tmp_path / "movie.mp4"
    movie.write_bytes(b"a video")
    with running_emulator(tls=True) as running:
        subprocess.run(
            [sys.executable, "-m", "async_uploader", "upload", str(movie), "--quiet", "--no-resume"],
            env={**os.environ, **running.env},
            check=True,
            timeout=20,
        )
        [video_id] = running.videos
        assert running.wait_until_finished(video_id).size_bytes == 7


async def test_names(emulator: Emulator) -> None:
    """The certificate is for this machine's names, and for allowed hosts."""
    port = int(emulator.url.rpartition(":")[2])
    context = ssl.create_default_context(cafile=emulator.ca_file)

    def connect(name: str) -> None:
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain, server_hostname=name),
        ):
            pass

    for name in ("localhost", "127.0.0.1", "::1", "videos.example"):
        await asyncio.to_thread(connect, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.to_thread(connect, "evil.example")


async def test_bad_clients(emulator: Emulator, api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """Clients that speak plain HTTP, or never finish the handshake, disturb nobody."""
    port = int(emulator.url.rpartition(":")[2])
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert not (await reader.read()).startswith(b"HTTP")
    await api.get("/videos", expect=200)
    for _, each in (*silent, (reader, writer)):
        each.close()
    assert caplog.records == []


async def test_a_stop_ends_handshakes() -> None:
    """An emulator that stops does not wait for handshakes."""
    async with Emulator(tls=True) as emulator:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(emulator.url.rpartition(":")[2]))
        while not emulator._connections._handshakes:  # noqa: ASYNC110 - no event tells of an accepted connection
            await asyncio.sleep(0)
    assert await reader.read() == b""
    writer.close()


def test_without_trustme(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(ValueError, match=r"TLS needs the package trustme\. Install async-uploader\[tls\]\."):
        Emulator(tls=True)


def test_the_command() -> None:
    """The first line is the address, the second the path of the CA file, which works and is removed."""
    command = [sys.executable, "-m", "async_uploader", "emulator", "--tls", "-vv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("listening on ").strip()
        ca_file = Path(process.stdout.readline().strip())
        shown = (ROOT / "docs" / "emulator.md").read_text(encoding="utf-8")
        documented = re.search(r"^listening on https://[0-9.]+:\d+\n/.*/(\S+)$", shown, re.MULTILINE)
        assert documented
        assert ca_file.name == documented[1]
        context = ssl.create_default_context(cafile=ca_file)
        port = int(url.removeprefix("https://127.0.0.1:"))
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            connection.sendall(b"GET /videos HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 401 ")
        process.terminate()
        _, logged = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "GET /videos → 401 authentication-missing-authorization-header [" in logged
    assert "  > Host: localhost" in logged
    assert not ca_file.exists()
