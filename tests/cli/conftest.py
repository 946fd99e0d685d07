"""Fixtures that run the command line in a process of its own, against a real emulator."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from async_uploader import Client
from async_uploader.emulator import Emulator, VideoView

from ..forking import Forks  # noqa: TID252 - found however pytest is started

T = TypeVar("T")

MIB = 1024 * 1024
KEY = "a-key-that-must-not-be-shown"


@dataclass(frozen=True)
class Service:
    """An emulator in the thread of a portal."""

    emulator: Emulator
    portal: BlockingPortal

    def wait_for(self, predicate: Callable[[Emulator], object]) -> None:
        """Wait until a predicate is true."""
        self.portal.call(partial(self.emulator.wait_for, predicate))

    def finished(self, video_id: str) -> VideoView:
        """A video, once the emulator has all of it."""
        return self.portal.call(self.emulator.finished, video_id)

    def titles(self) -> list[str]:
        """The titles of all videos."""
        return [video.title for video in self.emulator.videos.values()]

    def request(self, request: Callable[[Client], Awaitable[T]]) -> T:
        """Call the library with a client of the emulator."""

        async def run() -> T:
            async with Client(api_key=KEY, base_url=self.emulator.url) as client:
                return await request(client)

        return self.portal.call(run)

    def make_token(self) -> str:
        """Create an upload token."""
        return self.request(lambda client: client.create_upload_token()).token


@contextmanager
def running_service(portal: BlockingPortal, **settings: Any) -> Iterator[Service]:
    settings = {"api_key": KEY, **settings}

    async def make() -> Emulator:
        return Emulator(**settings)

    with portal.wrap_async_context_manager(portal.call(make)) as emulator:
        yield Service(emulator, portal)


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
