"""The temporary directory is removed when its process ends, however and whenever that is."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import aiohttp
import anyio
import pytest

from async_uploader.emulator import Emulator
from async_uploader.emulator._storage import temporary_directory
from async_uploader.emulator._storage.temporary_directory import PREFIX, TemporaryDirectory, remove_stale
from harness.forking import Forks

from .conftest import MIB, PART, Api, basic, content
from .raw import Raw, upload_head

pytest_anyio = pytest.mark.anyio

#: Sends signals to its own process when a function is called for the first time: `MODULE NAME SIGNAL TIMES KIND`.
_PROGRAM = """
import asyncio, functools, importlib, os, sys

module, name, number, times, kind, *arguments = sys.argv[1:]
module = importlib.import_module("async_uploader.emulator." + module)
owner, _, attribute = name.rpartition(".")
owner = getattr(module, owner) if owner else module
function = getattr(owner, attribute)

@functools.wraps(function)
def called(*args, **options):
    if not called.has_been:
        called.has_been = True
        for _ in range(int(times)):
            os.kill(os.getpid(), int(number))
    return function(*args, **options)

called.has_been = False
setattr(owner, attribute, called)

async def main():
    from async_uploader import upload
    from async_uploader.emulator import Emulator
    async with Emulator() as emulator:
        await upload(*arguments, api_key="local-key", base_url=emulator.url, part_size=5 << 20)
    raise SystemExit("the program continued")

if kind == "program":
    asyncio.run(main())
elif kind == "uvloop":
    import uvloop
    uvloop.run(main())
elif kind == "plugin":
    from async_uploader.pytest_plugin import running_emulator
    from async_uploader import upload
    with running_emulator() as emulator:
        asyncio.run(upload(*arguments, api_key="local-key", base_url=emulator.url, part_size=5 << 20))
else:
    from async_uploader.cli import main
    sys.argv[1:] = ["upload", *arguments, "--local", "--part-size=5MiB"] if kind == "upload" else ["emulator"]
    main()
"""

MOMENTS = {
    "before the directory is locked": "_storage.temporary_directory _lock_directory",
    "before its lock file is locked": "_storage.data_directory DataDirectory._lock_root",
    "before a socket listens": "_http.connections Connections.start",
    "while a part is received": "_storage.part_file PartFile.write",
    "when a part has been received": "_storage.part_file PartFile.move_to",
    "while parts are joined": "_storage.source_file SourceFile._copy",
    "while it closes": "_storage.data_directory DataDirectory.close",
    "while it is removed": "_storage.temporary_directory _remove",
}
SIGNALS = {
    "INT": (signal.SIGINT, 1),
    "INT twice": (signal.SIGINT, 2),
    "TERM": (signal.SIGTERM, 1),
    "HUP": (signal.SIGHUP, 1),
}


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Where processes create their temporary directories."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    return directory


@pytest.fixture
def environment(temporary: Path, tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(temporary), "XDG_STATE_HOME": str(tmp_path / "state")}


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    path = tmp_path / "movie.mp4"
    path.write_bytes(content(2 * PART + 1))
    return path


@pytest.fixture
def in_process(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process creates its temporary directories."""
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    return temporary


def left_in(directory: Path) -> list[Path]:
    """The content of a directory."""
    return list(directory.iterdir())


@pytest.mark.parametrize("kind", ["upload", "program", "uvloop", "plugin"])
@pytest.mark.parametrize(("number", "times"), SIGNALS.values(), ids=SIGNALS)
def test_signals_at_any_moment(
    forks: Forks,
    tmp_path: Path,
    temporary: Path,
    environment: dict[str, str],
    movie: Path,
    kind: str,
    number: signal.Signals,
    times: int,
) -> None:
    """At every moment, the directory is removed, and the process ends as it would without an emulator."""
    for moment, function in MOMENTS.items():
        words = (*function.split(), str(int(number)), str(times), kind, str(movie))
        done = forks.run("-c", _PROGRAM, *words, cwd=tmp_path, env=environment)
        assert left_in(temporary) == [], moment
        assert "the program continued" not in done.stderr, moment
        if kind == "upload":
            assert done.returncode in (0, 130), (moment, done)  # 0: the upload was already finished
        elif number != signal.SIGINT:
            assert done.returncode in (-number, 1), (moment, done)
        else:
            assert done.returncode != 0, (moment, done)


@pytest.mark.parametrize(
    "moment", ["before the directory is locked", "before its lock file is locked", "before a socket listens"]
)
@pytest.mark.parametrize(("number", "times"), SIGNALS.values(), ids=SIGNALS)
def test_signals_while_the_command_starts(
    forks: Forks,
    tmp_path: Path,
    temporary: Path,
    environment: dict[str, str],
    moment: str,
    number: signal.Signals,
    times: int,
) -> None:
    """`emulator` leaves nothing, even if it did not start to listen."""
    words = (*MOMENTS[moment].split(), str(int(number)), str(times), "emulator")
    done = forks.run("-c", _PROGRAM, *words, cwd=tmp_path, env=environment)
    assert left_in(temporary) == []
    assert done.returncode in (0, 130)
    assert "Traceback" not in done.stderr


def _start(forks: Forks, directory: Path, environment: dict[str, str]) -> tuple[subprocess.Popen[str], str]:
    """Start an emulator; returns its process and its URL."""
    process = forks.python(
        "-m", "async_uploader", "emulator", cwd=directory, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    return process, process.stdout.readline().split()[-1]


@pytest_anyio
@pytest.mark.parametrize(("number", "times"), SIGNALS.values(), ids=SIGNALS)
async def test_signals_during_an_upload(
    forks: Forks,
    tmp_path: Path,
    temporary: Path,
    environment: dict[str, str],
    session: aiohttp.ClientSession,
    number: signal.Signals,
    times: int,
) -> None:
    """Incomplete bodies and received parts are removed."""
    process, url = await asyncio.to_thread(_start, forks, tmp_path, environment)
    with process:
        api = Api(session, url, basic("local-key"))
        video_id = await api.create()
        await api.send(video_id, content(PART), "part 1/*", expect=201)
        async with Raw(url) as raw:
            await raw.send(upload_head(video_id, "part 2/*", PART) + content(PART - MIB))
            for _ in range(times):
                process.send_signal(number)
            _, err = await asyncio.to_thread(process.communicate, timeout=20)
    assert left_in(temporary) == []
    assert process.returncode in ((0,) if times == 1 else (0, 130))
    assert "Traceback" not in err


@pytest.mark.parametrize("kind", ["emulator", "upload"])
def test_the_terminal_is_closed(
    tmp_path: Path, temporary: Path, environment: dict[str, str], movie: Path, kind: str
) -> None:
    """The process gets SIGHUP, and cannot write to the terminal."""
    arguments = ["emulator"] if kind == "emulator" else ["upload", "-", "--local"]
    ours, theirs = pty.openpty()
    reader, writer = os.pipe()

    def set_controlling_terminal() -> None:
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, "-m", "async_uploader", *arguments],
        cwd=tmp_path, env=environment, stdin=reader, stdout=theirs, stderr=theirs,
        start_new_session=True, preexec_fn=set_controlling_terminal,  # noqa: PLW1509
    )  # fmt: skip
    os.close(theirs)
    os.close(reader)
    with process, open(writer, "wb", buffering=0) as pipe:
        if kind == "emulator":
            assert b"listening" in os.read(ours, 1000)
        else:
            pipe.write(content(2 * PART))  # more than the pipe holds, so the emulator must be running
        assert len(list(temporary.iterdir())) == 1
        os.close(ours)
        process.wait(timeout=20)
    assert left_in(temporary) == []


def test_nohup(forks: Forks, tmp_path: Path, temporary: Path, environment: dict[str, str]) -> None:
    """An ignored SIGHUP stays ignored."""
    command = ["nohup", sys.executable, "-m", "async_uploader", "emulator"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert "listening" in process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    assert left_in(temporary) == []


def test_sigkill_and_the_next_start(
    forks: Forks, tmp_path: Path, temporary: Path, environment: dict[str, str], movie: Path
) -> None:
    """The next start removes the directory of a killed process, and nothing else."""
    for name in (f"{PREFIX}file", "other"):
        (temporary / name).write_text("")
    (temporary / f"{PREFIX}link").symlink_to(tmp_path, target_is_directory=True)
    unrelated = set(temporary.iterdir())
    killed, _ = _start(forks, tmp_path, environment)
    with killed:
        killed.kill()
    (stale,) = set(temporary.iterdir()) - unrelated
    running, _ = _start(forks, tmp_path, environment)
    with running:
        (current,) = set(temporary.iterdir()) - unrelated
        assert current != stale
        done = forks.run("-m", "async_uploader", "upload", str(movie), "--local", cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        assert set(temporary.iterdir()) - unrelated == {current}
        running.terminate()
    assert set(temporary.iterdir()) == unrelated
    assert movie.exists()


def test_data_is_kept(forks: Forks, tmp_path: Path, temporary: Path, environment: dict[str, str]) -> None:
    """`--data` is never removed."""
    data = temporary / f"{PREFIX}data"
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT):
        process = forks.python(
            "-m", "async_uploader", "emulator", "--data", str(data), cwd=tmp_path, env=environment,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with process:
            assert process.stdout is not None
            assert process.stdout.readline()
            process.send_signal(number)
        assert (data / "emulator.lock").exists()


# In the same process


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
