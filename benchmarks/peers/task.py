"""What all peers in Python share: their arguments, and how they tell what they did."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

from benchmarks.units import MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A job, as a peer reads it from its command line."""

    url: str
    source: Path
    part_bytes: int | None
    connections: int | None
    ca: str | None

    @property
    def files(self) -> list[Path]:
        """What is to be uploaded."""
        return sorted(self.source.iterdir()) if self.source.is_dir() else [self.source]

    def extents(self, path: Path) -> list[tuple[int, int]]:
        """Offset and size of each part of a file."""
        size_bytes, part_bytes = path.stat().st_size, self.part_bytes or 50 * MIB
        count = math.ceil(size_bytes / part_bytes)
        return [(index * part_bytes, min(part_bytes, size_bytes - index * part_bytes)) for index in range(count)]


def read_task() -> Task:
    """The task of this process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--part-bytes", type=int)
    parser.add_argument("--connections", type=int)
    parser.add_argument("--ca")
    return Task(**vars(parser.parse_args()))


def report(**figures: float) -> None:
    """Tell the suite."""
    print(json.dumps(figures))
