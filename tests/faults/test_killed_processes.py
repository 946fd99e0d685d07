"""Processes that are killed while they create or fill containers, and the intents by which they are found."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from async_uploader import Video
from async_uploader._models import MARK_INTENT
from async_uploader.emulator import Emulator
from async_uploader.events import ContainerReady, UploadEvent
from harness.forking import Forks
from harness.world import (
    KEY,
    PART,
    QuickClient,
    Run,
    Source,
    check_finished,
    make_source,
    run_upload,
    service,
    uploads,
)

from .killing import Uploader, ended
from .leaks import join_threads
from .matrix import SEVERAL_BYTES
from .resuming import change_journal, check_sent_once, upload_token

SourceOf = Callable[[int], Source]


def _intents(state: Path) -> int:
    return int(change_journal(state, "SELECT count(*) FROM intent")[0][0])


# Processes that are killed at every call


async def _kill_and_run_again(uploader: Uploader, source: Source, *, kill_at: int) -> bool:
    """Kill a process at a step, and check that the next run results in one video.

    :returns: whether the process was killed, and had not ended before
    """
    first = await uploader.run(kill_at=kill_at)
    is_lost = await anyio.to_thread.run_sync(_is_lost, uploader)
    second = await uploader.run() if first.is_killed else first
    assert second.returncode == 0, (kill_at, second)
    video_id = second.out.strip()
    # An upload token cannot find a container if the response to the first part was not recorded.
    assert len(uploader.emulator.videos) == 1 + is_lost, kill_at
    await check_sent_once(uploader.emulator, source, video_id)
    async with QuickClient(api_key=KEY, base_url=uploader.emulator.url) as client:
        assert (await client.get_video(video_id)).metadata == ()
    assert await anyio.to_thread.run_sync(_intents, uploader.state) == 0
    await _check_is_kept(uploader, video_id)
    return first.is_killed


async def _check_is_kept(uploader: Uploader, video_id: str) -> None:
    """With keep_finished, another run sends no part."""
    sent = len(uploads(uploader.emulator))
    again = await uploader.run()
    assert (again.returncode, again.out.strip()) == (0, video_id)
    assert len(uploads(uploader.emulator)) == sent


def _is_lost(uploader: Uploader) -> bool:
    """Whether a process with an upload token has created a container and not recorded it."""
    if not (uploader.upload_token and uploader.emulator.videos):
        return False
    return not change_journal(uploader.state, "SELECT id FROM upload")


@pytest.mark.anyio
@pytest.mark.timeout(180)
@pytest.mark.parametrize("case", ["key", "marks", "token", "token, one part"])
@pytest.mark.parametrize(
    "step", [5, pytest.param(1, marks=pytest.mark.soak)], ids=["every fifth call", "every call"]
)
async def test_killed_at_calls(case: str, step: int, forks: Forks, source_of: SourceOf, tmp_path: Path) -> None:
    """Killed before or after requests and writes of the journal: one video, no part sent twice."""
    source = source_of(1000 if case == "token, one part" else SEVERAL_BYTES)
    resume = "anywhere" if case == "marks" else "local"
    limiter, was_killed = anyio.CapacityLimiter(4), dict[int, bool]()

    async def check(kill_at: int) -> None:
        async with limiter, service() as emulator:
            uploader = Uploader(
                forks=forks,
                emulator=emulator,
                sources=(source.path,),
                state=tmp_path / f"state {kill_at}",
                options={"resume": resume, "concurrency": 1, "keep_finished": True},
                upload_token=await upload_token(emulator) if case.startswith("token") else None,
            )
            was_killed[kill_at] = await _kill_and_run_again(uploader, source, kill_at=kill_at)

    last_step = {"key": 32, "marks": 38, "token": 16, "token, one part": 8}[case]
    async with anyio.create_task_group() as group:
        for kill_at in range(last_step, 0, -step):
            group.start_soon(check, kill_at)
    assert not was_killed[last_step], "there are more calls"
    assert sum(was_killed.values()) >= len(was_killed) // 2


async def _wait_for_requests(emulator: Emulator, count: int) -> None:
    until = len(emulator.requests) + count
    await emulator.wait_for(lambda emulator: len(emulator.requests) >= until)


@pytest.mark.anyio
@pytest.mark.timeout(120)
async def test_kills_during_many_small_uploads(forks: Forks, tmp_path: Path) -> None:
    """60 files, 4 kills, 100 ms latency: as many containers as files, and no intent remains."""
    rng = random.Random(7)
    sources = tuple(make_source(tmp_path / f"{number}.mp4", 1000 + number) for number in range(60))
    async with service(latency=0.1) as emulator:
        uploader = Uploader(
            forks=forks,
            emulator=emulator,
            sources=tuple(source.path for source in sources),
            state=tmp_path / "state",
            options={"resume": "local", "keep_finished": True},
        )
        for _ in range(4):
            process = uploader.start()
            await _wait_for_requests(emulator, rng.randrange(10, 60))
            process.send_signal(signal.SIGKILL)
            assert (await ended(process)).is_killed
        last = await uploader.run()
        assert last.returncode == 0, last.err
        digests = [view.sha256 for view in emulator.videos.values()]
        assert sorted(map(str, digests)) == sorted(source.sha256 for source in sources)
        assert _intents(uploader.state) == 0
        async with QuickClient(api_key=KEY, base_url=emulator.url) as client:
            assert {video.metadata for video in await client.list_videos()} == {()}


# keep_finished


async def _kept(emulator: Emulator, source: Source) -> Video:
    """A finished upload that is kept in the journal."""
    run = await run_upload(emulator, source, resume="local", keep_finished=True)
    assert run.video is not None, run.error
    return run.video


# Intents


async def _create_with_intent(emulator: Emulator, intent: str) -> str:
    async with QuickClient(api_key=KEY, base_url=emulator.url) as client:
        return (await client.create_video(title="x", metadata={MARK_INTENT: intent})).video_id


def _add_intent(state: Path, source: Source, intent: str) -> None:
    change_journal(
        state,
        "INSERT INTO intent SELECT ?, ?, account, started_at FROM upload LIMIT 1",
        *(intent, os.fsencode(source.path)),
    )


@pytest.fixture
def journal_of(source_of: SourceOf, state: Path) -> Callable[[Emulator], Any]:
    """Creates a journal with an entry of the account: a finished upload of another file, deleted afterwards."""

    async def journal_of(emulator: Emulator) -> None:
        other = await _kept(emulator, source_of(1000))
        async with QuickClient(api_key=KEY, base_url=emulator.url) as client:
            await client.delete_video(other.video_id)
        await join_threads()

    return journal_of


@pytest.mark.anyio
async def test_intent_does_not_affect_other_metadata(movie: Source) -> None:
    """The container has the intent until the upload is finished."""
    async with service("upload,part=last:status=503") as emulator:
        await run_upload(emulator, movie, resume="local", max_attempts=1, metadata={"mine": "kept"})
        async with QuickClient(api_key=KEY, base_url=emulator.url) as client:
            (video,) = await client.list_videos()
        assert {one.key for one in video.metadata} == {"mine", MARK_INTENT}
        emulator.clear_faults()
        run = await run_upload(emulator, movie, resume="local")
        assert run.video is not None
        assert [(one.key, one.value) for one in run.video.metadata] == [("mine", "kept")]


@pytest.mark.anyio
async def test_container_of_a_killed_process_appears_late(
    movie: Source, state: Path, journal_of: Callable[[Emulator], Any]
) -> None:
    """It appears after another one was created, and is deleted at the end of the upload."""
    async with service() as emulator:
        await journal_of(emulator)
        _add_intent(state, movie, "late")
        created: list[asyncio.Task[str]] = []

        def on_event(event: UploadEvent) -> None:
            if isinstance(event, ContainerReady):
                created.append(asyncio.create_task(_create_with_intent(emulator, "late")))

        run = await run_upload(emulator, movie, resume="local", on_event=on_event)
        assert run.video is not None, run.error
        (late,) = created
        assert await late not in emulator.videos
        await check_finished(emulator, movie, run.video.video_id)
        await join_threads()
        assert _intents(state) == 0


@pytest.mark.anyio
async def test_empty_container_of_an_intent_is_used(
    movie: Source, state: Path, journal_of: Callable[[Emulator], Any]
) -> None:
    """A second container with the same intent is deleted; one with another intent is not."""
    async with service() as emulator:
        await journal_of(emulator)
        _add_intent(state, movie, "found")
        created = {await _create_with_intent(emulator, "found") for _ in range(2)}
        foreign = await _create_with_intent(emulator, "foreign")
        run = await run_upload(emulator, movie, resume="local")
        assert run.video is not None, run.error
        assert run.video.video_id in created
        assert set(emulator.videos) == {run.video.video_id, foreign}
        await join_threads()
        assert _intents(state) == 0


@pytest.mark.anyio
async def test_container_with_parts_is_not_deleted(
    movie: Source, state: Path, journal_of: Callable[[Emulator], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A container that has parts, but no entry, can neither be resumed nor deleted. A warning has its id."""
    async with service() as emulator:
        await journal_of(emulator)
        _add_intent(state, movie, "filled")
        filled = await _create_with_intent(emulator, "filled")
        async with QuickClient(api_key=KEY, base_url=emulator.url) as client:
            await client.upload(movie.path, video_id=filled, part_size=PART)
        run: Run = await run_upload(emulator, movie, resume="local")
        assert run.video is not None, run.error
        assert set(emulator.videos) == {run.video.video_id, filled}
        assert filled in caplog.records[-1].getMessage()
