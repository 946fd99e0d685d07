"""What all Python peers share: their arguments and their report."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

from benchmarks.units import MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A job, as read from the command line.

    :ivar remote: the URL of the source, for the peer that reads URLs
    :ivar stream: send the file as a stream of unknown length
    :ivar checksum: record the SHA-256
    :ivar limit_rate: bytes per second
    :ivar max_seconds: cancel the upload after this time
    """

    url: str
    source: Path
    part_bytes: int | None
    connections: int | None
    ca: str | None
    remote: str | None
    stream: bool
    checksum: bool
    limit_rate: float | None
    max_seconds: float | None

    @property
    def files(self) -> list[Path]:
        """The files to upload."""
        return sorted(self.source.iterdir()) if self.source.is_dir() else [self.source]

    def extents(self, path: Path) -> list[tuple[int, int]]:
        """Offset and size of each part of a file."""
        size_bytes, part_bytes = path.stat().st_size, self.part_bytes or 50 * MIB
        count = math.ceil(size_bytes / part_bytes)
        return [(index * part_bytes, min(part_bytes, size_bytes - index * part_bytes)) for index in range(count)]


def read_task() -> Task:
    """Read the task from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--part-bytes", type=int)
    parser.add_argument("--connections", type=int)
    parser.add_argument("--ca")
    parser.add_argument("--remote")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--checksum", action="store_true")
    parser.add_argument("--limit-rate", type=float)
    parser.add_argument("--max-seconds", type=float)
    return Task(**vars(parser.parse_args()))


def report(**figures: float) -> None:
    """Print figures for the suite."""
    print(json.dumps(figures))
