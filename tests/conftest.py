"""Fixtures of all tests: files, processes, Chromium, and directories of their own for state."""

from __future__ import annotations

import gc
import hashlib
import random
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from async_uploader import Client
from async_uploader.emulator import Emulator
from async_uploader.pytest_plugin import RunningEmulator
from harness.forking import Forks

from .npm import packages

MIB = 1024 * 1024

#: The supported event loops. They differ in how long they keep a buffer that is being written.
LOOPS = {"asyncio": ("asyncio", {}), "uvloop": ("asyncio", {"use_uvloop": True})}

_NO_CHROMIUM: Final = "Chromium is not installed. Install it with `make chromium` to run the browser tests."


def pytest_collection_finish() -> None:
    """Exclude everything that was imported from garbage collection, which would traverse it again and again."""
    import hypothesis  # noqa: F401 - pytest's plugin imports it later, and it looks for references that are hidden then

    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _isolated_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests neither read the user's settings and state nor change them."""
    for name in ("APIVIDEO_API_KEY", "APIVIDEO_UPLOAD_TOKEN", "APIVIDEO_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[..., Path]:
    """``make_file(size_bytes, name="movie.mp4")`` creates a file. Its bytes differ at distances of a part."""

    def make(size_bytes: int, name: str = "movie.mp4") -> Path:
        path = tmp_path / name
        path.write_bytes(random.Random(size_bytes).randbytes(size_bytes))
        return path

    return make


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Starts commands and programs quickly."""
    with Forks() as forks:
        yield forks


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium. Tests that use it are skipped without it."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip(_NO_CHROMIUM)
    return path


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The directory of api.video's npm packages. Where they cannot be installed, the tests are skipped."""
    try:
        return packages.install(packages.CLIENTS, purpose=packages.NO_NPM)
    except packages.NoPackages as error:
        pytest.skip(str(error))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Summarize all tests that are skipped for the same reason in one line: pytest folds equal locations."""
    for report in terminalreporter.stats.get("skipped", []):
        for reason in (_NO_CHROMIUM, packages.NO_NPM, packages.NO_AZURITE):
            if reason in str(report.longrepr):
                report.longrepr = (
                    __file__,
                    None,
                    f"Skipped: {str(report.longrepr[-1]).removeprefix('Skipped: ')}",
                )


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in the emulator's format."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_only_video(service: RunningEmulator, video_id: str, movie: Path, *, title: str) -> None:
    """The video has the bytes of the movie, and there is no other video."""
    view = service.wait_until_finished(video_id)
    assert (view.sha256, view.title) == (sha256(movie), title)
    assert list(service.videos) == [video_id]


@pytest.fixture
def anyio_backend() -> str:
    """aiohttp supports asyncio only."""
    return "asyncio"


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator() as emulator:
        yield emulator


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[Client]:
    async with Client(api_key="local-key", base_url=emulator.url) as client:
        yield client
