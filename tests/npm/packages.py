"""Installs npm packages into a directory below `build`, once for all test processes."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

from filelock import FileLock

_BUILD: Final = Path(__file__).parents[2] / "build"
#: The packages of the tests here: api.video's own clients.
CLIENTS: Final = Path(__file__).with_name("package.json")
#: A local Azure Blob Storage.
AZURITE: Final = Path(__file__).parents[1] / "remote" / "azurite" / "package.json"
#: Shorter than the time of a test, so that a network without an answer skips the tests.
_INSTALL_SECONDS: Final = 40
#: After a failure, other test processes do not try again for this time.
_RETRY_SECONDS: Final = 300
#: The start of the reason why a test is skipped; `tests/conftest.py` gives it one line of the summary.
NO_NPM: Final = "The npm clients of api.video are not tested:"
NO_AZURITE: Final = "Sources in Azure are not tested:"
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


def install(manifest: Path, *, purpose: str) -> Path:
    """Install the packages of a `package.json` unless they are installed; returns the directory `node_modules`.

    :param purpose: the start of the message, such as :data:`NO_NPM`
    :raises NoPackages: there is no Node or npm, or the installation fails
    """
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise NoPackages(f"{purpose} {program} is not installed.")
    wanted = manifest.read_text(encoding="utf-8")
    target = _BUILD / manifest.parent.name
    installed, failed = target / "installed.json", target / "failed"
    target.mkdir(parents=True, exist_ok=True)
    with FileLock(target / "lock"):
        if not installed.exists() or installed.read_text(encoding="utf-8") != wanted:
            if failed.exists() and time.time() - failed.stat().st_mtime < _RETRY_SECONDS:
                raise NoPackages(f"{purpose} npm install failed.")
            (target / "package.json").write_text(wanted, encoding="utf-8")
            try:
                subprocess.run(_COMMAND, cwd=target, check=True, capture_output=True, timeout=_INSTALL_SECONDS)
            except (subprocess.SubprocessError, OSError) as error:
                failed.touch()
                raise NoPackages(f"{purpose} npm install failed.") from error
            installed.write_text(wanted, encoding="utf-8")
    return target / "node_modules"
