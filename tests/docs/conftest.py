"""One emulator for all pages, and a directory with a movie for each block."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from async_uploader.pytest_plugin import RunningEmulator, running_emulator
from harness.forking import Forks
from harness.shells import commands_for_shells

T = TypeVar("T")

MIB = 1024 * 1024
JOIN_SECONDS = 0.2


def join_slowly(running: RunningEmulator) -> None:
    """Let the emulator join parts as slowly as a busy machine does with large ones, after its response."""
    store = running._emulator._store
    store.joiner.max_response_delay_seconds = 0
    workers = store.workers
    join = workers.run_join

    async def run_join(function: Callable[..., T], *arguments: object) -> T:
        await asyncio.sleep(JOIN_SECONDS)
        return await join(function, *arguments)

    workers.run_join = run_join  # type: ignore[method-assign]


@pytest.fixture(scope="session")
def account() -> Iterator[RunningEmulator]:
    """The service. Its key is `your-key`, as on the pages.

    It is slow: the response that completes an upload does not wait for the join, which takes some time.
    """
    with running_emulator(api_key="your-key") as emulator:
        join_slowly(emulator)
        yield emulator


@pytest.fixture(scope="session")
def started_by_hand() -> Iterator[RunningEmulator]:
    """The emulator that the reader has started on port 8000."""
    with running_emulator() as emulator:
        yield emulator


@pytest.fixture(scope="session")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """11 MiB: three parts of the minimum size."""
    path = tmp_path_factory.mktemp("movie") / "movie.mp4"
    path.write_bytes(random.Random(11).randbytes(11 * MIB))
    return path


@pytest.fixture
def folder(tmp_path: Path, movie: Path) -> Path:
    """The working directory of a block, with the movie and two more files."""
    shutil.copy(movie, tmp_path)
    shows = tmp_path / "shows"
    shows.mkdir()
    for name in ("one.mp4", "two.mp4"):
        (shows / name).write_bytes(name.encode())
    return tmp_path


@pytest.fixture(scope="session")
def commands(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A `PATH` with the package's commands: `async-uploader` is a fork."""
    with commands_for_shells(forks, tmp_path_factory.mktemp("commands")) as variables:
        yield variables


@pytest.fixture
def env(account: RunningEmulator, tmp_path: Path, commands: dict[str, str]) -> dict[str, str]:
    """The reader's environment: the package's commands on the PATH, a key, and a service."""
    return {
        **os.environ,
        **commands,
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "COLUMNS": "200",
        **account.env,
    }


@pytest.fixture
def interrupted(account: RunningEmulator, folder: Path, env: dict[str, str], forks: Forks) -> str:
    """The videoId of a failed upload of the movie that can be resumed."""
    account.add_fault("part=2,times=1:status=503")
    command = ("-m", "async_uploader", "upload", "movie.mp4", "--max-attempts", "1", "--json")
    before = set(account.videos)
    done = forks.run(*command, cwd=folder, env=env)
    account.clear_faults()
    assert done.returncode == 1
    (video_id,) = set(account.videos) - before
    return video_id
