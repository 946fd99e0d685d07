"""A server that discards bodies as a target, so that mainly the client is measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Self

from .children import ROOT
from .targets import Address, Fixed


class Sink:
    """The server as a process of its own, with a plain and a TLS port. Use as a context manager."""

    def __init__(self, *, certificates: Path) -> None:
        self._certificates = certificates

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.sink_process", str(self._certificates)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        plain, tls = json.loads(self._process.stdout.readline())
        self.plain = Fixed(Address(url=f"http://127.0.0.1:{plain}"))
        self.tls = Fixed(Address(url=f"https://127.0.0.1:{tls}", ca=self._certificates / "ca.pem"))
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
