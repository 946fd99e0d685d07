"""Runs the examples of ``docs/testing.md``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import RunTests
from .test_fixtures import BARE

TEXT = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
THEIRS = """
from types import SimpleNamespace

def my_upload(url, key, data):
    return upload(SimpleNamespace(url=url, api_key=key), data)
"""


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)
    assert found
    return found


@pytest.mark.parametrize("program", blocks("py"))
def test_tests(program: str, run_tests: RunTests) -> None:
    Path("theirs.py").write_text(BARE + THEIRS, encoding="utf-8")
    outcomes = run_tests(program, "-o", "pythonpath=.").parseoutcomes()
    assert set(outcomes) == {"passed"}


def test_shell(tmp_path: Path) -> None:
    """With curl: the video is uploaded, and the emulator has stopped."""
    (tmp_path / "movie.mp4").write_bytes(b"a video")
    (script,) = blocks("sh")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", f"trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n{script}"],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert '"title":"From curl"' in done.stdout
    (source,) = (tmp_path / "received").glob("videos/*/source")
    assert source.read_bytes() == b"a video"


def test_fixtures_are_listed() -> None:
    """The page lists every fixture, and only settings that exist."""
    from async_uploader import pytest_plugin

    for name in ("apivideo_client", "apivideo_emulator", "apivideo_env"):
        assert f"| `{name}` |" in TEXT
        assert name in pytest_plugin.__all__
    for name in re.findall(r"`\.(\w+)[`(]", TEXT):
        assert hasattr(pytest_plugin.RunningEmulator, name) or name in ("url", "api_key")
