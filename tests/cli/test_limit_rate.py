"""`upload --limit-rate`."""

from __future__ import annotations

import time

import pytest

from .conftest import MIB, Cli
from .test_upload import MakeFile


def test_the_limit_holds_for_all_sources_together(online: Cli, make_file: MakeFile) -> None:
    paths = [make_file(f"{number}.mp4", 2 * MIB) for number in range(4)]
    began = time.monotonic()
    done = online("upload", *paths, "--limit-rate", "2MB")
    assert done.returncode == 0, done.stderr
    seconds = time.monotonic() - began
    # 8 MiB last 4.2 s; starting the command and creating the videos take some time, too.
    assert 4.2 * 0.9 < seconds < 4.2 * 1.1 + 1.5
    assert "retrying" not in done.stderr


@pytest.mark.parametrize("rate", ["0", "fast", "-1", "", "2MiB/h"])
def test_invalid_rates(online: Cli, make_file: MakeFile, rate: str) -> None:
    done = online("upload", make_file("a.mp4", 10), f"--limit-rate={rate}")
    assert done.returncode == 2
    assert "is not a rate; write it as 2MiB, 500kB" in done.stderr


@pytest.mark.parametrize("rate", ["500kB", "500kB/s", "1.5M", "2097152"])
def test_rates(online: Cli, make_file: MakeFile, rate: str) -> None:
    assert online("upload", make_file("a.mp4", 10), f"--limit-rate={rate}").returncode == 0
