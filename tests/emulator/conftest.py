"""A running emulator, and a small client that is independent of the uploader."""

from __future__ import annotations

import base64
import io
import logging
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from async_uploader.emulator import Emulator

MIB = 1024 * 1024
PART = 5 * MIB


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes
    json: Any

    @property
    def slug(self) -> str:
        return str(self.json["type"]).rpartition("/")[2]


class Api:
    """A client. Each call asserts that the status is `expect`, if given."""

    def __init__(self, session: aiohttp.ClientSession, url: str, authorization: str | None) -> None:
        self.session = session
        self.url = url
        self.authorization = authorization
        self.get = partial(self.call, "GET")
        self.post = partial(self.call, "POST")
        self.patch = partial(self.call, "PATCH")
        self.delete = partial(self.call, "DELETE")

    async def call(
        self,
        method: str,
        path: str,
        *,
        expect: int | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Reply:
        sent = {} if self.authorization is None else {"Authorization": self.authorization}
        sent.update(headers or {})
        async with self.session.request(
            method, self.url + path, headers=sent, allow_redirects=False, **options
        ) as response:
            body = await response.read()
            is_json = "json" in response.headers.get("Content-Type", "")
            reply = Reply(
                response.status,
                response.headers,
                body,
                await response.json(content_type=None) if is_json else None,
            )
        assert expect in (None, reply.status), reply
        return reply

    async def create(self, title: str = "a video", **details: object) -> str:
        reply = await self.post("/videos", json={"title": title, **details})
        assert reply.status in (201, 202), reply
        return str(reply.json["videoId"])

    async def send(
        self,
        video_id: str,
        data: bytes,
        content_range: str | None = None,
        *,
        expect: int | None = None,
        **options: Any,
    ) -> Reply:
        headers = {} if content_range is None else {"Content-Range": content_range}
        return await self.post(
            f"/videos/{video_id}/source", data=form(data), headers=headers, expect=expect, **options
        )

    async def send_with_token(
        self, token: str, data: bytes, content_range: str | None = None, video_id: str | None = None
    ) -> Reply:
        headers = {} if content_range is None else {"Content-Range": content_range}
        fields = {} if video_id is None else {"videoId": video_id}
        return await self.post("/upload", params={"token": token}, data=form(data, **fields), headers=headers)

    async def status(self, video_id: str) -> Any:
        return (await self.get(f"/videos/{video_id}/status", expect=200)).json

    async def token(self, ttl: int = 0) -> str:
        return str((await self.post("/upload-tokens", json={"ttl": ttl}, expect=200)).json["token"])


def form(data: bytes, **fields: str) -> aiohttp.MultipartWriter:
    """A form of known length, with the fields before the file."""
    writer = aiohttp.MultipartWriter("form-data")
    for name, value in fields.items():
        writer.append(value).set_content_disposition("form-data", name=name)
    writer.append(io.BytesIO(data), {"Content-Type": "video/mp4"}).set_content_disposition(
        "form-data", name="file", filename="movie.mp4"
    )
    return writer


async def finished(api: Api, emulator: Emulator, data: bytes = b"a small video", **details: Any) -> Any:
    """The JSON of a new finished video."""
    video_id = await api.create(**details)
    await api.send(video_id, data, expect=201)
    await emulator.finished(video_id)
    return (await api.get(f"/videos/{video_id}", expect=200)).json


def path(url: str, emulator: Emulator) -> str:
    assert url.startswith(emulator.url)
    return url.removeprefix(emulator.url)


def content(size: int, seed: int = 0) -> bytes:
    """Bytes that differ at every position, so that a part in the wrong place is detected."""
    block = b"".join((seed * 1_000_003 + n).to_bytes(8, "little") for n in range(4096))
    return (block * (size // len(block) + 1))[:size]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_errors_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail if a request makes the emulator log an error."""
    yield
    assert [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator() as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(20)) as running:
        yield running


@pytest.fixture
def api(emulator: Emulator, session: aiohttp.ClientSession) -> Api:
    return Api(session, emulator.url, basic("local-key"))


@pytest.fixture
def visitor(api: Api) -> Api:
    """A client without a key."""
    return Api(api.session, api.url, None)


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """`make_disk(size_bytes)` mounts a file system of this size in memory."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def make(size_bytes: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(disk)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("only root can mount a small file system")
        return disk

    yield make
    subprocess.run(["umount", "--lazy", str(disk)], check=False, capture_output=True)


def basic(user: str, password: str = "") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
