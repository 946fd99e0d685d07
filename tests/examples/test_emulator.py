"""The examples that test clients of other languages with the emulator."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ..npm.packages import NO_NPM  # noqa: TID252 - found however pytest is started

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(*command: object) -> str:
    """Run an example with this environment's commands; returns its output."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path}
    done = subprocess.run([*map(str, command)], env=env, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_node() -> None:
    """All its tests pass."""
    if shutil.which("node") is None:
        pytest.skip(f"{NO_NPM} node is not installed.")
    output = run("node", "--test", EXAMPLES / "emulator.test.mjs")
    assert "pass 2\n" in output
    assert "fail 0\n" in output


def test_curl(make_file: Callable[..., Path]) -> None:
    """The fault was triggered, and the video arrived."""
    lines = run(EXAMPLES / "emulator_curl.sh", make_file(100_000)).splitlines()
    assert lines == [
        '[{"spec":"upload,attempt=1:status=503","triggered":0}]',
        "The upload was retried.",
        "The video has arrived.",
    ]
