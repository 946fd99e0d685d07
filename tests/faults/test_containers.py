"""Containers: exactly one per file, whenever a process ends, and which ones are deleted."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from async_uploader import UploadFailed, Video, forget_unfinished, list_unfinished
from async_uploader._models import MARK_INTENT
from async_uploader._resume.journal import Journal
from async_uploader.emulator import Emulator, Fault
from async_uploader.events import ContainerReady, UploadEvent
from harness.forking import Forks
from harness.world import (
    FRAMING_BYTES,
    HANG_SECONDS,
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
from .leaks import join_threads, nothing_left
from .matrix import SEVERAL_BYTES

SourceOf = Callable[[int], Source]

_SECONDS: Final = 1.3
_DAY_SECONDS: Final = 24 * 3600.0
_DELETED: Final = "The journal cannot be used, so this upload cannot be resumed. The unfinished video was deleted."


@pytest.fixture
def movie(source_of: SourceOf, tmp_path: Path) -> Source:
    """A copy of a source, which the test may change."""
    original = source_of(SEVERAL_BYTES)
    shutil.copyfile(original.path, tmp_path / "movie.mp4")
    return replace(original, path=tmp_path / "movie.mp4")


def _change_journal(state: Path, statement: str, *values: object) -> list[Any]:
    """Execute a statement on the journal; returns its rows."""
    with closing(sqlite3.connect(state / "async_uploader" / "journal.sqlite3")) as database, database:
        return database.execute(statement, values).fetchall()


def _intents(state: Path) -> int:
    return int(_change_journal(state, "SELECT count(*) FROM intent")[0][0])


# Processes that are killed at every call


async def _token(emulator: Emulator) -> str:
    async with QuickClient(api_key=KEY, base_url=emulator.url) as client:
        return (await client.create_upload_token()).token


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
    await _check_sent_once(uploader.emulator, source, video_id)
    async with QuickClient(api_key=KEY, base_url=uploader.emulator.url) as client:
        assert (await client.get_video(video_id)).metadata == ()
    assert await anyio.to_thread.run_sync(_intents, uploader.state) == 0
    await _check_is_kept(uploader, video_id)
    return first.is_killed


async def _check_sent_once(emulator: Emulator, source: Source, video_id: str) -> None:
    """The video has the bytes of the source, and of stored parts, at most the fields of the form were sent again.

    With an upload token, these fields contain the id of the video, by which the service refuses the part.
    """
    view = await emulator.finished(video_id)
    assert (view.sha256, view.size_bytes) == (source.sha256, source.size_bytes)
    refused = [one for one in uploads(emulator) if one.status == 400]
    assert emulator.statistics().bytes_again <= len(refused) * FRAMING_BYTES


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
    return not _change_journal(uploader.state, "SELECT id FROM upload")


@pytest.mark.anyio
@pytest.mark.timeout(180)
@pytest.mark.parametrize("case", ["key", "marks", "token", "token, one part"])
async def test_killed_at_every_call(case: str, forks: Forks, source_of: SourceOf, tmp_path: Path) -> None:
    """Killed before or after each request and each write of the journal: one video, no part sent twice."""
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
                upload_token=await _token(emulator) if case.startswith("token") else None,
            )
            was_killed[kill_at] = await _kill_and_run_again(uploader, source, kill_at=kill_at)

    last_step = {"key": 32, "marks": 38, "token": 16, "token, one part": 8}[case]
    async with anyio.create_task_group() as group:
        for kill_at in range(1, last_step + 1):
            group.start_soon(check, kill_at)
    assert not was_killed[last_step], "there are more calls"
    assert sum(was_killed.values()) >= last_step // 2


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
        token = await _token(emulator) if delegated else None
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
        environment = {**os.environ, "APIVIDEO_UPLOAD_TOKEN": await _token(emulator)}
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
        token = await _token(emulator)
        with pytest.raises(_FullDiskError):
            await _run(emulator, source, token, on_video=_raise)
        await join_threads()
        _change_journal(state, "UPDATE upload SET video = NULL")
        sent = len(uploads(emulator))
        video = await _run(emulator, source, token)
        (last,) = uploads(emulator)[sent:]
        assert (last.content_range, last.status) == ("part 3/3", 400)
        assert last.body_bytes < FRAMING_BYTES
        assert list(emulator.videos) == [video.video_id]
        await _check_sent_once(emulator, source, video.video_id)


@pytest.mark.anyio
async def test_acknowledged_part_is_not_stored(source_of: SourceOf) -> None:
    """An upload token cannot ask which one, so every part is announced, and only the missing one is sent."""
    source = source_of(SEVERAL_BYTES)
    async with service("upload,part=2,times=1:status=200,body=html") as emulator:
        token = await _token(emulator)
        ids = set()
        for _ in range(2):
            with pytest.raises(UploadFailed, match="no response contained the finished video") as caught:
                await _run(emulator, source, token)
            assert str(caught.value.video_id) in str(caught.value)
            ids.add(caught.value.video_id)
        video = await _run(emulator, source, token)
        assert ids == {video.video_id} == set(emulator.videos)
        await _check_sent_once(emulator, source, video.video_id)


# keep_finished


async def _kept(emulator: Emulator, source: Source) -> Video:
    """A finished upload that is kept in the journal."""
    run = await run_upload(emulator, source, resume="local", keep_finished=True)
    assert run.video is not None, run.error
    return run.video


@pytest.mark.anyio
@pytest.mark.parametrize("delegated", [False, True], ids=["key", "token"])
async def test_keep_finished_until_forgotten(delegated: bool, movie: Source) -> None:
    """Until ``forget_unfinished``, runs return the same video with at most one request."""
    async with service() as emulator:
        token = await _token(emulator) if delegated else None
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
        _change_journal(state, "UPDATE upload SET started_at = started_at - ?", 7 * _DAY_SECONDS + 1)
        _change_journal(state, "INSERT INTO intent VALUES ('old', x'00', 'nobody', 0)")
        assert (await _kept(emulator, movie)).video_id != first.video_id
        await join_threads()
        assert _intents(state) == 0
        _change_journal(state, "UPDATE upload SET started_at = started_at - ?, video = NULL", 30 * _DAY_SECONDS)
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


# Intents


async def _create_with_intent(emulator: Emulator, intent: str) -> str:
    async with QuickClient(api_key=KEY, base_url=emulator.url) as client:
        return (await client.create_video(title="x", metadata={MARK_INTENT: intent})).video_id


def _add_intent(state: Path, source: Source, intent: str) -> None:
    _change_journal(
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
