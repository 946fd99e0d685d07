"""The temporary directory is gone when its process is, however and whenever that ends."""

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
from async_uploader.emulator import _scratch as scratch
from async_uploader.emulator._scratch import PREFIX, Scratch, sweep

from ..forking import Forks  # noqa: TID252 - found however pytest is started
from .conftest import MIB, PART, Api, basic, content
from .raw import Raw, upload_head

pytest_anyio = pytest.mark.anyio

#: Sends its own process signals when a function is called, and then calls it: `MODULE NAME SIGNAL TIMES KIND`.
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
    raise SystemExit("the program went on")

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
    "before the directory is locked": "_scratch _hold",
    "before it is taken": "_store Store._take",
    "before a socket listens": "_connections Connections.start",
    "while a part is received": "_spool Spool.write",
    "when a part has been received": "_spool Spool.keep",
    "while parts are joined": "_source SourceFile._copy",
    "while it closes": "_store Store._leave",
    "while it is removed": "_scratch _remove",
}
SIGNALS = {
    "INT": (signal.SIGINT, 1),
    "INT twice": (signal.SIGINT, 2),
    "TERM": (signal.SIGTERM, 1),
    "HUP": (signal.SIGHUP, 1),
}


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Where a process makes its temporary directories."""
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
    """The same for the emulators of this process."""
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    return temporary


def left_in(directory: Path) -> list[Path]:
    """What is in a directory."""
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
    """Whatever the process is doing, nothing stays; and it ends as it would without an emulator."""
    for moment, place in MOMENTS.items():
        words = (*place.split(), str(int(number)), str(times), kind, str(movie))
        done = forks.run("-c", _PROGRAM, *words, cwd=tmp_path, env=environment)
        assert left_in(temporary) == [], moment
        assert "the program went on" not in done.stderr, moment
        if kind == "upload":
            assert done.returncode in (0, 130), (moment, done)  # 0: all was done when it came
        elif number != signal.SIGINT:
            assert done.returncode in (-number, 1), (moment, done)
        else:
            assert done.returncode != 0, (moment, done)


@pytest.mark.parametrize(
    "moment", ["before the directory is locked", "before it is taken", "before a socket listens"]
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
    """`emulator` leaves nothing, also if it never came to listen."""
    words = (*MOMENTS[moment].split(), str(int(number)), str(times), "emulator")
    done = forks.run("-c", _PROGRAM, *words, cwd=tmp_path, env=environment)
    assert left_in(temporary) == []
    assert done.returncode in (0, 130)
    assert "Traceback" not in done.stderr


def _start(forks: Forks, directory: Path, environment: dict[str, str]) -> tuple[subprocess.Popen[str], str]:
    """An emulator's process and its URL."""
    process = forks.python(
        "-m", "async_uploader", "emulator", cwd=directory, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    return process, process.stdout.readline().split()[-1]


@pytest_anyio
@pytest.mark.parametrize(("number", "times"), SIGNALS.values(), ids=SIGNALS)
async def test_the_command_while_it_receives(
    forks: Forks,
    tmp_path: Path,
    temporary: Path,
    environment: dict[str, str],
    session: aiohttp.ClientSession,
    number: signal.Signals,
    times: int,
) -> None:
    """Bodies that are half there end with it, and so does what has been received."""
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
    """Its processes get SIGHUP, and can write nowhere."""
    arguments = ["emulator"] if kind == "emulator" else ["upload", "-", "--local"]
    ours, theirs = pty.openpty()
    reader, writer = os.pipe()

    def take_terminal() -> None:
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, "-m", "async_uploader", *arguments],
        cwd=tmp_path, env=environment, stdin=reader, stdout=theirs, stderr=theirs,
        start_new_session=True, preexec_fn=take_terminal,  # noqa: PLW1509
    )  # fmt: skip
    os.close(theirs)
    os.close(reader)
    with process, open(writer, "wb", buffering=0) as pipe:
        if kind == "emulator":
            assert b"listening" in os.read(ours, 1000)
        else:
            pipe.write(content(2 * PART))  # nobody takes the last of it before the emulator runs
        assert len(list(temporary.iterdir())) == 1
        os.close(ours)
        process.wait(timeout=20)
    assert left_in(temporary) == []


def test_nohup(forks: Forks, tmp_path: Path, temporary: Path, environment: dict[str, str]) -> None:
    """Where SIGHUP is ignored it stays so."""
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
    """What a killed process left is removed by the next one: not what a living one has, or anybody else."""
    for name in (f"{PREFIX}file", "other"):
        (temporary / name).write_text("")
    (temporary / f"{PREFIX}link").symlink_to(tmp_path, target_is_directory=True)
    strangers = set(temporary.iterdir())
    killed, _ = _start(forks, tmp_path, environment)
    with killed:
        killed.kill()
    (left,) = set(temporary.iterdir()) - strangers
    living, _ = _start(forks, tmp_path, environment)
    with living:
        (its,) = set(temporary.iterdir()) - strangers
        assert its != left
        done = forks.run("-m", "async_uploader", "upload", str(movie), "--local", cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        assert set(temporary.iterdir()) - strangers == {its}
        living.terminate()
    assert set(temporary.iterdir()) == strangers
    assert movie.exists()


def test_data_is_kept(forks: Forks, tmp_path: Path, temporary: Path, environment: dict[str, str]) -> None:
    """`--data` is never removed, wherever it is."""
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


# In a program


@pytest_anyio
@pytest.mark.parametrize("how", ["anyio", "asyncio", "an exception"])
async def test_leaving_by_a_cancellation(in_process: Path, how: str) -> None:
    """A cancellation waits until the emulator is closed, however often it comes."""

    async def run(is_there: asyncio.Event) -> None:
        async with Emulator():
            assert len(left_in(in_process)) == 1
            is_there.set()
            if how == "an exception":
                raise ValueError(how)
            await anyio.sleep_forever()

    is_there = asyncio.Event()
    if how == "anyio":
        async with anyio.create_task_group() as group:
            group.start_soon(run, is_there)
            await is_there.wait()
            group.cancel_scope.cancel()
    else:
        task = asyncio.create_task(run(is_there))
        await is_there.wait()
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises((asyncio.CancelledError, ValueError)):
            task.result()
    assert left_in(in_process) == []


@pytest_anyio
async def test_a_start_that_fails(in_process: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory of an emulator that cannot start is removed."""

    def fail(*_: object) -> None:
        raise ValueError("no")

    monkeypatch.setattr("async_uploader.emulator._connections.Connections.start", fail)
    with pytest.raises(ValueError, match="no"):
        await Emulator().__aenter__()
    assert left_in(in_process) == []


@pytest_anyio
async def test_signal_handlers_are_given_back(in_process: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are there while an emulator is, and only where the program has none."""
    # Emulators of other tests' modules may be open in this process.
    monkeypatch.setattr(scratch._process, "watchers", 0)
    of_others = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    own: Callable[..., object] = lambda *_: None  # noqa: E731
    before = signal.signal(signal.SIGHUP, own)
    try:
        async with Emulator():
            async with Emulator():
                assert signal.getsignal(signal.SIGTERM) is scratch._end
            assert signal.getsignal(signal.SIGTERM) is scratch._end
            assert signal.getsignal(signal.SIGHUP) is own
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGHUP) is own
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGTERM, of_others)


# The parts


def test_a_fork_leaves_its_parents_directories(in_process: Path) -> None:
    """A child process that ends like any Python program removes nothing of its parent's."""
    mine = Scratch()
    path = mine.make()
    if not (child := os.fork()):
        try:
            scratch.remove_all()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert path.is_dir()
    sweep()
    assert path.is_dir()
    mine.remove()
    assert left_in(in_process) == []


def test_removed_while_others_write(in_process: Path) -> None:
    """Threads that put files into it do not keep it."""
    mine = Scratch()
    path = mine.make()
    is_over = threading.Event()

    def write() -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            with suppress(OSError):
                (path / f"{threading.get_ident()}-{number}").write_bytes(b"x")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    mine.remove()
    is_over.set()
    for thread in threads:
        thread.join()
    assert left_in(in_process) == []
    with pytest.raises(OSError, match="cancel"):
        mine.make()


@pytest.fixture
def leftovers(in_process: Path) -> Path:
    """Three directories without an owner, with files."""
    for number in range(3):
        (in_process / f"{PREFIX}{number}" / "videos" / "vi").mkdir(parents=True)
        for name in "ab":
            (in_process / f"{PREFIX}{number}" / "videos" / "vi" / name).write_text("x")
    return in_process


def test_sweeping_is_bounded(leftovers: Path) -> None:
    """No start waits longer than that; what is left waits for the next one."""
    sweep(seconds=0)
    assert len(list(leftovers.iterdir())) == 3
    sweep()
    assert left_in(leftovers) == []


def test_sweeping_during_starts(in_process: Path) -> None:
    """A sweep that finds a directory before it is locked does not take it from its owner."""
    is_over = threading.Event()

    def sweep_on() -> None:
        while not is_over.is_set():
            sweep()

    thread = threading.Thread(target=sweep_on)
    thread.start()
    try:
        for _ in range(300):
            mine = Scratch()
            assert mine.make().is_dir()
            mine.remove()
    finally:
        is_over.set()
        thread.join()
    sweep()
    assert left_in(in_process) == []
