"""`UploadControl`: pauses and resumes uploads without losing a part."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

from async_uploader import Client, ConfigurationError, Progress, UploadControl, UploadItem
from async_uploader.emulator import Emulator
from harness.world import KEY, QuickClient, service, uploads

from .conftest import LOOPS, MIB, sha256

pytestmark = pytest.mark.anyio
MakeFile = Callable[..., Path]

# More than the buffers of a connection hold on this machine.
LARGE_PART = 16 * MIB
# Bytes per second and connection: a part takes a second.
RATE = LARGE_PART
STALL = 0.3


class Paused:
    """An upload that is paused in the middle of its parts. Use it as an async context manager."""

    def __init__(self, client: Client, path: Path, **options: Any) -> None:
        self.control = UploadControl()
        self._middle = asyncio.Event()
        self._call = client.upload(
            path,
            control=self.control,
            on_progress=self._on_progress,
            **{"part_size": LARGE_PART, "concurrency": 2, "stall_timeout": STALL, **options},
        )

    def _on_progress(self, progress: Progress) -> None:
        if progress.delivered_bytes > LARGE_PART // 8 and not self._middle.is_set():
            self.control.pause()
            self._middle.set()

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self._call)
        await self._middle.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def wait_until_idle(emulator: Emulator) -> None:
    """Wait until no byte has arrived for longer than the stall timeout."""
    received: list[int] = []
    while received[-2:-1] != received[-1:] or not received:
        received.append(emulator.statistics().bytes_received)
        await asyncio.sleep(2 * STALL)


@pytest.mark.parametrize("anyio_backend", LOOPS.values(), ids=LOOPS)
async def test_in_the_middle_of_parts(make_file: MakeFile) -> None:
    """Nothing more is sent, no timeout ends a request, and after the pause each part was sent once."""
    path = make_file(2 * LARGE_PART)
    async with (
        service(connection_rate=RATE) as emulator,
        QuickClient(api_key=KEY, base_url=emulator.url) as client,
    ):
        async with Paused(client, path) as paused:
            await wait_until_idle(emulator)
            assert paused.control.is_paused
            assert emulator.statistics().bytes_received < 2 * LARGE_PART
            paused.control.resume()
            video = await paused.task
        assert (await emulator.finished(video.video_id)).sha256 == sha256(path)
        assert len(uploads(emulator)) == 2


async def test_that_the_service_does_not_wait_for(make_file: MakeFile) -> None:
    """A connection that is lost during the pause costs its part only, and nothing is sent before the end."""
    path = make_file(2 * LARGE_PART)
    async with (
        service(connection_rate=RATE) as emulator,
        QuickClient(api_key=KEY, base_url=emulator.url) as client,
    ):
        async with Paused(client, path, max_attempts=2) as paused:
            await wait_until_idle(emulator)
            before = len(emulator.requests)
            for connection in list(client._http._session.connector._acquired):  # type: ignore[union-attr]
                assert connection.transport is not None
                connection.transport.abort()
            await asyncio.sleep(2 * STALL)
            assert not paused.task.done()
            assert len(uploads(emulator)) <= before + 2
            paused.control.resume()
            video = await paused.task
        assert (await emulator.finished(video.video_id)).sha256 == sha256(path)


async def test_before_the_start_and_from_a_thread(make_file: MakeFile) -> None:
    """No part is sent before the end of the pause. Other uploads of the client are not affected."""
    control = UploadControl()
    control.pause()
    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        items = [
            UploadItem(source=make_file(7, name), options={"control": control}) for name in ("a.mp4", "b.mp4")
        ]
        async with client.upload_many(items) as results:
            first = asyncio.create_task(anext(results))
            await client.upload(make_file(8, "c.mp4"))
            assert len(uploads(emulator)) == 1
            assert not first.done()
            thread = threading.Thread(target=control.resume)
            thread.start()
            titles = {(await first).video.title, (await anext(results)).video.title}  # type: ignore[union-attr]
            thread.join()
        assert titles == {"a.mp4", "b.mp4"}


async def test_cancelled(make_file: MakeFile) -> None:
    path = make_file(2 * LARGE_PART)
    async with (
        service(connection_rate=RATE) as emulator,
        QuickClient(api_key=KEY, base_url=emulator.url) as client,
    ):
        async with Paused(client, path) as paused, asyncio.timeout(5):
            paused.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await paused.task
        assert not emulator.videos


async def test_its_type() -> None:
    async with QuickClient(api_key=KEY, base_url="http://127.0.0.1:1") as client:
        with pytest.raises(ConfigurationError, match="control must be an UploadControl"):
            await client.upload(b"x", control=True)  # type: ignore[arg-type]
