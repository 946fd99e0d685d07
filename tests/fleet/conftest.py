"""Fixtures of the fleet tests: catalogues, and clusters of real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.service import KEY, Service

# Re-exported: fixtures of the command line's tests.
from tests.cli.conftest import cli, make_file, online, portal, service, start_cli, start_online, start_service

__all__ = ("cli", "make_file", "online", "portal", "service", "start_cli", "start_online", "start_service")


@pytest.fixture
def scheduler(service: Service, tmp_path: Path) -> Iterator[str]:
    """The address of a Dask scheduler with two workers, each started by its own command."""
    address_file = tmp_path / "scheduler.json"
    environment = {
        **os.environ,
        "APIVIDEO_API_KEY": KEY,
        "APIVIDEO_BASE_URL": service.emulator.url,
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    dask = str(Path(sys.executable).with_name("dask"))
    commands = [
        [dask, "scheduler", "--port", "0", "--no-dashboard"],
        *[[dask, "worker", "--nthreads", "4", "--no-dashboard", "--death-timeout", "30"] for _ in range(2)],
    ]
    processes = []
    try:
        for command in commands:
            command += ["--scheduler-file", str(address_file)]
            processes.append(
                subprocess.Popen(
                    command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path, env=environment
                )
            )
        yield _address(address_file)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def _address(path: Path) -> str:
    deadline = time.monotonic() + 30
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, "the scheduler did not start"
        time.sleep(0.05)
    address: str = json.loads(path.read_text())["address"]
    return address
