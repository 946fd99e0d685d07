"""Installs the npm packages of `package.json` into `build/npm`, once for all test processes."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

from filelock import FileLock

_HERE: Final = Path(__file__).parent
_TARGET: Final = _HERE.parents[1] / "build" / "npm"
#: Shorter than the time of a test, so that a network without an answer skips the tests.
_INSTALL_SECONDS: Final = 40
#: After a failure, other test processes do not try again for this time.
_RETRY_SECONDS: Final = 300
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
    installed, failed = _TARGET / "installed.json", _TARGET / "failed"
    _TARGET.mkdir(parents=True, exist_ok=True)
    with FileLock(_TARGET / "lock"):
        if not installed.exists() or installed.read_text(encoding="utf-8") != wanted:
            if failed.exists() and time.time() - failed.stat().st_mtime < _RETRY_SECONDS:
                raise NoPackages(f"{NO_NPM} npm install failed.")
            (_TARGET / "package.json").write_text(wanted, encoding="utf-8")
            try:
                subprocess.run(_COMMAND, cwd=_TARGET, check=True, capture_output=True, timeout=_INSTALL_SECONDS)
            except (subprocess.SubprocessError, OSError) as error:
                failed.touch()
                raise NoPackages(f"{NO_NPM} npm install failed.") from error
            installed.write_text(wanted, encoding="utf-8")
    return _TARGET / "node_modules"
