"""Clients that do the same work, each a child process of one command line."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.targets import Address
from benchmarks.units import MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be uploaded, and how. What is None is left to the client.

    :param source: a file; a folder, to upload each file in it
    :param cut: the source's parts as files of their own, for who needs that
    """

    source: Path
    part_bytes: int | None = 50 * MIB
    connections: int | None = 4
    cut: tuple[Path, ...] = ()

    @property
    def arguments(self) -> list[str]:
        """This job on a command line, see :mod:`.task`."""
        line = ["--source", str(self.source)]
        if self.part_bytes is not None:
            line += ["--part-bytes", str(self.part_bytes)]
        if self.connections is not None:
            line += ["--connections", str(self.connections)]
        return line


class Peer(Protocol):
    """Makes the command line that does a job."""

    def __call__(self, job: Job, address: Address) -> list[str]: ...


def script(name: str) -> Peer:
    """A peer of this package, by its module's name."""

    def command(job: Job, address: Address) -> list[str]:
        trusted = [] if address.ca is None else ["--ca", str(address.ca)]
        module = f"{__name__}.{name}"
        return [sys.executable, "-m", module, "--url", address.url, *trusted, *job.arguments]

    return command
