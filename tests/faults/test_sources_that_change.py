"""Files that change during the upload: the error says how, and no video mixes two states of a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from async_uploader import SourceError, SourceFailed
from async_uploader._limits import MIB
from harness.world import Run, Source, check_sentence, service

from .matrix import SEVERAL_BYTES
from .resuming import upload_and_change

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
    """A change of the file, and the expected message."""

    name: str
    apply: Callable[[Path], object]
    message: str


_CHANGED: Final = "has changed since the upload began: "

CHANGES: Final = (
    Change(name="grows", apply=_grow,
           message=f"{_CHANGED}it had 11,534,337 bytes and has 11,534,341 now."),
    Change(name="shrinks", apply=partial(os.truncate, length=SEVERAL_BYTES - 1),
           message=f"{_CHANGED}it had 11,534,337 bytes and has 11,534,336 now."),
    Change(name="is truncated to the bytes read", apply=partial(os.truncate, length=MIB),
           message=f"{_CHANGED}it had 11,534,337 bytes and has 1,048,576 now."),
    Change(name="is emptied", apply=partial(os.truncate, length=0),
           message=f"{_CHANGED}it had 11,534,337 bytes and has 0 now."),
    Change(name="is replaced", apply=_replace, message=f"{_CHANGED}it was replaced by another file."),
    Change(name="is rewritten", apply=_rewrite, message=f"{_CHANGED}it was modified."),
    Change(name="is touched", apply=os.utime, message=f"{_CHANGED}it was modified."),
    Change(name="is deleted", apply=os.unlink, message="can no longer be read: No such file or directory."),
    Change(name="becomes a directory", apply=_become_directory,
           message=f"{_CHANGED}it had 11,534,337 bytes and has "),
)  # fmt: skip


@pytest.mark.anyio
@pytest.mark.parametrize("concurrency", [1, 2])  # of three parts, so the last one has not been read
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
async def test_change_in_the_middle(change: Change, concurrency: int, movie: Source) -> None:
    """The upload fails with SourceFailed, and the container is deleted."""
    async with service(connection_rate=20_000_000) as emulator:
        run = await upload_and_change(
            partial(change.apply, movie.path),
            movie,
            after_bytes=MIB,
            emulator=emulator,
            concurrency=concurrency,
            resume="local" if concurrency == 1 else "off",
        )
        _check_error(run, change, movie)
        assert dict(emulator.videos) == {}


def _check_error(run: Run, change: Change, movie: Source) -> None:
    assert isinstance(run.error, SourceFailed)
    assert isinstance(run.error.__cause__, SourceError)
    assert change.message in str(run.error)
    assert f": {movie.path} " in str(run.error)
    assert not run.error.resumable
    check_sentence(str(run.error))


@pytest.mark.anyio
@pytest.mark.parametrize("change", CHANGES[::2], ids=lambda change: change.name)
async def test_change_at_the_end(change: Change, movie: Source) -> None:
    """The upload succeeds with the old contents if all bytes have been read, and fails otherwise."""
    async with service(connection_rate=20_000_000) as emulator:
        run = await upload_and_change(
            partial(change.apply, movie.path),
            movie,
            after_bytes=SEVERAL_BYTES - MIB // 2,
            emulator=emulator,
            concurrency=1,
        )
        if run.video is None:
            _check_error(run, change, movie)
            assert dict(emulator.videos) == {}
        else:
            assert (await emulator.finished(run.video.video_id)).sha256 == movie.sha256


@pytest.mark.anyio
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
async def test_change_before_a_retry(change: Change, movie: Source) -> None:
    """A part whose response was lost is checked again before it is retried."""
    async with service("upload,part=first:stall=0.2,when=middle", "upload,part=first:cut,when=late") as emulator:
        run = await upload_and_change(
            partial(change.apply, movie.path), movie, after_bytes=2 * MIB, emulator=emulator, concurrency=1
        )
        _check_error(run, change, movie)
        assert dict(emulator.videos) == {}
