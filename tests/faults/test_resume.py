"""Resuming: after kill -9, on another machine, and when source, container or account have changed."""

from __future__ import annotations

import asyncio
import io
import json
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from async_uploader import ResumeMode, UploadFailed
from async_uploader._limits import MIB
from async_uploader._models import MARK_PLAN, MARK_SOURCE
from async_uploader.emulator import Emulator, Fault
from harness.world import (
    AUTH_HEADERS,
    KEY,
    PART,
    QuickClient,
    Run,
    Source,
    check_finished,
    check_no_resent_bytes,
    make_source,
    missing_bytes,
    run_upload,
    service,
    uploads,
)

from .conftest import Command, Logged, StartUpload
from .leaks import join_threads
from .matrix import SEVERAL_BYTES
from .proxy import Request, between, response
from .resuming import interrupted_upload

SourceOf = Callable[[int], Source]

_RATE: Final = 40_000_000  # bytes per second and connection: slow enough to kill the upload in the middle


# Killed uploads


async def _kill_after(emulator: Emulator, process: Command, received_bytes: int) -> None:
    """Kill a process once the service has received so many more bytes, unless it ends before."""
    until = emulator.statistics().bytes_received + received_bytes
    reached = asyncio.create_task(
        emulator.wait_for(lambda emulator: emulator.statistics().bytes_received >= until)
    )
    ended = asyncio.create_task(process.wait())
    await asyncio.wait([reached, ended], return_when=asyncio.FIRST_COMPLETED)
    for task in (reached, ended):
        task.cancel()
    await asyncio.gather(reached, ended, return_exceptions=True)
    process.kill()


@pytest.mark.anyio
@pytest.mark.parametrize(("ranges", "kills"), [("part", 4), ("bytes", 2)])
async def test_resume_after_kills(
    ranges: str, kills: int, command: StartUpload, source_of: SourceOf, tmp_path: Path
) -> None:
    """Repeating the command results in one video. No acknowledged part is sent again."""
    source = source_of(6 * PART + 1)
    rng = random.Random(3)
    state = tmp_path / "state"
    async with service(connection_rate=_RATE) as emulator:
        for _ in range(kills):
            async with command(emulator, source, state, "--ranges", ranges) as process:
                await _kill_after(emulator, process, rng.randrange(1, 2 * PART))
                await process.wait()
        await _run_to_the_end(command, emulator, source, state, "--ranges", ranges)


@pytest.mark.anyio
async def test_resume_on_another_machine_after_kills(
    command: StartUpload, source_of: SourceOf, tmp_path: Path
) -> None:
    """With an empty state directory each time: the container is found by its marks."""
    source = source_of(6 * PART + 1)
    rng = random.Random(4)
    async with service(connection_rate=_RATE) as emulator:
        for number in range(2):
            async with command(emulator, source, tmp_path / f"machine {number}", "--resume") as process:
                await _kill_after(emulator, process, rng.randrange(MIB, 2 * PART))
                await process.wait()
        await _run_to_the_end(command, emulator, source, tmp_path / "last machine", "--resume")


@pytest.mark.soak
@pytest.mark.anyio
@pytest.mark.timeout(600)
@pytest.mark.parametrize("elsewhere", [False, True], ids=["same machine", "other machines"])
async def test_twenty_kills_of_sixty_parts(
    elsewhere: bool, command: StartUpload, source_of: SourceOf, tmp_path: Path
) -> None:
    """A longer version of the two tests above."""
    source = source_of(59 * PART + 1)
    rng = random.Random(5)
    flags = ("--resume",) if elsewhere else ()
    async with service(connection_rate=_RATE) as emulator:
        for number in range(20):
            state = tmp_path / f"machine {number if elsewhere else 0}"
            async with command(emulator, source, state, *flags) as process:
                await _kill_after(emulator, process, rng.randrange(1, 6 * PART))
                await process.wait()
                assert process.returncode == -signal.SIGKILL
        await _run_to_the_end(command, emulator, source, tmp_path / "machine 0", *flags)


async def _run_to_the_end(
    command: StartUpload, emulator: Emulator, source: Source, state: Path, *flags: str
) -> None:
    before = {video_id: view for video_id, view in emulator.videos.items() if view.received_bytes}
    async with command(emulator, source, state, *flags) as process:
        _, err = await process.wait()
        assert process.returncode == 0, err
    video_id, *empty = sorted(emulator.videos, key=lambda video_id: -emulator.videos[video_id].received_bytes)
    assert set(before) <= {video_id}
    # A process may have been killed while it created a container.
    await check_finished(emulator, source, video_id, others=len(empty))
    assert len(empty) <= 1
    acknowledged = [one.content_range for one in uploads(emulator) if one.status in (200, 201, 206)]
    assert len(acknowledged) == len(set(acknowledged))
    async with aiohttp.ClientSession(emulator.url, headers=AUTH_HEADERS) as session:
        video = await (await session.get(f"/videos/{video_id}")).json(content_type=None)
        assert video["metadata"] == []


@pytest.mark.anyio
async def test_concurrent_uploads_of_a_source_are_refused(
    command: StartUpload, source_of: SourceOf, state: Path
) -> None:
    """The second process exits with code 2 before it sends a request. The first one continues."""
    source = source_of(SEVERAL_BYTES)
    async with service("upload,part=last,times=1:stall=forever") as emulator:
        async with command(emulator, source, state) as first:
            await emulator.wait_for(lambda emulator: any(count for _, count in emulator._server.faults.counts()))
            requests = emulator.statistics().requests
            async with command(emulator, source, state) as second:
                out, err = await second.wait()
            assert second.returncode == 2
            assert out == ""
            assert err == f"error: {source.path} is already being uploaded by another process.\n"
            assert len(emulator.videos) == 1
            assert first.returncode is None
            assert {one.endpoint for one in emulator.requests[requests:]} <= {"upload"}
        emulator.clear_faults()  # the first process may have been killed before it sent its last part
        run = await run_upload(emulator, source, resume="local")
        assert run.video is not None, run.error
        await check_finished(emulator, source, run.video.video_id)


# Outdated, missing or unusable journals


async def _check_restarted(
    emulator: Emulator, source: Source, run: Run, *, before: UploadFailed, is_kept: bool
) -> None:
    """A new container was filled; the old one is deleted, unless ``is_kept``."""
    assert run.video is not None, run.error
    assert run.video.video_id != before.video_id
    assert (await emulator.finished(run.video.video_id)).sha256 == source.sha256
    assert (before.video_id in emulator.videos) == is_kept
    check_no_resent_bytes(emulator)


async def _check_resumed(emulator: Emulator, source: Source, run: Run, *, before: UploadFailed) -> None:
    """The old container was completed, and nothing was sent twice."""
    assert run.video is not None, run.error
    assert run.video.video_id == before.video_id
    await check_finished(emulator, source, run.video.video_id)


@pytest.mark.anyio
async def test_stored_parts_are_not_sent_again(movie: Source, logged: Logged) -> None:
    """The log says how many parts are stored."""
    async with service() as emulator:
        before = await interrupted_upload(emulator, movie)
        missing = missing_bytes(emulator.videos[before.video_id or ""], movie, "part")
        since = asyncio.get_running_loop().time()
        run = await run_upload(emulator, movie, resume="local")
        await _check_resumed(emulator, movie, run, before=before)
        assert sum(one.body_bytes for one in uploads(emulator, since)) <= missing
        assert logged() == [f"movie.mp4: resuming video {before.video_id}; 2 of 3 parts are stored."]
        assert run.progress[0].acknowledged_bytes >= 2 * PART


@pytest.mark.anyio
async def test_part_of_a_killed_process_arrives_late(movie: Source) -> None:
    """It arrives after the status was requested. It is the same part, so there is no conflict."""
    async with service() as emulator:
        before = await interrupted_upload(emulator, movie)
        emulator.add_fault(Fault.parse("upload,part=last,times=1:stall=0.5"))
        resuming = asyncio.create_task(run_upload(emulator, movie, resume="local"))
        await emulator.wait_for(lambda emulator: emulator.statistics().uploads_in_flight)
        await _send_by_hand(emulator, movie, before.video_id, number=3)
        run = await resuming
        assert run.video is not None, run.error
        assert list(emulator.videos) == [run.video.video_id] == [before.video_id]
        assert (await emulator.finished(run.video.video_id)).sha256 == movie.sha256


async def _send_by_hand(emulator: Emulator, source: Source, video_id: str | None, *, number: int) -> None:
    content = source.path.read_bytes()[(number - 1) * PART : number * PART]
    form = aiohttp.FormData()
    form.add_field("file", io.BytesIO(content), filename="x.mp4")
    headers = {**AUTH_HEADERS, "Content-Range": source.content_range(number, "part")}
    async with (
        aiohttp.ClientSession(emulator.url, headers=headers) as session,
        session.post(f"/videos/{video_id}/source", data=form) as response,
    ):
        assert response.status == 201


@pytest.mark.anyio
async def test_changed_source_starts_again(movie: Source, tmp_path: Path, logged: Logged) -> None:
    """The unfinished container of the old file is deleted."""
    async with service() as emulator:
        before = await interrupted_upload(emulator, movie)
        other = make_source(movie.path, SEVERAL_BYTES)
        run = await run_upload(emulator, other, resume="local")
        await _check_restarted(emulator, other, run, before=before, is_kept=False)
        assert logged() == ["movie.mp4 has changed since its upload began; starting a new upload."]


@pytest.mark.anyio
@pytest.mark.parametrize("change", ["rewritten", "renamed"])
async def test_changed_source_with_marks(movie: Source, change: str) -> None:
    """New contents start again; the same contents under another name are resumed."""
    async with service() as emulator:
        before = await interrupted_upload(emulator, movie, resume="anywhere")
        if change == "rewritten":
            other = make_source(movie.path, SEVERAL_BYTES)
            run = await run_upload(emulator, other, resume="anywhere")
            await _check_restarted(emulator, other, run, before=before, is_kept=False)
        else:
            other = Source(path=movie.path.with_name("copy.mp4"), size_bytes=movie.size_bytes, sha256=movie.sha256)
            movie.path.rename(other.path)
            run = await run_upload(emulator, other, resume="anywhere")
            await _check_resumed(emulator, other, run, before=before)


@pytest.mark.anyio
async def test_deleted_container_starts_again(movie: Source, logged: Logged) -> None:
    async with service() as emulator:
        before = await interrupted_upload(emulator, movie)
        async with QuickClient(api_key=KEY, base_url=emulator.url) as client:
            await client.delete_video(before.video_id or "")
        run = await run_upload(emulator, movie, resume="local")
        await _check_restarted(emulator, movie, run, before=before, is_kept=False)
        assert logged() == [f"movie.mp4: video {before.video_id} no longer exists; starting a new upload."]


@pytest.mark.anyio
async def test_finished_container_is_returned(movie: Source, logged: Logged) -> None:
    """The process was killed between the last response and its record. No part is sent."""
    async with service() as emulator:
        before = await interrupted_upload(emulator, movie)
        await _send_by_hand(emulator, movie, before.video_id, number=3)
        since = asyncio.get_running_loop().time()
        run = await run_upload(emulator, movie, resume="local")
        await _check_resumed(emulator, movie, run, before=before)
        assert uploads(emulator, since) == []
        assert logged() == [f"movie.mp4: video {before.video_id} is already complete."]


@pytest.mark.anyio
async def test_container_with_other_contents_is_left(movie: Source, logged: Logged) -> None:
    """Another client has filled it with another file. A new container is created."""
    async with service() as emulator:
        before = await interrupted_upload(emulator, movie)
        form = aiohttp.FormData()
        form.add_field("file", b"something else", filename="x.mp4")
        headers = {**AUTH_HEADERS, "Content-Range": "part 3/3"}
        async with aiohttp.ClientSession(emulator.url, headers=headers) as session:
            await session.post(f"/videos/{before.video_id}/source", data=form)
        await emulator.finished(before.video_id or "")
        run = await run_upload(emulator, movie, resume="local")
        await _check_restarted(emulator, movie, run, before=before, is_kept=True)
        assert logged() == [f"movie.mp4: video {before.video_id} contains something else; starting a new upload."]


@pytest.mark.anyio
async def test_entries_of_other_accounts_are_ignored(movie: Source, logged: Logged) -> None:
    async with service() as mine, service() as other:
        before = await interrupted_upload(mine, movie)
        run = await run_upload(other, movie, resume="local")
        assert run.video is not None, run.error
        await check_finished(other, movie, run.video.video_id)
        assert logged() == [
            "movie.mp4: starting a new upload; an unfinished one belongs to another account or service."
        ]
        run = await run_upload(mine, movie, resume="local")
        await _check_resumed(mine, movie, run, before=before)


@pytest.mark.anyio
@pytest.mark.parametrize("resume", ["local", "anywhere"])
@pytest.mark.parametrize("other", [{"part_size": 6 * MIB}, {"ranges": "bytes"}], ids=["part size", "ranges"])
async def test_resumed_upload_keeps_its_options(
    movie: Source, logged: Logged, resume: str, other: dict[str, Any], state: Path
) -> None:
    """A warning says that the requested part size and ranges are ignored."""
    async with service() as emulator:
        before = await interrupted_upload(emulator, movie, resume=resume)
        if resume == "anywhere":
            await join_threads()
            shutil.rmtree(state)
        run = await run_upload(emulator, movie, resume=resume, **other)
        await _check_resumed(emulator, movie, run, before=before)
        assert logged()[1:] == [
            "movie.mp4: ignoring the requested part size and ranges; the upload continues in parts of 5 MiB."
        ]
        assert run.video is not None
        assert run.video.metadata == ()


@pytest.mark.anyio
async def test_marks_do_not_affect_other_metadata(movie: Source) -> None:
    """The container has marks until the upload is finished."""
    async with service() as emulator:
        before = await interrupted_upload(emulator, movie, resume="anywhere", metadata={"mine": "kept"})
        async with QuickClient(api_key=KEY, base_url=emulator.url) as client:
            marked = await client.get_video(before.video_id or "")
        assert {one.key for one in marked.metadata} == {"mine", MARK_SOURCE, MARK_PLAN}
        run = await run_upload(emulator, movie, resume="anywhere", metadata={"mine": "kept"})
        await _check_resumed(emulator, movie, run, before=before)
        assert run.video is not None
        assert [(one.key, one.value) for one in run.video.metadata] == [("mine", "kept")]


@pytest.mark.anyio
@pytest.mark.parametrize("resume", ["local", "anywhere"])
async def test_metadata_of_other_programs_is_written_back_unchanged(movie: Source, resume: ResumeMode) -> None:
    """Also entries with values and fields that the model of a video does not have."""
    foreign = [
        {"key": "color", "value": "red"},
        {"key": "views", "value": 7},
        {"key": "place", "value": "Bordeaux", "origin": "editor"},
        {"value": "no key"},
        "no object",
    ]
    written: list[object] = []

    def add_metadata(request: Request, response_bytes: bytes) -> bytes:
        if request.method == "PATCH":
            written.append(json.loads(request.body)["metadata"])
            return response(200, {"videoId": request.path.rpartition("/")[2], "metadata": written[-1]})
        video = json.loads(response_bytes.partition(b"\r\n\r\n")[2] or "{}")
        if "metadata" not in video:
            return response_bytes
        return response(201, {**video, "metadata": [foreign[0], *video["metadata"], *foreign[1:]]})

    async with (
        service() as emulator,
        between(emulator, add_metadata) as url,
        QuickClient(api_key=KEY, base_url=url) as client,
    ):
        video = await client.upload(movie.path, resume=resume, part_size=PART)
    assert written == [foreign]
    assert video.raw["metadata"] == foreign
