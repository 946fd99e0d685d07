"""The temporary directory in one process: cancellation, failed starts, forks, and stale directories."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from async_uploader.emulator import Emulator
from async_uploader.emulator._storage import temporary_directory
from async_uploader.emulator._storage.temporary_directory import PREFIX, TemporaryDirectory, remove_stale

from .test_temporary import left_in

pytest_anyio = pytest.mark.anyio


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Where processes create their temporary directories."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    return directory


@pytest.fixture
def in_process(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process creates its temporary directories."""
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    return temporary


@pytest_anyio
@pytest.mark.parametrize("how", ["anyio", "asyncio", "an exception"])
async def test_cancellation(in_process: Path, how: str) -> None:
    """A cancellation waits until the emulator is closed, also if it is repeated."""

    async def run(is_running: asyncio.Event) -> None:
        async with Emulator():
            assert len(left_in(in_process)) == 1
            is_running.set()
            if how == "an exception":
                raise ValueError(how)
            await anyio.sleep_forever()

    is_running = asyncio.Event()
    if how == "anyio":
        async with anyio.create_task_group() as group:
            group.start_soon(run, is_running)
            await is_running.wait()
            group.cancel_scope.cancel()
    else:
        task = asyncio.create_task(run(is_running))
        await is_running.wait()
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises((asyncio.CancelledError, ValueError)):
            task.result()
    assert left_in(in_process) == []


@pytest_anyio
async def test_a_failed_start(in_process: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory is removed if the emulator cannot start."""

    def fail(*_: object) -> None:
        raise ValueError("no")

    monkeypatch.setattr("async_uploader.emulator._http.connections.Connections.start", fail)
    with pytest.raises(ValueError, match="no"):
        await Emulator().__aenter__()
    assert left_in(in_process) == []


@pytest_anyio
async def test_signal_handlers_are_restored(in_process: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are installed while an emulator runs, and only for signals that the program does not handle."""
    # Other modules' emulators may be running in this process.
    monkeypatch.setattr(temporary_directory._process, "watchers", 0)
    previous_sigterm = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    program_handler: Callable[..., object] = lambda *_: None  # noqa: E731
    previous_sighup = signal.signal(signal.SIGHUP, program_handler)
    try:
        async with Emulator():
            async with Emulator():
                assert signal.getsignal(signal.SIGTERM) is temporary_directory._handle_signal
            assert signal.getsignal(signal.SIGTERM) is temporary_directory._handle_signal
            assert signal.getsignal(signal.SIGHUP) is program_handler
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGHUP) is program_handler
    finally:
        signal.signal(signal.SIGHUP, previous_sighup)
        signal.signal(signal.SIGTERM, previous_sigterm)


# The class


def test_a_fork_keeps_its_parents_directories(in_process: Path) -> None:
    """A forked child removes nothing of its parent."""
    directory = TemporaryDirectory()
    path = directory.create()
    if not (child := os.fork()):
        try:
            temporary_directory.remove_all()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert path.is_dir()
    remove_stale()
    assert path.is_dir()
    directory.remove()
    assert left_in(in_process) == []


def test_removal_during_writes(in_process: Path) -> None:
    """Threads that create files in the directory do not prevent its removal."""
    directory = TemporaryDirectory()
    path = directory.create()
    is_done = threading.Event()

    def write() -> None:
        number = 0
        while not is_done.is_set():
            number += 1
            with suppress(OSError):
                (path / f"{threading.get_ident()}-{number}").write_bytes(b"x")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    directory.remove()
    is_done.set()
    for thread in threads:
        thread.join()
    assert left_in(in_process) == []
    with pytest.raises(OSError, match="cancel"):
        directory.create()


@pytest.fixture
def leftovers(in_process: Path) -> Path:
    """Three directories without an owner, with files."""
    for number in range(3):
        (in_process / f"{PREFIX}{number}" / "videos" / "vi").mkdir(parents=True)
        for name in "ab":
            (in_process / f"{PREFIX}{number}" / "videos" / "vi" / name).write_text("x")
    return in_process


def test_removing_stale_directories_is_bounded(leftovers: Path) -> None:
    """It ends after the given time; the rest is removed by the next call."""
    remove_stale(seconds=0)
    assert len(list(leftovers.iterdir())) == 3
    remove_stale()
    assert left_in(leftovers) == []


def test_removing_stale_directories_during_starts(in_process: Path) -> None:
    """A directory that is found before its owner locks it is not lost."""
    is_done = threading.Event()

    def remove_repeatedly() -> None:
        while not is_done.is_set():
            remove_stale()

    thread = threading.Thread(target=remove_repeatedly)
    thread.start()
    try:
        for _ in range(300):
            directory = TemporaryDirectory()
            assert directory.create().is_dir()
            directory.remove()
    finally:
        is_done.set()
        thread.join()
    remove_stale()
    assert left_in(in_process) == []
