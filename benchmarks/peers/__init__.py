"""Clients that do the same job, each as a command line."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.targets import Address
from benchmarks.units import MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to upload, and how. None leaves the choice to the client.

    :param source: a file, or a directory to upload each file in it
    :param part_files: the source's parts as files, for clients that need them
    :param options: further command-line options of :mod:`.task`
    """

    source: Path
    part_bytes: int | None = 50 * MIB
    connections: int | None = 4
    part_files: tuple[Path, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def arguments(self) -> list[str]:
        """The command-line options, see :mod:`.task`."""
        line = ["--source", str(self.source), *self.options]
        if self.part_bytes is not None:
            line += ["--part-bytes", str(self.part_bytes)]
        if self.connections is not None:
            line += ["--connections", str(self.connections)]
        return line


class Peer(Protocol):
    """Returns the command line that does a job."""

    def __call__(self, job: Job, address: Address) -> list[str]: ...


def script(name: str) -> Peer:
    """The peer in a module of this package."""

    def command(job: Job, address: Address) -> list[str]:
        trusted = [] if address.ca is None else ["--ca", str(address.ca)]
        module = f"{__name__}.{name}"
        return [sys.executable, "-m", module, "--url", address.url, *trusted, *job.arguments]

    return command
