"""The demo, with a shorter video."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


def test_demo(tmp_path: Path) -> None:
    """It renders, uploads in several parts, compares and decodes."""
    command: list[str | Path] = [sys.executable, DEMO, "--directory", tmp_path / "demo", "--seconds", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "part 1: arrived" in done.stderr
    assert done.stdout.splitlines()[-1].endswith("and decodes without error.")
    assert "The copy has the same SHA-256" in done.stdout
