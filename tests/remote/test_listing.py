"""``--recursive`` with a prefix of a store, whose listing has several pages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from async_uploader._sources.listing import list_objects
from async_uploader.emulator import Emulator
from harness.world import service
from tests.faults.proxy import Request, serving

from .conftest import RunCommand
from .counterparts import Bucket

pytestmark = pytest.mark.anyio

#: As many keys as the uploader reads at once.
PAGE = 10


class Store:
    """moto, behind a proxy that holds back and breaks requests for pages of listings.

    :ivar pages: number of requests for pages
    :ivar is_open: set: requests for further pages are forwarded
    :ivar is_waiting: set: a request for a further page waits
    :ivar failures: responses to the next requests for further pages
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = urlsplit(endpoint)
        self.pages = 0
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.is_waiting = asyncio.Event()
        self.failures: list[bytes] = []

    async def handle(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if "list-type=2" in request.path:
            self.pages += 1
            if "continuation-token" in request.path or "start-after" in request.path:
                self.is_waiting.set()
                await self.is_open.wait()
                if self.failures:
                    writer.write(self.failures.pop(0))
                    await writer.drain()
                    return
        await self._forward(request, writer)

    async def _forward(self, request: Request, writer: asyncio.StreamWriter) -> None:
        reader, upstream = await asyncio.open_connection(self._endpoint.hostname, self._endpoint.port)
        try:
            upstream.write(request.head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + request.body)
            writer.write(await reader.read())
            await writer.drain()
        finally:
            upstream.close()


@pytest.fixture
async def store(bucket: Bucket, moto: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    """The store of the bucket, whose listings have small pages."""
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", str(PAGE))
    store = Store(bucket.environment["AWS_ENDPOINT_URL"])
    async with serving(store.handle) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        yield store


def _failure(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


def _put(bucket: Bucket, count: int) -> list[str]:
    """Store objects whose order by name is that of their numbers; returns their URLs."""
    return [bucket.put(f"films/{number:02}.mp4", f"film {number}".encode()) for number in range(count)]


def _titles(emulator: Emulator) -> list[str]:
    return sorted(video.title for video in emulator.videos.values())


@asynccontextmanager
async def _running(
    start: Callable[..., Any], emulator: Emulator, *arguments: str
) -> AsyncIterator[asyncio.Task[tuple[str, str]]]:
    process = start(emulator, *arguments)
    ended = asyncio.create_task(asyncio.to_thread(process.communicate, timeout=30))
    try:
        yield ended
    finally:
        process.kill()
        await asyncio.wait([ended])


async def test_uploads_complete_before_the_last_page_is_listed(
    bucket: Bucket, store: Store, start_upload: Callable[..., Any], tmp_path: Path
) -> None:
    urls = _put(bucket, 2 * PAGE + 1)
    store.is_open.clear()
    async with service() as emulator:
        arguments = ("--recursive", bucket.url("films/"), "--results", "results.jsonl", "--json")
        async with _running(start_upload, emulator, *arguments) as ended:
            await emulator.wait_for(lambda emulator: _complete(emulator) == PAGE)
            await store.is_waiting.wait()
            assert store.pages == 2
            assert not ended.done()
            store.is_open.set()
            out, err = await ended
        assert _titles(emulator) == [f"{number:02}.mp4" for number in range(2 * PAGE + 1)], err
        assert [video["title"] for video in json.loads(out)] == _titles(emulator), "the order of the listing"
        assert err.endswith(f"{2 * PAGE + 1} of {2 * PAGE + 1} uploaded\n")
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["path"] for line in lines) == urls


def _complete(emulator: Emulator) -> int:
    return sum(view.sha256 is not None for view in emulator.videos.values())


async def test_a_page_that_fails(bucket: Bucket, store: Store, run_upload: RunCommand, tmp_path: Path) -> None:
    """Uploads of earlier pages are finished. The same command uploads the others."""
    _put(bucket, 2 * PAGE + 1)
    url = bucket.url("films/")
    store.failures = [_failure("503 Slow Down"), _failure("403 Forbidden")]
    (tmp_path / "last.mp4").write_bytes(b"last")
    arguments = ("--recursive", url, "last.mp4", "--results", "results.jsonl")
    async with service() as emulator:
        ended = await run_upload(emulator, *arguments)
        assert ended.code == 1
        problem = f"Access to {url} was denied; check the credentials of the store."
        assert f"error: {url}: {problem} The objects that follow are not uploaded.\n" in ended.err, ended.err
        assert "the store responded with 503. Retrying in" in ended.err
        assert ended.err.endswith(f"{PAGE + 1} of {PAGE + 2} uploaded, 1 failed\n")
        assert _titles(emulator) == [*(f"{number:02}.mp4" for number in range(PAGE)), "last.mp4"]
        ended = await run_upload(emulator, *arguments)
        assert ended.code == 0, ended.err
        assert _titles(emulator) == [*(f"{number:02}.mp4" for number in range(2 * PAGE + 1)), "last.mp4"]
        assert f"{PAGE + 1} already finished" in ended.err


async def test_a_page_that_fails_for_a_moment(bucket: Bucket, store: Store, run_upload: RunCommand) -> None:
    """The listing continues after the last key, so no object is listed twice."""
    _put(bucket, 2 * PAGE)
    store.failures = [_failure("503 Slow Down")]
    async with service() as emulator:
        ended = await run_upload(emulator, "--recursive", bucket.url("films/"))
        assert ended.code == 0, ended.err
        assert _titles(emulator) == [f"{number:02}.mp4" for number in range(2 * PAGE)]


async def test_listings_that_overlap(bucket: Bucket, run_upload: RunCommand) -> None:
    for key in ("films/a.mp4", "films/new/b.mp4", "films/new/c.mp4"):
        bucket.put(key, b"film")
    whole, part = bucket.url("films/"), bucket.url("films/new")
    async with service() as emulator:
        for sources in ((whole, part), (part, whole), (part, f"{part}/")):
            ended = await run_upload(emulator, "--recursive", *sources)
            assert ended.code == 2
            assert ended.err == f"error: {bucket.url('films/new/b.mp4')} is listed twice.\n"
        assert not emulator.requests
        # Only the glob of a path distinguishes the listings: their first objects are no common ones.
        ended = await run_upload(
            emulator, "--recursive", part, whole, "--include", "b.mp4", "--include", "new/c.*"
        )
        assert ended.code == 2


async def test_placeholders_of_directories(bucket: Bucket, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be separated from the objects of their directory by other keys, and end a page."""
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
    for key, content in (
        ("films/", b""),
        ("films/a/", b""),
        ("films/a-1.mp4", b"film"),
        ("films/a/b/", b""),
        ("films/a/b/c.mp4", b"film"),
        ("films/empty.mp4", b""),
        ("films/none/", b""),
        ("films/z.mp4", b"film"),
    ):
        bucket.put(key, content)
    # Some tools create a placeholder without a slash.
    bucket.put("films/a", b"")
    async with aclosing(list_objects(bucket.url("films"), stall_seconds=10, max_attempts=1)) as keys:
        listed = [key async for key in keys]
    assert listed == ["a-1.mp4", "a/b/c.mp4", "empty.mp4", "none", "z.mp4"]
    assert store.pages > 1


async def test_a_page_that_never_arrives(bucket: Bucket, store: Store) -> None:
    from async_uploader import SourceUnavailable

    _put(bucket, PAGE + 1)
    store.is_open.clear()
    async with aclosing(list_objects(bucket.url("films"), stall_seconds=1.0, max_attempts=2)) as keys:
        listed = [await anext(keys) for _ in range(PAGE)]
        with pytest.raises(SourceUnavailable, match=r"cannot be listed: no response for 1 s\."):
            await anext(keys)
    assert listed == [f"{number:02}.mp4" for number in range(PAGE)]
    assert store.pages >= 3
