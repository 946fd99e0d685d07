"""Containers of uploads that fail, are cancelled, or meet unexpected responses: none is lost or left."""

from __future__ import annotations

import asyncio
import logging
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from async_uploader import UploadFailed, Video, list_unfinished
from async_uploader._resume.journal import Journal
from async_uploader.emulator import Emulator, Fault
from harness.forking import Forks
from harness.world import (
    KEY,
    QuickClient,
    Source,
    check_finished,
    make_source,
    run_upload,
    service,
)

from .killing import ended
from .leaks import join_threads, nothing_left
from .matrix import SEVERAL_BYTES
from .resuming import change_journal

SourceOf = Callable[[int], Source]

_SECONDS: Final = 1.3
_DAY_SECONDS: Final = 24 * 3600.0
_DELETED: Final = "The journal cannot be used, so this upload cannot be resumed. The unfinished video was deleted."


def _intents(state: Path) -> int:
    return int(change_journal(state, "SELECT count(*) FROM intent")[0][0])


# keep_finished


async def _kept(emulator: Emulator, source: Source) -> Video:
    """A finished upload that is kept in the journal."""
    run = await run_upload(emulator, source, resume="local", keep_finished=True)
    assert run.video is not None, run.error
    return run.video


@pytest.mark.anyio
async def test_keep_finished_of_a_changed_file(movie: Source, caplog: pytest.LogCaptureFixture) -> None:
    """The new file becomes a new video; the old one is not deleted."""
    async with service() as emulator:
        first = await _kept(emulator, movie)
        other = make_source(movie.path, SEVERAL_BYTES)
        second = await _kept(emulator, other)
        assert set(emulator.videos) == {first.video_id, second.video_id}
        assert (await emulator.finished(second.video_id)).sha256 == other.sha256
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.anyio
async def test_keep_finished_of_a_deleted_video(movie: Source) -> None:
    """The file is uploaded again."""
    async with service() as emulator:
        first = await _kept(emulator, movie)
        async with QuickClient(api_key=KEY, base_url=emulator.url) as client:
            await client.delete_video(first.video_id)
        second = await _kept(emulator, movie)
        assert list(emulator.videos) == [second.video_id] != [first.video_id]


@pytest.mark.anyio
async def test_finished_uploads_and_intents_expire_after_a_week(movie: Source, state: Path) -> None:
    """Unfinished uploads do not expire."""
    async with service() as emulator:
        first = await _kept(emulator, movie)
        await join_threads()
        change_journal(state, "UPDATE upload SET started_at = started_at - ?", 7 * _DAY_SECONDS + 1)
        change_journal(state, "INSERT INTO intent VALUES ('old', x'00', 'nobody', 0)")
        assert (await _kept(emulator, movie)).video_id != first.video_id
        await join_threads()
        assert _intents(state) == 0
        change_journal(state, "UPDATE upload SET started_at = started_at - ?, video = NULL", 30 * _DAY_SECONDS)
        assert len(await list_unfinished()) == 1


@pytest.mark.anyio
async def test_forget_all(movie: Source, source_of: SourceOf) -> None:
    """Unknown ids are ignored."""
    from async_uploader._resume.unfinished import forget_all

    async with service() as emulator:
        first, second = await _kept(emulator, movie), await _kept(emulator, source_of(1000))
        await forget_all([first.video_id, second.video_id, "viUnknown"])
        assert (await _kept(emulator, movie)).video_id != first.video_id


# Uploads that cannot be resumed


def _damage(state: Path) -> None:
    path = state / "async_uploader" / "journal.sqlite3"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"this is not a database, and never was one " * 100)


def _fail_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Journal, "begin", fail)


@pytest.mark.anyio
@pytest.mark.parametrize("broken", ["always", "after the creation"])
async def test_failure_without_a_usable_journal(
    broken: str, movie: Source, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No later run could find the container, so it is deleted, and the error says so."""
    _damage(state) if broken == "always" else _fail_recording(monkeypatch)
    async with service("upload,part=last:status=503") as emulator:
        for _ in range(3):
            run = await run_upload(emulator, movie, resume="local", max_attempts=1)
            assert isinstance(run.error, UploadFailed)
            assert not run.error.resumable
            assert run.error.advice == _DELETED
            assert dict(emulator.videos) == {}


@pytest.mark.anyio
async def test_marks_without_a_usable_journal(movie: Source, state: Path) -> None:
    """The upload is resumed by its marks."""
    _damage(state)
    async with service("upload,part=last:status=503") as emulator:
        run = await run_upload(emulator, movie, resume="anywhere", max_attempts=1)
        assert isinstance(run.error, UploadFailed)
        assert run.error.resumable
        emulator.clear_faults()
        again = await run_upload(emulator, movie, resume="anywhere")
        assert again.video is not None
        assert again.video.video_id == run.error.video_id
        await check_finished(emulator, movie, again.video.video_id)


@pytest.mark.anyio
async def test_cancellation_without_a_usable_journal(
    movie: Source, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The container is deleted, and a log message says so."""
    _damage(state)
    async with nothing_left(), service("upload,times=9:stall=forever") as emulator:
        task = asyncio.create_task(run_upload(emulator, movie, resume="local"))
        await emulator.wait_for(lambda emulator: emulator.statistics().uploads_in_flight)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert dict(emulator.videos) == {}
    assert caplog.records[-1].getMessage() == f"movie.mp4: {_DELETED}"


# Responses that delete stored parts


@pytest.mark.anyio
@pytest.mark.parametrize(
    "fault",
    ["status=302", "status=413,body=html", "status=421,body=html", "status=400,body=empty", "status=403,body=html",
     "status=404,body=html", "status=405", "problem=invalid-payload", "problem=unrecognized-request-url"],
)  # fmt: skip
async def test_responses_of_a_proxy_delete_nothing(fault: str, movie: Source) -> None:
    """Only a problem that the service reports about this source deletes its container."""
    async with service(f"upload,part=last:{fault}") as emulator:
        run = await run_upload(emulator, movie, resume="local", concurrency=1)
        assert isinstance(run.error, UploadFailed)
        assert run.error.resumable
        assert run.error.advice == "Upload it again to resume."
        emulator.clear_faults()
        again = await run_upload(emulator, movie, resume="local")
        assert again.video is not None, again.error
        assert again.video.video_id == run.error.video_id
        await check_finished(emulator, movie, again.video.video_id)


@pytest.mark.anyio
async def test_404_of_a_proxy_keeps_the_entry(movie: Source) -> None:
    """A captive portal answers the status request. The upload fails, and the next run resumes it."""
    async with service("upload,part=last:status=503") as emulator:
        before = await run_upload(emulator, movie, resume="local", concurrency=1, max_attempts=1)
        assert isinstance(before.error, UploadFailed)
        emulator.clear_faults()
        emulator.add_fault(Fault.parse("status:status=404,body=html"))
        assert (await run_upload(emulator, movie, resume="local")).video is None
        emulator.clear_faults()
        again = await run_upload(emulator, movie, resume="local")
        assert again.video is not None
        assert again.video.video_id == before.error.video_id
        await check_finished(emulator, movie, again.video.video_id)


@pytest.mark.anyio
async def test_container_is_deleted_during_the_upload(movie: Source) -> None:
    """The service reports it, so the entry is removed."""
    async with service("upload,part=last:problem=resource-not-found") as emulator:
        run = await run_upload(emulator, movie, resume="local", concurrency=1)
        assert isinstance(run.error, UploadFailed)
        assert not run.error.resumable
        assert run.error.advice == "This video no longer exists; upload the source again to create a new one."
        assert await list_unfinished() == []


# Cancellation while the container is created


async def _cancelled_during_creation(emulator: Emulator, source: Source, **options: Any) -> float:
    """Cancel after the service has created the container and before it responds.

    :returns: the duration of the cancellation in seconds
    """
    created = len([one for one in emulator.requests if one.endpoint == "create"])
    task = asyncio.create_task(run_upload(emulator, source, **options))
    await emulator.wait_for(
        lambda emulator: emulator.videos or [one.endpoint for one in emulator.requests].count("create") > created
    )
    cancelled_at = anyio.current_time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return anyio.current_time() - cancelled_at


@pytest.mark.anyio
@pytest.mark.parametrize("resume", ["off", "local", "anywhere"])
@pytest.mark.parametrize(("latency", "times"), [(0.08, 10), (0.3, 1)], ids=["80 ms", "300 ms"])
async def test_cancellation_deletes_the_new_container(
    latency: float, times: int, resume: str, source_of: SourceOf, state: Path
) -> None:
    """Cancellation waits for the response, and deletes the empty container, every time."""

    async def cancel(source: Source) -> None:
        async with service(latency=latency) as emulator:
            for _ in range(times):
                assert await _cancelled_during_creation(emulator, source, resume=resume) < _SECONDS
                assert dict(emulator.videos) == {}

    async with nothing_left():
        async with asyncio.TaskGroup() as group:
            for number in range(4):  # most of the time is latency
                group.create_task(cancel(source_of(1000 + number)))
        await join_threads()
        assert resume == "off" or _intents(state) == 0


@pytest.mark.anyio
async def test_interrupt_deletes_the_new_container(forks: Forks, source_of: SourceOf, tmp_path: Path) -> None:
    """Ctrl-C at the command line, with 300 ms latency."""
    source = source_of(1000)
    async with service(latency=0.3) as emulator:
        for flag in ("--no-resume", "--resume"):
            process = forks.command(
                ["upload", source.path, "--base-url", emulator.url, flag],
                *(tmp_path, {"APIVIDEO_API_KEY": KEY}),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            await emulator.wait_for(lambda emulator: emulator.videos)
            process.send_signal(signal.SIGINT)
            assert (await ended(process)).returncode == 130
            assert dict(emulator.videos) == {}


@pytest.mark.anyio
@pytest.mark.parametrize("resume", ["local", "anywhere"])
async def test_late_response_leaves_the_container_to_the_next_run(resume: str, source_of: SourceOf) -> None:
    """If the container cannot be deleted within a second, the next run finds and uses it."""
    source = source_of(SEVERAL_BYTES)
    async with nothing_left(), service("create,times=1:stall=forever,when=stored") as emulator:
        assert await _cancelled_during_creation(emulator, source, resume=resume) < _SECONDS
        (video_id,) = emulator.videos
        run = await run_upload(emulator, source, resume=resume)
        assert run.video is not None, run.error
        assert run.video.video_id == video_id
        await check_finished(emulator, source, video_id)
        assert run.video.metadata == ()
