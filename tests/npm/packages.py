"""Installs the npm packages of `package.json` into `build/npm`, once for all test processes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from filelock import FileLock

_HERE: Final = Path(__file__).parent
_TARGET: Final = _HERE.parents[1] / "build" / "npm"
_INSTALL_SECONDS: Final = 120
#: The start of the reason why a test is skipped; `tests/conftest.py` gives it one line of the summary.
NO_NPM: Final = "The npm clients of api.video are not tested:"
# Scripts of packages are not run, and no lock file is written: it would name the registry.
_COMMAND: Final = (
    "npm",
    "install",
    "--ignore-scripts",
    "--no-package-lock",
    "--no-audit",
    "--no-fund",
    "--silent",
)


class NoPackages(Exception):
    """The packages cannot be installed; the message says why."""


def install() -> Path:
    """Install the packages unless they are installed; returns the directory `node_modules`.

    :raises NoPackages: there is no Node or npm, or the installation fails
    """
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise NoPackages(f"{NO_NPM} {program} is not installed.")
    wanted = (_HERE / "package.json").read_text(encoding="utf-8")
    installed = _TARGET / "installed.json"
    _TARGET.mkdir(parents=True, exist_ok=True)
    with FileLock(_TARGET / "lock"):
        if not installed.exists() or installed.read_text(encoding="utf-8") != wanted:
            (_TARGET / "package.json").write_text(wanted, encoding="utf-8")
            try:
                subprocess.run(_COMMAND, cwd=_TARGET, check=True, capture_output=True, timeout=_INSTALL_SECONDS)
            except (subprocess.SubprocessError, OSError) as error:
                raise NoPackages(f"{NO_NPM} npm install failed ({error}).") from error
            installed.write_text(wanted, encoding="utf-8")
    return _TARGET / "node_modules"
