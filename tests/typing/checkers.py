"""mypy and pyright as processes of their own, with their findings as data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]


def pyright(*arguments: object, folder: Path) -> Any:
    """Return the report of basedpyright, which brings its own node and needs no network."""
    executables = Path(sys.executable).parent
    environment = {
        "PATH": f"{executables}{os.pathsep}{os.environ['PATH']}",
        "HTTPS_PROXY": "http://127.0.0.1:9",  # nothing listens there: a download would fail
    }
    command = [sys.executable, "-m", "basedpyright", "--outputjson", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def mypy(files: Iterable[Path], *, folder: Path) -> list[dict[str, Any]]:
    """Return the errors of mypy, with the settings and the cache of `make types`."""
    command = [
        *(sys.executable, "-m", "mypy", "--output=json"),
        *(f"--config-file={ROOT / 'pyproject.toml'}", f"--cache-dir={ROOT / '.mypy_cache'}"),
        *map(str, files),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
