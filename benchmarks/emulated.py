"""The emulator as a target: a process of its own for each run, with a line as slow as asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

from .children import ROOT
from .targets import Address, Statistics

_STOP_SECONDS: Final = 30.0


class Emulated:
    """An emulator with these settings, those of :class:`async_uploader.emulator.Emulator`.

    :param folder: where it keeps what it receives, until the run has ended
    """

    def __init__(self, folder: Path, **settings: float) -> None:
        self._folder = folder
        self._settings = settings
        self._process: subprocess.Popen[str] | None = None
        self._statistics: Statistics = {}

    def __enter__(self) -> Address:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.emulator_process", json.dumps(self._settings)],
            cwd=ROOT,
            env={"TMPDIR": str(self._folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        return Address(url=self._process.stdout.readline().strip())

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        try:
            said, _none = self._process.communicate("", timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        self._statistics = json.loads(said) if said else {}

    def statistics(self) -> Statistics:
        """Bytes, connections and uploads as the emulator has counted them."""
        return self._statistics
