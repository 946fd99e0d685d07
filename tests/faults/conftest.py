"""Fixtures of the fault tests."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from async_uploader import Client
from async_uploader._flow.retries import RetryPolicy
from async_uploader.emulator import Emulator
from harness.forking import Forks
from harness.world import KEY, QuickClient, Source, isolated, make_source

from .matrix import SEVERAL_BYTES


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def state(tmp_path: Path) -> Iterator[Path]:
    """The directory of the journal."""
    with isolated(tmp_path / "state"):
        yield tmp_path / "state"


@pytest.fixture(scope="session")
def source_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Source]:
    """``source_of(size_bytes)`` returns a source, created once. Copy it to change it."""
    folder = tmp_path_factory.mktemp("sources")
    made: dict[int, Source] = {}

    def source_of(size_bytes: int) -> Source:
        if size_bytes not in made:
            made[size_bytes] = make_source(folder / f"{size_bytes}.mp4", size_bytes)
        return made[size_bytes]

    return source_of


@pytest.fixture
def movie(source_of: Callable[[int], Source], tmp_path: Path) -> Source:
    """A copy of a source, which the test may change."""
    original = source_of(SEVERAL_BYTES)
    shutil.copyfile(original.path, tmp_path / "movie.mp4")
    return replace(original, path=tmp_path / "movie.mp4")


Logged = Callable[[], list[str]]


class ImpatientClient(QuickClient):
    """Attempts each request twice, with backoffs of milliseconds."""

    _retry_policy = RetryPolicy(max_attempts=2, first_backoff_seconds=0.001, max_wait_seconds=5)
    _first_poll_seconds = 0.01


@pytest.fixture
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Runs commands in this process, in a directory of their own; restores signal handlers and logging."""
    monkeypatch.chdir(tmp_path)
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.getsignal(number) for number in numbers}
    logger = logging.getLogger("async_uploader")
    before = (logger.handlers[:], logger.propagate, logger.level)
    # The commands create their own clients.
    quick = ("_retry_policy", "_rate_window_seconds", "_settling_policy", "_first_poll_seconds")
    with mock.patch.multiple(Client, **{name: getattr(ImpatientClient, name) for name in quick}):
        yield tmp_path
    logger.handlers[:], logger.propagate = before[:2]
    logger.setLevel(before[2])
    for number, handler in handlers.items():
        signal.signal(number, handler)


class Command:
    """``upload`` in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._ended = asyncio.create_task(asyncio.to_thread(process.communicate))
        self.kill = process.kill

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    async def wait(self) -> tuple[str, str]:
        """Wait until the process ends.

        :returns: standard output and standard error
        """
        return await asyncio.shield(self._ended)


StartUpload = Callable[..., AbstractAsyncContextManager[Command]]


@pytest.fixture
def command(forks: Forks) -> StartUpload:
    """``command(emulator, source, state, *flags, key=True)`` starts an upload, and kills it at the end."""

    @asynccontextmanager
    async def command(
        emulator: Emulator, source: Source, state: Path, *flags: str, key: bool = True
    ) -> AsyncIterator[Command]:
        process = Command(
            forks.python(
                *("-m", "async_uploader", "upload", str(source.path), "--part-size", "5MiB"),
                *("--concurrency", "2", "--base-url", emulator.url, *flags),
                cwd=source.path.parent,
                env={**os.environ, **({"APIVIDEO_API_KEY": KEY} if key else {}), "XDG_STATE_HOME": str(state)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        try:
            yield process
        finally:
            process.kill()
            await process.wait()

    return command


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Logged:
    """``logged()`` returns the messages about resuming."""
    caplog.set_level(logging.INFO, "async_uploader.resume")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "async_uploader.resume"]
