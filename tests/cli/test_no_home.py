"""A user without an account and without HOME, as in a container that is started with any user id."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.service import KEY, Service

_HINT = "the user has no home directory; set HOME or XDG_STATE_HOME"
# Only the real user is unknown; the effective one can still read the installation of Python.
_RUN = """
import os, runpy, sys
os.setresuid(54321, 0, 0)
sys.argv = ["async-uploader", *sys.argv[1:]]
runpy.run_module("async_uploader", run_name="__main__")
"""

pytestmark = pytest.mark.skipif(
    not hasattr(os, "setresuid") or os.geteuid() != 0, reason="only root can become an unknown user"
)


def _run(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", _RUN, *arguments]
    options = {"cwd": directory, "env": environment, "stdin": subprocess.DEVNULL}
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, **options)  # type: ignore[call-overload]
    assert "Traceback" not in done.stderr, done.stderr
    assert isinstance(done, subprocess.CompletedProcess)
    return done


def test_an_upload(service: Service, tmp_path: Path) -> None:
    """It succeeds with one warning, and writes nothing to the current directory."""
    (tmp_path / "a.mp4").write_bytes(b"x")
    before = set(tmp_path.iterdir())
    settings = {"APIVIDEO_API_KEY": KEY, "APIVIDEO_BASE_URL": service.emulator.url}
    done = _run(tmp_path, "upload", "a.mp4", **settings)
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert _HINT in warnings[0]
    assert service.titles() == ["a.mp4"]
    assert set(tmp_path.iterdir()) == before


def test_results(service: Service, tmp_path: Path) -> None:
    """A results file needs no journal."""
    (tmp_path / "a.mp4").write_bytes(b"x")
    settings = {"APIVIDEO_API_KEY": KEY, "APIVIDEO_BASE_URL": service.emulator.url}
    done = _run(tmp_path, "upload", "a.mp4", "--results", "done.jsonl", **settings)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "done.jsonl").read_text().count("\n") == 1


@pytest.mark.parametrize("arguments", [("uploads",), ("forget", "vi1")])
def test_the_journal(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """The error names the cause."""
    done = _run(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: The journal cannot be used: {_HINT}.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("home", ["", "relative", "~"])
def test_an_invalid_home(home: str, tmp_path: Path) -> None:
    """A directory that has the name of the invalid home is neither read nor written."""
    (tmp_path / "~").mkdir()
    done = _run(tmp_path, "uploads", HOME=home)
    assert done.returncode in (0, 1)
    assert list((tmp_path / "~").iterdir()) == []
