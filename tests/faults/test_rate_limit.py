"""The account's rate limit: requests are spread, and all workers wait if other clients use it up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import aiohttp
import anyio
import psutil
import pytest

from async_uploader import Video, events
from async_uploader._limits import MIB
from async_uploader.emulator import Emulator
from harness.world import (
    AUTH_HEADERS,
    KEY,
    PART,
    QuickClient,
    Source,
    check_finished,
    check_no_resent_bytes,
    run_upload,
    service,
    uploads,
)

SourceOf = Callable[[int], Source]


@pytest.mark.anyio
@pytest.mark.parametrize("concurrency", [1, 16])
async def test_twelve_parts_with_six_per_window(concurrency: int, source_of: SourceOf) -> None:
    """The upload takes about two windows, as the limit requires, without a 429."""
    source = source_of(11 * PART + 1)
    async with service(rate_limit=6, rate_window=2.0) as emulator:
        began = anyio.current_time()
        run = await run_upload(emulator, source, concurrency=concurrency)
        seconds = anyio.current_time() - began
        assert run.video is not None, run.error
        await check_finished(emulator, source, run.video.video_id)
        assert 429 not in emulator.statistics().requests_by_status
        assert len(uploads(emulator)) == 12
        # The requests of the first window are spread over it; those of the second can be sent when it opens.
        assert 2.0 <= seconds < 5.0


@pytest.mark.anyio
async def test_other_clients_use_the_account(source_of: SourceOf) -> None:
    """A 429 pauses every worker until the window is over. The upload succeeds."""
    source = source_of(11 * PART + 1)
    async with service(rate_limit=10, rate_window=2.0) as emulator:
        run, _ = await asyncio.gather(
            run_upload(emulator, source, concurrency=4, max_attempts=2), _use_up(emulator, 10)
        )
        assert run.video is not None, run.error
        assert (await emulator.finished(run.video.video_id)).sha256 == source.sha256
        check_no_resent_bytes(emulator, limited=True)
        refused = [record for record in uploads(emulator) if record.status == 429 and record.content_range]
        assert 1 <= len(refused) <= 4
        # Requests may have been sent before the first refusal was received. Later ones wait until the window ends.
        first_s = min(record.ended_s for record in refused)
        opened_s = min(record.started_s for record in uploads(emulator))
        started_s = [record.started_s for record in uploads(emulator) if record.content_range]
        assert [start_s for start_s in started_s if first_s + 0.2 < start_s < opened_s + 1.95] == []


async def _use_up(emulator: Emulator, count: int) -> None:
    """Upload small videos in one request each, with the same account."""
    # The uploader spreads its parts over the window, and learns of these requests from its next response.
    await emulator.wait_for(lambda emulator: len(uploads(emulator)) == 2)
    async with aiohttp.ClientSession(emulator.url, headers=AUTH_HEADERS) as session:

        async def one() -> None:
            async with session.post("/videos", json={"title": "another"}) as response:
                video_id = (await response.json(content_type=None))["videoId"]
            form = aiohttp.FormData()
            form.add_field("file", b"x", filename="x.mp4")
            async with session.post(f"/videos/{video_id}/source", data=form) as response:
                assert response.status in (201, 429)

        await asyncio.gather(*(one() for _ in range(count)))


@pytest.mark.anyio
async def test_two_hundred_concurrent_uploads(tmp_path: Path) -> None:
    """With 100 per window, all finish and none is refused. Descriptors and memory stay bounded."""
    count = 200
    paths = [tmp_path / f"{number}.mp4" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(b"%d" % number)
    process = psutil.Process()
    descriptors, memory = process.num_fds(), process.memory_info().rss
    most = 0

    def watch(_progress: object) -> None:
        nonlocal most
        most = max(most, process.num_fds())

    videos: list[Video] = []
    async with (
        service(rate_limit=100, rate_window=3.0) as emulator,
        QuickClient(api_key=KEY, base_url=emulator.url) as client,
    ):

        async def one(path: Path) -> None:
            videos.append(await client.upload(path, on_progress=watch))

        began = anyio.current_time()
        async with anyio.create_task_group() as group:
            for path in paths:
                group.start_soon(one, path)
        seconds = anyio.current_time() - began
        assert set(emulator.statistics().requests_by_status) == {200, 201}
        assert len(emulator.videos) == count
        for video in videos:
            view = await emulator.finished(video.video_id)
            assert view.title == f"{int(view.source_path.read_bytes()) if view.source_path else None}.mp4"
    assert 3.0 <= seconds < 15.0
    # Per upload: a file and both ends of a connection. Some more for the event loop and the journal.
    assert most - descriptors < 3 * count + 50
    assert process.memory_info().rss - memory < 200 * MIB


@pytest.mark.anyio
async def test_part_size_fits_the_window(tmp_path: Path) -> None:
    """Of 100 MiB, ten parts are sent instead of twenty, because ten are allowed. No part waits."""
    path = tmp_path / "a.mp4"
    with path.open("wb") as file:
        file.truncate(100 * MIB)
    waits: list[events.UploadEvent] = []

    def listener(event: events.UploadEvent) -> None:
        if isinstance(event, events.RateLimitWait):
            waits.append(event)

    async with service(rate_limit=10) as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        await client.upload(path, on_event=listener)
        assert len(uploads(emulator)) == 10
    assert not waits
