"""Files that get other attributes, or are modified with their modification time restored."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest

from async_uploader import SourceFailed
from async_uploader._limits import MIB
from async_uploader._plan import Part
from async_uploader._sources.file import FileSource
from async_uploader._sources.read_parts import ReadParts
from async_uploader._sources.reader import FilePartReader
from async_uploader.events import PartBegan, RetryScheduled, UploadEvent
from harness.world import PART, Source, check_finished, check_sentence, run_upload, service, uploads

from .leaks import join_threads
from .matrix import SEVERAL_BYTES
from .resuming import change_journal, interrupted_container, upload_and_change

SourceOf = Callable[[int], Source]

_RATE: Final = 20_000_000  # bytes a second: slow enough for a change in the middle of a part
_DIFFERS: Final = (
    "has changed since the upload began: its contents differ, although its size and modification time"
)
# An offset between two blocks of the sample, which are 16 KiB long.
_NOT_IN_SAMPLE: Final = 5 * (SEVERAL_BYTES // 256) + 20_000


def _write(path: Path, *, at: int) -> None:
    """Change a byte, and restore the modification time."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        old = file.read(1)
        file.seek(at)
        file.write(bytes([old[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_ctime_ns > before.st_ctime_ns


def _current(movie: Source) -> Source:
    digest = sha256(movie.path.read_bytes()).hexdigest()
    return Source(path=movie.path, size_bytes=movie.size_bytes, sha256=digest)


def _make_link(path: Path) -> None:
    path.with_suffix(".link").hardlink_to(path)


def _rename_and_back(path: Path) -> None:
    other = path.rename(path.with_suffix(".other"))
    other.rename(path)


ATTRIBUTES: Final = {
    "chmod": lambda path: path.chmod(0o600),
    "hard link": _make_link,
    "rename": _rename_and_back,
}


# Changes during the upload


@pytest.mark.anyio
@pytest.mark.parametrize("resume", ["off", "local"], ids=["resume off", "resume on"])
@pytest.mark.parametrize(
    ("after_bytes", "at", "concurrency"),
    # One part at a time: with several, socket buffers can take all of a short file before it is changed.
    [(MIB, 0, 1), (PART + MIB, 0, 1)],
    ids=["current part", "earlier part"],
)
async def test_change_of_sent_bytes_fails_the_upload(
    after_bytes: int, at: int, concurrency: int, resume: str, movie: Source
) -> None:
    """Size and modification time stay the same. The container is deleted."""
    async with service(connection_rate=_RATE) as emulator:
        change = partial(_write, movie.path, at=at)
        options = {"concurrency": concurrency, "resume": resume}
        run = await upload_and_change(change, movie, after_bytes=after_bytes, emulator=emulator, **options)
        assert isinstance(run.error, SourceFailed)
        assert _DIFFERS in str(run.error)
        check_sentence(str(run.error))
        assert dict(emulator.videos) == {}


@pytest.mark.anyio
@pytest.mark.parametrize("at", [0, PART, 2 * PART], ids=["first part", "second part", "last part"])
async def test_change_before_a_retry_of_the_last_part_fails_the_upload(at: int, movie: Source) -> None:
    """All parts were read once. The last part is not sent with different bytes."""

    def listen(event: UploadEvent) -> None:
        if isinstance(event, RetryScheduled):
            _write(movie.path, at=at)

    async with service("upload,part=last,times=1:status=503") as emulator:
        run = await run_upload(emulator, movie, concurrency=1, on_event=listen)
        assert isinstance(run.error, SourceFailed)
        assert _DIFFERS in str(run.error)
        assert dict(emulator.videos) == {}


@pytest.mark.anyio
async def test_change_of_unsent_bytes_is_uploaded(movie: Source) -> None:
    """The parts that were sent are the same, so the video is the current file."""
    async with service(connection_rate=_RATE) as emulator:
        change = partial(_write, movie.path, at=2 * PART + MIB // 2)
        run = await upload_and_change(change, movie, after_bytes=MIB, emulator=emulator, concurrency=1)
        assert run.video is not None, run.error
        await check_finished(emulator, _current(movie), run.video.video_id)


@pytest.mark.anyio
@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("change", ATTRIBUTES.values(), ids=ATTRIBUTES)
async def test_change_of_attributes_is_ignored(
    change: Callable[[Path], object], concurrency: int, movie: Source
) -> None:
    """The bytes are the same. No part is sent again."""
    async with service(connection_rate=_RATE) as emulator:
        options = {"concurrency": concurrency, "resume": "local"}
        run = await upload_and_change(
            partial(change, movie.path), movie, after_bytes=PART + MIB, emulator=emulator, **options
        )
        assert run.video is not None, run.error
        await check_finished(emulator, movie, run.video.video_id)


@pytest.mark.anyio
async def test_change_between_two_attempts_fails_the_upload(movie: Source) -> None:
    """The service may have stored the first attempt, so the second one must have the same bytes."""
    async with service("upload,part=2:stall=0.3,when=late", "upload,part=2,times=1:cut,when=late") as emulator:
        change = partial(_write, movie.path, at=PART)
        run = await upload_and_change(change, movie, after_bytes=2 * PART, emulator=emulator, concurrency=1)
        assert isinstance(run.error, SourceFailed)
        assert _DIFFERS in str(run.error)
        assert dict(emulator.videos) == {}


@pytest.mark.anyio
async def test_one_comparison_serves_all_parts(movie: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks of later parts do not read again what an earlier check has compared."""
    compared: list[list[int]] = []
    original = ReadParts.accept

    def accept(self: ReadParts, parts: Any, *, ctime_ns: int | None) -> None:
        compared.append([known.part.number for known in parts])
        original(self, parts, ctime_ns=ctime_ns)

    monkeypatch.setattr(ReadParts, "accept", accept)
    async with service(connection_rate=_RATE) as emulator:
        change = partial(movie.path.chmod, 0o600)
        run = await upload_and_change(change, movie, after_bytes=PART + MIB, emulator=emulator, concurrency=1)
        assert run.video is not None, run.error
    assert sorted(number for numbers in compared for number in numbers) in ([1, 2], [1, 2, 3])


@pytest.mark.anyio
async def test_check_of_a_part_covers_parts_checked_before(movie: Source) -> None:
    """The file changes between the checks of two parts that end together: the second check covers both."""
    from concurrent.futures import ThreadPoolExecutor

    from async_uploader import SourceError

    first, second = (Part(number=n, offset=(n - 1) * PART, size_bytes=PART, last=False) for n in (1, 2))
    block = memoryview(bytearray(PART))
    with ThreadPoolExecutor(2) as threads:
        source = await FileSource.open(movie.path, threads=threads)
        assert source is not None
        async with source.reading(first) as one, source.reading(second) as other:
            assert isinstance(other, FilePartReader)
            while not (other._remaining_bytes <= 4096):
                await other.readinto(block[: max(1, other._remaining_bytes - 4096)])
            while await one.readinto(block):
                pass
            _write(movie.path, at=0)
            with pytest.raises(SourceError, match="its contents differ"):
                await other.readinto(block)


@pytest.mark.anyio
async def test_cancelled_comparison_stops(movie: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancellation does not wait for the thread, and the thread stops reading."""
    started, stopped, ended = asyncio.Event(), threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def compare(self: ReadParts, check_identity: object, stop: threading.Event) -> tuple[list[Any], int | None]:
        loop.call_soon_threadsafe(started.set)
        if stop.wait(10):
            stopped.set()
        ended.set()
        return [], self.ctime_ns

    monkeypatch.setattr(ReadParts, "compare", compare)
    async with service(connection_rate=_RATE) as emulator:
        run = asyncio.create_task(run_upload(emulator, movie, concurrency=1))
        await emulator.wait_for(lambda emulator: emulator.statistics().bytes_received > MIB)
        movie.path.chmod(0o600)
        await started.wait()
        run.cancel()
        await asyncio.wait([run], timeout=5)
        assert run.cancelled()
    assert await asyncio.to_thread(ended.wait, 5)
    assert stopped.is_set()


# Changes before the upload is resumed


@pytest.mark.anyio
@pytest.mark.parametrize("at", [0, PART + _NOT_IN_SAMPLE], ids=["in the sample", "between blocks of the sample"])
async def test_change_of_received_bytes_starts_again(at: int, movie: Source) -> None:
    """The file is uploaded from its beginning, and the unfinished container is deleted."""
    async with service() as emulator:
        before = await interrupted_container(emulator, movie)
        _write(movie.path, at=at)
        run = await run_upload(emulator, movie, resume="local")
        assert run.video is not None, run.error
        assert run.video.video_id != before
        await check_finished(emulator, _current(movie), run.video.video_id)


@pytest.mark.anyio
async def test_change_of_missing_bytes_is_resumed(movie: Source) -> None:
    """The service has none of these bytes, so the video is the current file."""
    async with service() as emulator:
        before = await interrupted_container(emulator, movie)
        last = (2 * PART // (SEVERAL_BYTES // 256) + 2) * (SEVERAL_BYTES // 256) + 20_000
        _write(movie.path, at=last)
        run = await run_upload(emulator, movie, resume="local")
        assert run.video is not None, run.error
        assert run.video.video_id == before
        await check_finished(emulator, _current(movie), before)


@pytest.mark.anyio
@pytest.mark.parametrize("change", ATTRIBUTES.values(), ids=ATTRIBUTES)
async def test_change_of_attributes_is_resumed(
    change: Callable[[Path], object], movie: Source, state: Path
) -> None:
    """The journal stores the new change time, so the next run compares nothing."""
    async with service() as emulator:
        before = await interrupted_container(emulator, movie)
        change(movie.path)
        since = asyncio.get_running_loop().time()
        await interrupted_container(emulator, movie)
        await join_threads()
        assert change_journal(state, "SELECT ctime_ns FROM upload") == [(movie.path.stat().st_ctime_ns,)]
        assert len(change_journal(state, "SELECT 1 FROM part WHERE length(checksum) = 16")) == 2
        run = await run_upload(emulator, movie, resume="local")
        assert run.video is not None, run.error
        assert run.video.video_id == before
        await check_finished(emulator, movie, before)
        assert {one.content_range for one in uploads(emulator, since)} == {"part 3/3"}


@pytest.mark.anyio
@pytest.mark.parametrize("changed", [False, True], ids=["unchanged", "chmod"])
async def test_part_without_a_checksum(changed: bool, movie: Source, state: Path) -> None:
    """The process was killed before it recorded the part, so the part cannot be compared after a change."""
    async with service() as emulator:
        before = await interrupted_container(emulator, movie)
        await join_threads()
        change_journal(state, "DELETE FROM part WHERE number = 2")
        if changed:
            movie.path.chmod(0o600)
        run = await run_upload(emulator, movie, resume="local")
        assert run.video is not None, run.error
        assert (run.video.video_id == before) is not changed
        await check_finished(emulator, movie, run.video.video_id)


@pytest.mark.anyio
async def test_missing_checksums_are_computed_on_resuming(movie: Source, state: Path) -> None:
    """A chmod during the resumed upload can then be compared."""

    def listen(event: UploadEvent) -> None:
        if isinstance(event, PartBegan):
            movie.path.chmod(0o600)

    async with service() as emulator:
        before = await interrupted_container(emulator, movie)
        await join_threads()
        change_journal(state, "DELETE FROM part WHERE number = 2")
        run = await run_upload(emulator, movie, resume="local", on_event=listen)
        assert run.video is not None, run.error
        assert run.video.video_id == before
        await check_finished(emulator, movie, before)


@pytest.mark.anyio
async def test_entry_of_an_older_version_is_resumed(movie: Source, state: Path) -> None:
    """It has neither a change time nor checksums."""
    async with service() as emulator:
        before = await interrupted_container(emulator, movie)
        await join_threads()
        change_journal(state, "UPDATE upload SET ctime_ns = NULL")
        change_journal(state, "UPDATE part SET checksum = NULL")
        movie.path.chmod(0o600)
        run = await run_upload(emulator, movie, resume="local")
        assert run.video is not None, run.error
        assert run.video.video_id == before
        await check_finished(emulator, movie, before)


@pytest.mark.anyio
@pytest.mark.parametrize("resume", ["local", "anywhere"])
async def test_keep_finished_notices_changes(resume: str, movie: Source) -> None:
    """After a chmod, the same video is returned. After a modification, there is a new one."""
    async with service() as emulator:
        options: dict[str, Any] = {"resume": resume, "keep_finished": True}
        first = await run_upload(emulator, movie, **options)
        movie.path.chmod(0o600)
        second = await run_upload(emulator, movie, **options)
        assert first.video is not None
        assert second.video is not None, second.error
        assert second.video.video_id == first.video.video_id
        _write(movie.path, at=_NOT_IN_SAMPLE)
        third = await run_upload(emulator, movie, **options)
        assert third.video is not None, third.error
        assert third.video.video_id != first.video.video_id
        assert (await emulator.finished(third.video.video_id)).sha256 == _current(movie).sha256
        assert (await emulator.finished(first.video.video_id)).sha256 == movie.sha256
