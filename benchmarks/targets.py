"""Servers to upload to, and what they count."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

_BUSY_PROCESSES_PER_CORE: Final = 2

Statistics = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The address of a service.

    :param ca: the certificate to trust; None for plain HTTP
    :param prefix: the beginning of each client's command, such as ``nsenter``
    """

    url: str
    ca: Path | None = None
    prefix: tuple[str, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables for the uploader."""
        trusted = {} if self.ca is None else {"SSL_CERT_FILE": str(self.ca)}
        return {"APIVIDEO_API_KEY": "local-key", "APIVIDEO_BASE_URL": self.url, **trusted}


class Target(Protocol):
    """A service. Its context is entered once per run."""

    def __enter__(self) -> Address: ...

    def __exit__(self, *_: object) -> None: ...

    def statistics(self) -> Statistics:
        """What the service counted in the last run."""
        ...


class Loaded:
    """A target on a busy machine: two processes per core compute while a run lasts."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._stack = ExitStack()

    def __enter__(self) -> Address:
        for _ in range(_BUSY_PROCESSES_PER_CORE * (os.cpu_count() or 1)):
            process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            self._stack.callback(process.wait)
            self._stack.callback(process.kill)
        return self._stack.enter_context(self._target)

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def statistics(self) -> Statistics:
        """Those of the target."""
        return self._target.statistics()


class Fixed:
    """A target that runs permanently and has no statistics."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def __enter__(self) -> Address:
        return self._address

    def __exit__(self, *_: object) -> None:
        """Nothing to clean up."""

    def statistics(self) -> Statistics:
        """Empty."""
        return {}
