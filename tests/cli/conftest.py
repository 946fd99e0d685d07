"""Fixtures that run the command line in a process of its own, against a real emulator."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from harness.forking import Forks
from harness.service import KEY, Service, running_service

MIB = 1024 * 1024


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture
def start_service(portal: BlockingPortal) -> Callable[..., AbstractContextManager[Service]]:
    return partial(running_service, portal)


@pytest.fixture
def service(portal: BlockingPortal) -> Iterator[Service]:
    with running_service(portal) as service:
        yield service


class Cli(Protocol):
    def __call__(
        self, *arguments: object, stdin: Any = subprocess.DEVNULL, **environment: str
    ) -> subprocess.CompletedProcess[str]: ...


class StartCli(Protocol):
    def __call__(
        self,
        *arguments: object,
        stdin: Any = subprocess.DEVNULL,
        stdout: Any = subprocess.PIPE,
        **environment: str,
    ) -> subprocess.Popen[str]: ...


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for the end of a command, and return its output."""
    out, err = process.communicate(timeout=30)
    assert "Traceback" not in err, err
    return subprocess.CompletedProcess((), process.returncode, out, err)


@pytest.fixture
def start_cli(forks: Forks, tmp_path: Path) -> Iterator[StartCli]:
    """Start a command in a temporary directory."""
    with ExitStack() as stack:

        def start(
            *arguments: object,
            stdin: Any = subprocess.DEVNULL,
            stdout: Any = subprocess.PIPE,
            **environment: str,
        ) -> subprocess.Popen[str]:
            process = stack.enter_context(
                forks.command(
                    arguments, tmp_path, environment, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, text=True
                )
            )
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def cli(start_cli: StartCli) -> Cli:
    """Run a command until it ends."""

    def run(
        *arguments: object, stdin: Any = subprocess.DEVNULL, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return finish(start_cli(*arguments, stdin=stdin, **environment))

    return run


@pytest.fixture
def online(cli: Cli, service: Service) -> Cli:
    """Run a command that uses the emulator and its API key."""
    return partial(cli, APIVIDEO_BASE_URL=service.emulator.url, APIVIDEO_API_KEY=KEY)


@pytest.fixture
def start_online(start_cli: StartCli, service: Service) -> StartCli:
    """Start a command that uses the emulator and its API key."""
    return partial(start_cli, APIVIDEO_BASE_URL=service.emulator.url, APIVIDEO_API_KEY=KEY)


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[..., Path]:
    """Create a file of a size in bytes: random content, or sparse."""

    def make(name: str, size: int, *, sparse: bool = False) -> Path:
        path = tmp_path / name
        with path.open("wb") as file:
            if sparse:
                file.truncate(size)
            else:
                file.write(os.urandom(size))
        return path

    return make


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The URL of a file on a web server."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "far.mp4").write_bytes(b"web video")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "web")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/far.mp4"
        server.shutdown()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Assert that a block takes no longer."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


@pytest.fixture
def make_device(tmp_path: Path) -> Callable[[str, int], Path]:
    """Create a device, so that no test can replace one of the machine."""

    def make(name: str, minor: int) -> Path:
        path = tmp_path / name
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, minor))
            path.open("wb", buffering=0).close()
        except PermissionError:
            pytest.skip("devices cannot be created here")
        return path

    return make


@pytest.fixture
def stdout_link(tmp_path: Path) -> str:
    """A link like ``/dev/stdout``. A defect could replace that one for the whole machine."""
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
    return "stdout"


@pytest.fixture
def special(tmp_path: Path, make_device: Callable[[str, int], Path]) -> Iterator[dict[str, Path]]:
    """A file of each kind that is not regular."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        yield {
            **{name: tmp_path / name for name in ("fifo", "folder", "loop", "socket")},
            "null": make_device("null", 3),
            "full": make_device("full", 7),
        }
