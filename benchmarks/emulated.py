"""The emulator as a target, over a simulated network. Each run has its own emulator process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .children import ROOT
from .targets import Address, Statistics
from .units import MIB

#: A distant server.
FAR_CONNECTION_RATE: Final = 25 * MIB
FAR_RESPONSE_SECONDS: Final = 0.1
_STOP_SECONDS: Final = 30.0


class Emulated:
    """An emulator with the given settings of :class:`async_uploader.emulator.Emulator`.

    :param folder: where it stores parts during a run
    :ivar prefix: the beginning of its command, such as ``nsenter``
    """

    def __init__(self, folder: Path, **settings: float) -> None:
        self.prefix: Sequence[str] = ()
        self._folder = folder
        self._settings = settings
        self._process: subprocess.Popen[str] | None = None
        self._statistics: Statistics = {}

    def __enter__(self) -> Address:
        self._process = subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "benchmarks.emulator_process", json.dumps(self._settings)],
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
            output, _errors = self._process.communicate("", timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        self._statistics = json.loads(output) if output else {}

    def statistics(self) -> Statistics:
        """Bytes, connections and uploads that the emulator counted."""
        return self._statistics
