"""Random faults, cancellations and restarts for as long as asked; the counts at the end.

    python -m benchmarks.soak --minutes 10
    python -m benchmarks.soak --seed 4711    replays one story

Of the counts all must be 0 but those of what happened; otherwise the exit code is 1 and the seeds are told.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import random
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Final

from tests.faults.chaos import Tally, roll, tell
from tests.faults.world import Source, make_source, quickened

_TOLD_EVERY_SECONDS: Final = 30.0


def main() -> int:
    """Run, and tell.

    :return: the exit code
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long; default 1")
    parser.add_argument("--seed", type=int, help="replay the story of this seed, and no other")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder))
        if arguments.seed is not None:
            logging.basicConfig(level=logging.INFO)
            print(roll(random.Random(arguments.seed)))
            soak.run(arguments.seed)
        else:
            soak.run_for(arguments.minutes * 60)
    soak.tell()
    return 1 if soak.failures or not soak.tally.is_good else 0


class Soak:
    """Stories, one after another, and what came of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._source_of = cache(self._make_source)
        self.tally = Tally()
        self.failures: list[tuple[int, str]] = []

    def _make_source(self, size_bytes: int) -> Source:
        return make_source(self._folder / f"{size_bytes}.mp4", size_bytes)

    def run_for(self, seconds: float) -> None:
        """Until the time is up."""
        logging.getLogger("async_uploader").setLevel(logging.CRITICAL)
        first = random.SystemRandom().randrange(10**9)
        print(f"seeds from {first} on, for {seconds / 60:g} min")
        ends_at = time.monotonic() + seconds
        tells_at = time.monotonic() + _TOLD_EVERY_SECONDS
        seed = first
        while time.monotonic() < ends_at:
            self.run(seed)
            seed += 1
            if time.monotonic() >= tells_at:
                tells_at += _TOLD_EVERY_SECONDS
                print(f"{self.tally.cases} cases, {len(self.failures)} of them bad", flush=True)

    def run(self, seed: int) -> None:
        """One story, with a state directory of its own."""
        with tempfile.TemporaryDirectory(dir=self._folder) as state, quickened(Path(state)):
            try:
                tally = asyncio.run(tell(roll(random.Random(seed)), self._source_of))
            except Exception as exc:  # noqa: BLE001 - whatever it is, it is this story's
                tally = Tally(cases=1)
                self._fail(seed, f"{type(exc).__name__}: {exc}")
            else:
                if not tally.is_good:
                    self._fail(seed, str(tally))
        gc.collect()
        self.tally += tally

    def _fail(self, seed: int, why: str) -> None:
        self.failures.append((seed, why))
        print(f"seed {seed}: {why[:500]}", file=sys.stderr, flush=True)

    def tell(self) -> None:
        """The counts."""
        tally = self.tally
        rows = {
            "cases": tally.cases,
            "  of which were cancelled, once or more often": tally.cancelled,
            "  errors on the way": tally.errors,
            "wrong outcomes": sum(1 for _ in self.failures),
            "bytes sent twice": tally.bytes_sent_twice,
            "orphan containers": tally.orphans,
            "hung runs": tally.hung,
        }
        for name, count in rows.items():
            print(f"{name:<48}{count:>12,}")
        for seed, _ in self.failures:
            print(f"replay with: python -m benchmarks.soak --seed {seed}")


if __name__ == "__main__":
    sys.exit(main())
