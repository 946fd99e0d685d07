"""Fixtures of the tests of remote sources."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.range_server import S3_KEY_ID, S3_SECRET, s3_environment
from harness.world import isolated

from .counterparts import Bucket, moto_bucket


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
