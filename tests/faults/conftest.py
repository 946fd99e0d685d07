"""Fixtures of the fault tests."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from async_uploader.emulator import Emulator
from harness.forking import Forks
from harness.world import KEY, Source, isolated, make_source


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def state(tmp_path: Path) -> Iterator[Path]:
    """Where the journal is; retries are quick."""
    with isolated(tmp_path / "state"):
        yield tmp_path / "state"


@pytest.fixture(scope="session")
def source_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Source]:
    """Sources by their size, made once. Whoever changes one makes a copy."""
    folder = tmp_path_factory.mktemp("sources")
    made: dict[int, Source] = {}

    def source_of(size_bytes: int) -> Source:
        if size_bytes not in made:
            made[size_bytes] = make_source(folder / f"{size_bytes}.mp4", size_bytes)
        return made[size_bytes]

    return source_of


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
        """Until its end.

        :returns: what it has said
        """
        return await asyncio.shield(self._ended)


StartUpload = Callable[..., AbstractAsyncContextManager[Command]]


@pytest.fixture
def command(forks: Forks) -> StartUpload:
    """``command(emulator, source, state, *flags, key=True)``; what is left of it is killed."""

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
