"""A source that changes under the upload: an error that says how, and never a video of two halves."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from async_uploader import SourceError, SourceFailed
from async_uploader._limits import MIB
from async_uploader.emulator import Emulator
from harness.world import Run, Source, check_sentence, run_upload, service

from .matrix import SEVERAL_BYTES

SourceOf = Callable[[int], Source]


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(SEVERAL_BYTES - 10)
        file.write(b"other")


def _replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(os.urandom(SEVERAL_BYTES))
    other.replace(path)


def _become_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What happens to the file, and what is said about it."""

    name: str
    happen: Callable[[Path], object]
    says: str


_CHANGED: Final = "has changed since the upload began: "

CHANGES: Final = (
    Change(name="grows", happen=_grow,
           says=f"{_CHANGED}it had 11,534,337 bytes and has 11,534,341 now."),
    Change(name="shrinks", happen=partial(os.truncate, length=SEVERAL_BYTES - 1),
           says=f"{_CHANGED}it had 11,534,337 bytes and has 11,534,336 now."),
    Change(name="loses all but what was read", happen=partial(os.truncate, length=MIB),
           says=f"{_CHANGED}it had 11,534,337 bytes and has 1,048,576 now."),
    Change(name="is emptied", happen=partial(os.truncate, length=0),
           says=f"{_CHANGED}it had 11,534,337 bytes and has 0 now."),
    Change(name="is replaced", happen=_replace, says=f"{_CHANGED}another file has taken its place."),
    Change(name="is rewritten", happen=_rewrite, says=f"{_CHANGED}it was written to."),
    Change(name="is touched", happen=os.utime, says=f"{_CHANGED}it was written to."),
    Change(name="is deleted", happen=os.unlink, says="cannot be read any more: No such file or directory."),
    Change(name="becomes a directory", happen=_become_directory,
           says=f"{_CHANGED}it had 11,534,337 bytes and has "),
)  # fmt: skip


@pytest.fixture
def movie(source_of: SourceOf, tmp_path: Path) -> Source:
    """A source of one's own."""
    whole = source_of(SEVERAL_BYTES)
    path = tmp_path / "movie.mp4"
    shutil.copyfile(whole.path, path)
    return Source(path=path, size_bytes=whole.size_bytes, sha256=whole.sha256)


async def _run_with(change: Change, movie: Source, *, when_bytes: int, emulator: Emulator, **options: Any) -> Run:
    """Upload, and change the file once the service has so much of it."""
    runs: list[Run] = []

    async def run() -> None:
        runs.append(await run_upload(emulator, movie, **options))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await emulator.wait_for(lambda emulator: emulator.statistics().bytes_received > when_bytes)
        change.happen(movie.path)
    return runs[0]


@pytest.mark.anyio
@pytest.mark.parametrize("concurrency", [1, 2])  # of three parts: the last one has not been read then
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
async def test_while_it_is_sent(change: Change, concurrency: int, movie: Source) -> None:
    """The upload fails as what it is, and its container goes: half of a file is of no use."""
    async with service(connection_rate=20_000_000) as emulator:
        run = await _run_with(
            change,
            movie,
            when_bytes=MIB,
            emulator=emulator,
            concurrency=concurrency,
            resume="local" if concurrency == 1 else "off",
        )
        _check_said(run, change, movie)
        assert dict(emulator.videos) == {}


def _check_said(run: Run, change: Change, movie: Source) -> None:
    assert isinstance(run.error, SourceFailed)
    assert isinstance(run.error.__cause__, SourceError)
    assert change.says in str(run.error)
    assert f": {movie.path} " in str(run.error)
    assert not run.error.resumable
    check_sentence(str(run.error))


@pytest.mark.anyio
@pytest.mark.parametrize("change", CHANGES[::2], ids=lambda change: change.name)
async def test_at_its_very_end(change: Change, movie: Source) -> None:
    """All of it may have been read by then; if not, there is an error."""
    async with service(connection_rate=20_000_000) as emulator:
        run = await _run_with(change, movie, when_bytes=SEVERAL_BYTES - MIB // 2, emulator=emulator, concurrency=1)
        if run.video is None:
            _check_said(run, change, movie)
            assert dict(emulator.videos) == {}
        else:
            assert (await emulator.finished(run.video.video_id)).sha256 == movie.sha256


@pytest.mark.anyio
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
async def test_before_a_part_is_sent_again(change: Change, movie: Source) -> None:
    """A part whose answer was lost is looked at anew; the other parts are not mixed with it."""
    async with service("upload,part=first:stall=0.2,when=middle", "upload,part=first:cut,when=late") as emulator:
        run = await _run_with(change, movie, when_bytes=2 * MIB, emulator=emulator, concurrency=1)
        _check_said(run, change, movie)
        assert dict(emulator.videos) == {}
