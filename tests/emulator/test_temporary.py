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
from pathlib import Path

import aiohttp
import pytest

from async_uploader.emulator._storage.temporary_directory import PREFIX
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


def left_in(directory: Path) -> list[Path]:
    """The content of a directory."""
    return list(directory.iterdir())


# SIGHUP is handled like SIGTERM. The other tests here send it, too.
@pytest.mark.parametrize(
    ("kind", "number", "times"),
    [
        pytest.param(kind, *SIGNALS[name], id=f"{name}-{kind}", marks=[pytest.mark.soak] if name == "HUP" else [])
        for kind, names in {
            "upload": SIGNALS,
            "program": SIGNALS,
            "uvloop": ("INT", "TERM"),
            "plugin": ("INT", "TERM"),
        }.items()
        for name in names
    ],
)
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
