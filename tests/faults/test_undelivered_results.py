"""Uploads that finish, but whose result is not delivered; `keep_finished`."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from async_uploader import UploadFailed, Video, forget_unfinished, list_unfinished
from async_uploader.emulator import Emulator
from harness.forking import Forks
from harness.world import (
    FRAMING_BYTES,
    HANG_SECONDS,
    KEY,
    PART,
    QuickClient,
    Source,
    check_finished,
    service,
    uploads,
)

from .leaks import join_threads
from .matrix import SEVERAL_BYTES
from .resuming import change_journal, check_sent_once, upload_token

SourceOf = Callable[[int], Source]


# Processes that are killed at every call


# Processes that end before the result is delivered


async def _run(emulator: Emulator, source: Source, token: str | None, **options: Any) -> Video:
    credential: dict[str, Any] = {"upload_token": token} if token else {"api_key": KEY}
    async with asyncio.timeout(HANG_SECONDS), QuickClient(base_url=emulator.url, **credential) as client:
        return await client.upload(source.path, **{"part_size": PART, "resume": "local", **options})


class _FullDiskError(Exception):
    pass


def _raise(video: Video) -> None:
    raise _FullDiskError(video.video_id)


@pytest.mark.anyio
@pytest.mark.parametrize("size_bytes", [1000, SEVERAL_BYTES])
@pytest.mark.parametrize("delegated", [False, True], ids=["key", "token"])
async def test_error_in_on_video(delegated: bool, size_bytes: int, source_of: SourceOf) -> None:
    """Every later run returns the same video, and sends no part."""
    source = source_of(size_bytes)
    async with service() as emulator:
        token = await upload_token(emulator) if delegated else None
        with pytest.raises(_FullDiskError) as caught:
            await _run(emulator, source, token, on_video=_raise)
        sent = len(uploads(emulator))
        with pytest.raises(_FullDiskError):
            await _run(emulator, source, token, on_video=_raise)
        video = await _run(emulator, source, token)
        assert video.video_id == str(caught.value)
        assert video.assets.player
        assert len(uploads(emulator)) == sent
        await check_finished(emulator, source, video.video_id)


@pytest.mark.anyio
async def test_standard_output_on_a_full_disk(forks: Forks, source_of: SourceOf, state: Path) -> None:
    """The command cannot write its result. The next run writes it."""
    source = source_of(SEVERAL_BYTES)
    async with service() as emulator:
        environment = {**os.environ, "APIVIDEO_UPLOAD_TOKEN": await upload_token(emulator)}
        arguments = ("-m", "async_uploader", "upload", str(source.path), "--base-url", emulator.url)
        options: dict[str, Any] = {"cwd": source.path.parent, "env": environment, "text": True}

        def run(out: Any) -> subprocess.CompletedProcess[str]:
            with forks.python(*arguments, stdout=out, stderr=subprocess.PIPE, **options) as process:
                output, err = process.communicate(timeout=HANG_SECONDS)
            return subprocess.CompletedProcess(arguments, process.returncode, output, err)

        def run_full() -> subprocess.CompletedProcess[str]:
            with Path("/dev/full").open("wb") as full:
                return run(full)

        assert (await asyncio.to_thread(run_full)).returncode == 1
        sent = len(uploads(emulator))
        again = await asyncio.to_thread(run, subprocess.PIPE)
        assert again.returncode == 0, again.stderr
        (video_id,) = emulator.videos
        assert video_id in again.stdout
        assert len(uploads(emulator)) == sent


@pytest.mark.anyio
async def test_all_parts_are_recorded_but_not_the_video(source_of: SourceOf, state: Path) -> None:
    """In a journal of an older version, for example. The last part is requested again, without its body."""
    source = source_of(SEVERAL_BYTES)
    async with service() as emulator:
        token = await upload_token(emulator)
        with pytest.raises(_FullDiskError):
            await _run(emulator, source, token, on_video=_raise)
        await join_threads()
        change_journal(state, "UPDATE upload SET video = NULL")
        sent = len(uploads(emulator))
        video = await _run(emulator, source, token)
        (last,) = uploads(emulator)[sent:]
        assert (last.content_range, last.status) == ("part 3/3", 400)
        assert last.body_bytes < FRAMING_BYTES
        assert list(emulator.videos) == [video.video_id]
        await check_sent_once(emulator, source, video.video_id)


@pytest.mark.anyio
async def test_acknowledged_part_is_not_stored(source_of: SourceOf) -> None:
    """An upload token cannot ask which one, so every part is announced, and only the missing one is sent."""
    source = source_of(SEVERAL_BYTES)
    async with service("upload,part=2,times=1:status=200,body=html") as emulator:
        token = await upload_token(emulator)
        ids = set()
        for _ in range(2):
            with pytest.raises(UploadFailed, match="no response contained the finished video") as caught:
                await _run(emulator, source, token)
            assert str(caught.value.video_id) in str(caught.value)
            ids.add(caught.value.video_id)
        video = await _run(emulator, source, token)
        assert ids == {video.video_id} == set(emulator.videos)
        await check_sent_once(emulator, source, video.video_id)


@pytest.mark.anyio
@pytest.mark.parametrize("delegated", [False, True], ids=["key", "token"])
async def test_keep_finished_until_forgotten(delegated: bool, movie: Source) -> None:
    """Until ``forget_unfinished``, runs return the same video with at most one request."""
    async with service() as emulator:
        token = await upload_token(emulator) if delegated else None
        first = await _run(emulator, movie, token, keep_finished=True)
        requests = len(emulator.requests)
        for _ in range(2):
            assert (await _run(emulator, movie, token, keep_finished=True)).raw == first.raw
        assert [one.endpoint for one in emulator.requests[requests:]].count("status") == (0 if delegated else 2)
        assert not {"create", "upload", "update", "get"} & {one.endpoint for one in emulator.requests[requests:]}
        assert await list_unfinished() == []
        (listed,) = await list_unfinished(finished=True)
        assert (listed.video_id, listed.finished) == (first.video_id, True)
        assert (await forget_unfinished(first.video_id)).video_id == first.video_id
        assert (await _run(emulator, movie, token)).video_id != first.video_id
        assert len(emulator.videos) == 2
