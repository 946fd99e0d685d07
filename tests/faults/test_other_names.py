"""Files that are renamed, linked or copied between two runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from harness.world import Source, check_finished, run_upload, service

from .conftest import StartUpload
from .leaks import join_threads
from .resuming import change_journal, interrupted_container

SourceOf = Callable[[int], Source]


# Changes before the upload is resumed


# Other names of the same file


def _dotted(path: Path) -> Path:
    (path.parent / "sub").mkdir()
    return path.parent / "sub" / ".." / path.name


def _symbolic(path: Path) -> Path:
    link = path.with_name("link.mp4")
    link.symlink_to(path.name)
    return link


def _hard(path: Path) -> Path:
    link = path.with_name("hard.mp4")
    link.hardlink_to(path)
    return link


def _renamed(path: Path) -> Path:
    (path.parent / "elsewhere").mkdir()
    return path.rename(path.parent / "elsewhere" / "new.mp4")


NAMES: Final = {"sub/..": _dotted, "symbolic link": _symbolic, "hard link": _hard, "renamed": _renamed}


def _source_at(path: Path, movie: Source) -> Source:
    return Source(path=path, size_bytes=movie.size_bytes, sha256=movie.sha256)


@pytest.mark.anyio
@pytest.mark.parametrize("other", NAMES.values(), ids=NAMES)
async def test_other_name_of_the_file_is_resumed(
    other: Callable[[Path], Path], movie: Source, state: Path
) -> None:
    """The journal keeps one entry."""
    async with service() as emulator:
        before = await interrupted_container(emulator, movie)
        source = _source_at(other(movie.path), movie)
        assert await interrupted_container(emulator, source) == before
        await join_threads()
        assert len(change_journal(state, "SELECT 1 FROM upload")) == 1
        run = await run_upload(emulator, source, resume="local")
        assert run.video is not None, run.error
        assert run.video.video_id == before
        await check_finished(emulator, movie, before)
        await join_threads()
        assert change_journal(state, "SELECT 1 FROM upload") == []


@pytest.mark.anyio
async def test_copy_is_another_source(movie: Source) -> None:
    """A copy has another inode, and becomes another video."""
    async with service() as emulator:
        before = await interrupted_container(emulator, movie)
        copy = movie.path.with_name("copy.mp4")
        shutil.copy2(movie.path, copy)
        run = await run_upload(emulator, _source_at(copy, movie), resume="local")
        assert run.video is not None, run.error
        assert run.video.video_id != before
        run = await run_upload(emulator, movie, resume="local")
        assert run.video is not None, run.error
        assert run.video.video_id == before


@pytest.mark.anyio
@pytest.mark.parametrize("other", [_dotted, _symbolic, _hard], ids=["sub/..", "symbolic link", "hard link"])
async def test_concurrent_uploads_under_two_names_are_refused(
    other: Callable[[Path], Path], command: StartUpload, movie: Source, state: Path
) -> None:
    """The locks of the first upload survive the refusal of the second."""
    source = _source_at(other(movie.path), movie)
    async with service("upload,part=last,times=1:stall=forever") as emulator:
        async with command(emulator, movie, state):
            await emulator.wait_for(lambda emulator: emulator.statistics().uploads_in_flight)
            for _ in range(2):
                async with command(emulator, source, state) as second:
                    out, err = await second.wait()
                assert (second.returncode, out) == (2, "")
                assert err == f"error: {source.path} is already being uploaded by another process.\n"
            assert len(emulator.videos) == 1
        emulator.clear_faults()
        run = await run_upload(emulator, source, resume="local")
        assert run.video is not None, run.error
        await check_finished(emulator, source, run.video.video_id)
