"""Going on: after kill -9, on another machine, and with a journal that is wrong, gone or in the way."""

from __future__ import annotations

import asyncio
import io
import logging
import random
import shutil
import signal
import sqlite3
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from async_uploader import UploadFailed
from async_uploader._limits import MIB
from async_uploader._models import MARK_PLAN, MARK_SOURCE
from async_uploader._resume.journal import Journal
from async_uploader.emulator import Emulator, Fault

from .conftest import Command, StartUpload
from .leaks import join_threads
from .matrix import SEVERAL_BYTES
from .world import (
    BY_HAND,
    KEY,
    PART,
    QuickClient,
    Run,
    Source,
    check_finished,
    check_nothing_again,
    make_source,
    missing_bytes,
    run_upload,
    service,
    uploads,
)

SourceOf = Callable[[int], Source]

_RATE: Final = 40_000_000  # bytes a second on each connection: slow enough to be killed in the middle


# Killed


async def _kill_at(emulator: Emulator, process: Command, received_bytes: int) -> None:
    """Once the service has received so much more, or it is done already."""
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
async def test_killed_at_random_moments(
    ranges: str, kills: int, command: StartUpload, source_of: SourceOf, tmp_path: Path
) -> None:
    """The same command again, until it is done: one video, and no part that was acknowledged sent again."""
    source = source_of(6 * PART + 1)
    dice = random.Random(3)
    state = tmp_path / "state"
    async with service(connection_rate=_RATE) as emulator:
        for _ in range(kills):
            async with command(emulator, source, state, "--ranges", ranges) as process:
                await _kill_at(emulator, process, dice.randrange(1, 2 * PART))
                await process.wait()
        await _run_to_its_end(command, emulator, source, state, "--ranges", ranges)


@pytest.mark.anyio
async def test_killed_and_gone_on_with_elsewhere(
    command: StartUpload, source_of: SourceOf, tmp_path: Path
) -> None:
    """Each time with an empty state directory: the container is found by the mark in its metadata."""
    source = source_of(6 * PART + 1)
    dice = random.Random(4)
    async with service(connection_rate=_RATE) as emulator:
        for number in range(2):
            async with command(emulator, source, tmp_path / f"machine {number}", "--resume") as process:
                await _kill_at(emulator, process, dice.randrange(MIB, 2 * PART))
                await process.wait()
        await _run_to_its_end(command, emulator, source, tmp_path / "the last machine", "--resume")


@pytest.mark.soak
@pytest.mark.anyio
@pytest.mark.timeout(600)
@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "on other machines"])
async def test_twenty_kills_of_sixty_parts(
    elsewhere: bool, command: StartUpload, source_of: SourceOf, tmp_path: Path
) -> None:
    """The same at length."""
    source = source_of(59 * PART + 1)
    dice = random.Random(5)
    flags = ("--resume",) if elsewhere else ()
    async with service(connection_rate=_RATE) as emulator:
        for number in range(20):
            state = tmp_path / f"machine {number if elsewhere else 0}"
            async with command(emulator, source, state, *flags) as process:
                await _kill_at(emulator, process, dice.randrange(1, 6 * PART))
                await process.wait()
                assert process.returncode == -signal.SIGKILL
        await _run_to_its_end(command, emulator, source, tmp_path / "machine 0", *flags)


async def _run_to_its_end(
    command: StartUpload, emulator: Emulator, source: Source, state: Path, *flags: str
) -> None:
    before = {video_id: view for video_id, view in emulator.videos.items() if view.received_bytes}
    async with command(emulator, source, state, *flags) as process:
        _, told = await process.wait()
        assert process.returncode == 0, told
    video_id, *empty = sorted(emulator.videos, key=lambda video_id: -emulator.videos[video_id].received_bytes)
    assert set(before) <= {video_id}
    # A container may have been made just when the process was killed.
    await check_finished(emulator, source, video_id, others=len(empty))
    assert len(empty) <= 1
    acknowledged = [one.content_range for one in uploads(emulator) if one.status in (200, 201, 206)]
    assert len(acknowledged) == len(set(acknowledged))
    async with aiohttp.ClientSession(emulator.url, headers=BY_HAND) as session:
        answer = await (await session.get(f"/videos/{video_id}")).json(content_type=None)
        assert answer["metadata"] == []


@pytest.mark.anyio
async def test_two_at_once(command: StartUpload, source_of: SourceOf, state: Path) -> None:
    """The second says so, ends with 2 before it sends anything, and does not get into the first one's way."""
    source = source_of(SEVERAL_BYTES)
    async with service("upload,part=last,times=1:stall=forever") as emulator:
        async with command(emulator, source, state) as first:
            await emulator.wait_for(lambda emulator: emulator.statistics().uploads_in_flight)
            requests = emulator.statistics().requests
            async with command(emulator, source, state) as second:
                out, told = await second.wait()
            assert second.returncode == 2
            assert out == ""
            assert told == f"error: {source.path} is being uploaded by another process already.\n"
            assert len(emulator.videos) == 1
            assert first.returncode is None
            assert {one.endpoint for one in emulator.requests[requests:]} <= {"upload"}
        run = await run_upload(emulator, source, resume="local")
        assert run.video is not None, run.error
        await check_finished(emulator, source, run.video.video_id)


# Wrong, gone, or in the way


async def _interrupted(emulator: Emulator, source: Source, **options: Any) -> UploadFailed:
    """An upload that ends before its last part, and can go on."""
    emulator.add_fault(Fault.parse("upload,part=last:status=503"))
    run = await run_upload(emulator, source, **{"resume": "local", "max_attempts": 1, "concurrency": 1, **options})
    emulator.clear_faults()
    assert isinstance(run.error, UploadFailed)
    assert run.error.resumable
    assert run.error.parts_done == run.error.parts_total - 1 if run.error.parts_total else False
    return run.error


async def _check_anew(emulator: Emulator, source: Source, run: Run, *, before: UploadFailed, left: bool) -> None:
    """It was begun anew: another container, and the other one is gone or left."""
    assert run.video is not None, run.error
    assert run.video.video_id != before.video_id
    assert (await emulator.finished(run.video.video_id)).sha256 == source.sha256
    assert (before.video_id in emulator.videos) == left
    check_nothing_again(emulator)


async def _check_gone_on(emulator: Emulator, source: Source, run: Run, *, before: UploadFailed) -> None:
    """It went on: only the last part was sent."""
    assert run.video is not None, run.error
    assert run.video.video_id == before.video_id
    await check_finished(emulator, source, run.video.video_id)


def _said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "async_uploader.resume"]


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO, "async_uploader.resume")
    return lambda: _said(caplog)


Said = Callable[[], list[str]]


@pytest.fixture
def movie(source_of: SourceOf, tmp_path: Path) -> Source:
    """A source of one's own."""
    whole = source_of(SEVERAL_BYTES)
    shutil.copyfile(whole.path, tmp_path / "movie.mp4")
    return Source(path=tmp_path / "movie.mp4", size_bytes=whole.size_bytes, sha256=whole.sha256)


@pytest.mark.anyio
async def test_it_goes_on(movie: Source, said: Said) -> None:
    """What the service has is not sent, and it is said."""
    async with service() as emulator:
        before = await _interrupted(emulator, movie)
        missing = missing_bytes(emulator.videos[before.video_id or ""], movie, "part")
        since = asyncio.get_running_loop().time()
        run = await run_upload(emulator, movie, resume="local")
        await _check_gone_on(emulator, movie, run, before=before)
        assert sum(one.body_bytes for one in uploads(emulator, since)) <= missing
        assert said() == [f"movie.mp4: going on with video {before.video_id}, where 2 of 3 parts have arrived."]
        assert run.progress[0].acknowledged_bytes >= 2 * PART


@pytest.mark.anyio
async def test_a_part_that_arrives_late(movie: Source) -> None:
    """What a killed process had on its way lands after the status was asked: no conflict, it is the same part."""
    async with service() as emulator:
        before = await _interrupted(emulator, movie)
        emulator.add_fault(Fault.parse("upload,part=last,times=1:stall=0.5"))
        going_on = asyncio.create_task(run_upload(emulator, movie, resume="local"))
        await emulator.wait_for(lambda emulator: emulator.statistics().uploads_in_flight)
        await _send_by_hand(emulator, movie, before.video_id, number=3)
        run = await going_on
        assert run.video is not None, run.error
        assert list(emulator.videos) == [run.video.video_id] == [before.video_id]
        assert (await emulator.finished(run.video.video_id)).sha256 == movie.sha256


async def _send_by_hand(emulator: Emulator, source: Source, video_id: str | None, *, number: int) -> None:
    content = source.path.read_bytes()[(number - 1) * PART : number * PART]
    form = aiohttp.FormData()
    form.add_field("file", io.BytesIO(content), filename="x.mp4")
    headers = {**BY_HAND, "Content-Range": source.content_range(number, "part")}
    async with (
        aiohttp.ClientSession(emulator.url, headers=headers) as session,
        session.post(f"/videos/{video_id}/source", data=form) as answer,
    ):
        assert answer.status == 201


@pytest.mark.anyio
async def test_the_source_has_changed(movie: Source, tmp_path: Path, said: Said) -> None:
    """The half of the old file is deleted, and the new one is uploaded whole."""
    async with service() as emulator:
        before = await _interrupted(emulator, movie)
        other = make_source(movie.path, SEVERAL_BYTES)
        run = await run_upload(emulator, other, resume="local")
        await _check_anew(emulator, other, run, before=before, left=False)
        assert said() == ["movie.mp4 has changed since its upload began; starting anew."]


@pytest.mark.anyio
@pytest.mark.parametrize("way", ["rewritten", "touched"])
async def test_the_source_has_changed_and_is_marked(movie: Source, way: str) -> None:
    """With ``resume=True``, too: what another file left is not gone on with; the same content elsewhere is."""
    async with service() as emulator:
        before = await _interrupted(emulator, movie, resume=True)
        if way == "rewritten":
            other = make_source(movie.path, SEVERAL_BYTES)
            run = await run_upload(emulator, other, resume=True)
            await _check_anew(emulator, other, run, before=before, left=False)
        else:
            other = Source(path=movie.path.with_name("copy.mp4"), size_bytes=movie.size_bytes, sha256=movie.sha256)
            movie.path.rename(other.path)
            run = await run_upload(emulator, other, resume=True)
            await _check_gone_on(emulator, other, run, before=before)


@pytest.mark.anyio
async def test_the_container_has_vanished(movie: Source, said: Said) -> None:
    """Somebody has deleted it: another one is made."""
    async with service() as emulator:
        before = await _interrupted(emulator, movie)
        async with QuickClient(api_key=KEY, base_url=emulator.url) as client:
            await client.delete_video(before.video_id or "")
        run = await run_upload(emulator, movie, resume="local")
        await _check_anew(emulator, movie, run, before=before, left=False)
        assert said() == [f"movie.mp4: video {before.video_id} is gone; starting anew."]


@pytest.mark.anyio
async def test_the_container_is_finished(movie: Source, said: Said) -> None:
    """The process died between the last answer and its note: nothing is sent."""
    async with service() as emulator:
        before = await _interrupted(emulator, movie)
        await _send_by_hand(emulator, movie, before.video_id, number=3)
        since = asyncio.get_running_loop().time()
        run = await run_upload(emulator, movie, resume="local")
        await _check_gone_on(emulator, movie, run, before=before)
        assert uploads(emulator, since) == []
        assert said() == [f"movie.mp4: video {before.video_id} is complete already."]


@pytest.mark.anyio
async def test_the_container_holds_something_else(movie: Source, said: Said) -> None:
    """Somebody has filled it with another file: hands off, and a new one."""
    async with service() as emulator:
        before = await _interrupted(emulator, movie)
        form = aiohttp.FormData()
        form.add_field("file", b"something else", filename="x.mp4")
        headers = {**BY_HAND, "Content-Range": "part 3/3"}
        async with aiohttp.ClientSession(emulator.url, headers=headers) as session:
            await session.post(f"/videos/{before.video_id}/source", data=form)
        await emulator.finished(before.video_id or "")
        run = await run_upload(emulator, movie, resume="local")
        await _check_anew(emulator, movie, run, before=before, left=True)
        assert said() == [f"movie.mp4: video {before.video_id} holds something else by now; starting anew."]


@pytest.mark.anyio
async def test_another_account(movie: Source, said: Said) -> None:
    """Its containers are none of this one's business."""
    async with service() as mine, service() as other:
        before = await _interrupted(mine, movie)
        run = await run_upload(other, movie, resume="local")
        assert run.video is not None, run.error
        await check_finished(other, movie, run.video.video_id)
        assert said() == ["movie.mp4: an upload to another account or host is unfinished; this is a new one."]
        run = await run_upload(mine, movie, resume="local")
        await _check_gone_on(mine, movie, run, before=before)


@pytest.mark.anyio
@pytest.mark.parametrize("resume", ["local", True], ids=["local", "anywhere"])
@pytest.mark.parametrize("other", [{"part_size": 6 * MIB}, {"ranges": "bytes"}], ids=["part size", "ranges"])
async def test_other_options(
    movie: Source, said: Said, resume: bool | str, other: dict[str, Any], state: Path
) -> None:
    """It goes on as it was begun, and says that the option is of no effect."""
    async with service() as emulator:
        before = await _interrupted(emulator, movie, resume=resume)
        if resume is True:
            await join_threads()
            shutil.rmtree(state)
        run = await run_upload(emulator, movie, resume=resume, **other)
        await _check_gone_on(emulator, movie, run, before=before)
        assert said()[1:] == ["movie.mp4: the upload was begun in parts of 5 MiB, and goes on so."]
        assert run.video is not None
        assert run.video.metadata == ()


@pytest.mark.anyio
async def test_marks_leave_the_callers_metadata_alone(movie: Source) -> None:
    """They are there while it is unfinished, and gone in the end."""
    async with service() as emulator:
        before = await _interrupted(emulator, movie, resume=True, metadata={"mine": "kept"})
        async with QuickClient(api_key=KEY, base_url=emulator.url) as client:
            marked = await client.get_video(before.video_id or "")
        assert {one.key for one in marked.metadata} == {"mine", MARK_SOURCE, MARK_PLAN}
        run = await run_upload(emulator, movie, resume=True, metadata={"mine": "kept"})
        await _check_gone_on(emulator, movie, run, before=before)
        assert run.video is not None
        assert [(one.key, one.value) for one in run.video.metadata] == [("mine", "kept")]


def _no_database(state: Path) -> Path:
    path = state / "async_uploader" / "journal.sqlite3"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"this is no database, and has not been one " * 100)
    return path


def _cut_off(state: Path) -> Path:
    path = _no_database(state)
    path.write_bytes(b"SQLite format 3\0" + bytes(50))
    return path


def _newer(state: Path) -> Path:
    path = state / "async_uploader" / "journal.sqlite3"
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    return path


def _a_file_in_its_place(state: Path) -> Path:
    state.mkdir()
    (state / "async_uploader").write_bytes(b"")
    return state / "async_uploader" / "journal.sqlite3"


def _a_directory_in_its_place(state: Path) -> Path:
    path = state / "async_uploader" / "journal.sqlite3"
    path.mkdir(parents=True)
    return path


def _full(state: Path) -> Path:
    """Whatever is written to it, there is no space left on the device."""
    path = state / "async_uploader" / "journal.sqlite3"
    path.parent.mkdir(parents=True)
    path.symlink_to("/dev/full")
    return path


@pytest.mark.anyio
@pytest.mark.parametrize("resume", ["local", True], ids=["local", "anywhere"])
@pytest.mark.parametrize(
    "spoil", [_no_database, _cut_off, _newer, _a_file_in_its_place, _a_directory_in_its_place, _full]
)
async def test_without_a_journal(
    spoil: Callable[[Path], Path],
    resume: bool | str,
    movie: Source,
    state: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It uploads all the same, and warns once."""
    path = spoil(state)
    async with service() as emulator:
        run = await run_upload(emulator, movie, resume=resume)
        assert run.video is not None, run.error
        await check_finished(emulator, movie, run.video.video_id)
        assert run.video.metadata == ()
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    (warning,) = warnings
    assert str(path.parent) in warning
    assert warning.endswith(": this upload goes on, but could not be resumed.")


@pytest.mark.anyio
async def test_a_disk_that_fills_up(movie: Source, monkeypatch: pytest.MonkeyPatch, said: Said) -> None:
    """The journal fails in the middle: the upload goes on, and warns once."""
    from async_uploader._resume.journal import Journal

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async with service() as emulator:
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "acknowledge", fail)
            run = await run_upload(emulator, movie, resume="local")
        assert run.video is not None, run.error
        await check_finished(emulator, movie, run.video.video_id)
        (warning,) = said()
        assert "(database or disk is full): this upload goes on, but could not be resumed." in warning


def test_many_who_make_a_journal_at_once(tmp_path: Path) -> None:
    """A service's first uploads, say; without care, one in some hundred finds it locked."""

    def look(number: int) -> int:
        journal = Journal(tmp_path / f"{number // 8}.sqlite3")
        everybody.wait()
        try:
            return len(journal.unfinished())
        finally:
            journal.close()

    everybody = threading.Barrier(8)
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(look, range(320))) == {0}


@pytest.mark.anyio
async def test_what_the_journal_holds(movie: Source, state: Path) -> None:
    """Nobody else may read it, and there is no secret in it."""
    async with service() as emulator:
        await _interrupted(emulator, movie, resume=True)
        bearers = emulator._server.credentials.bearers
        secrets = [KEY, *bearers.expires_s, *bearers.refreshable_s]
        assert len(secrets) == 3
        await join_threads()
        _check_files(state, secrets)


def _check_files(state: Path, secrets: list[str]) -> None:
    files = [path for path in state.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"journal.sqlite3"}
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert [secret for secret in secrets if secret.encode() in path.read_bytes()] == []
    assert stat.S_IMODE((state / "async_uploader").stat().st_mode) == 0o700
