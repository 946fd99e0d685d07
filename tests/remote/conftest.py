"""Fixtures of the tests of remote sources."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from async_uploader.emulator import Emulator
from harness.forking import Forks
from harness.range_server import S3_KEY_ID, S3_SECRET, s3_environment
from harness.world import KEY, isolated

from .counterparts import SECRETS, Bucket, moto_bucket


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The state directory. No variable of the stores is inherited."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_")):
            monkeypatch.delenv(name)
    with isolated(tmp_path / "state"):
        yield tmp_path / "state"


@pytest.fixture(scope="session")
def content() -> bytes:
    """The bytes of the object: two full parts, and a short one."""
    return os.urandom(2 * 5 * 1024 * 1024 + 12_345)


@pytest.fixture(scope="session")
def moto() -> Iterator[Any]:
    """moto's S3, as a server in a thread."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def bucket(moto: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket in moto's S3. The environment has its variables."""
    host, port = moto.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    for name, value in s3_environment(endpoint).items():
        monkeypatch.setenv(name, value)
    with moto_bucket(endpoint, key_id=S3_KEY_ID, secret=S3_SECRET) as bucket:
        yield bucket


class Ended(Struct, frozen=True, kw_only=True):
    """A command that has ended."""

    code: int
    out: str
    err: str


RunCommand = Callable[..., Awaitable[Ended]]


@pytest.fixture
def start_upload(forks: Forks, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """``start_upload(emulator, *arguments, state=…)`` starts ``upload`` with the variables of this process."""

    def start(emulator: Emulator | None, *arguments: str, state: str = "state") -> subprocess.Popen[str]:
        base_url = ("--base-url", emulator.url) if emulator else ()
        return forks.python(
            *("-m", "async_uploader", "upload", *base_url, *arguments),
            cwd=tmp_path,
            env={**os.environ, "APIVIDEO_API_KEY": KEY, "XDG_STATE_HOME": str(tmp_path / state)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def run_upload(start_upload: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> RunCommand:
    """Run ``upload`` until it ends. No secret may be in its output, nor in any file that it has written."""

    async def run(emulator: Emulator | None, *arguments: str, state: str = "state") -> Ended:
        process = start_upload(emulator, *arguments, state=state)
        try:
            out, err = await asyncio.to_thread(process.communicate, timeout=30)
        finally:
            process.kill()
        written = [path.read_bytes().decode("latin-1") for path in (tmp_path / state).rglob("*") if path.is_file()]
        for text in (out, err, *written):
            assert not [secret for secret in SECRETS if secret in text], text
        assert "Traceback" not in err
        return Ended(code=process.returncode, out=out, err=err)

    return run
