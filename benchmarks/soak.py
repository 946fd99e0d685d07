"""Sweeps through every way to kill, break and mislead an upload, then random stories; the counts at the end.

    python -m benchmarks.soak --minutes 10        sweeps in about half of the time, stories in the rest
    python -m benchmarks.soak --sweep all         every case of every sweep, and no story
    python -m benchmarks.soak --sweep kills       of one sweep; with --seed others, with --case NAME only this one
    python -m benchmarks.soak --seed 4711         replays one story

Sweeps: kills (SIGKILL before and after every call into journal, service, results and locks), journal (mutations
of the journal), responses (mutations of responses to every command), batch (every file meets another oddity),
cancellations (at every request), clocks (that jump), deletes (kill -9 and lost responses), certificates,
terminals.

Except for those that say how much was run, all counts must be 0. Otherwise the exit code is 1, and the command
that repeats each failure is printed.
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

from harness.stories import Tally, roll, tell
from harness.sweeps.counts import table
from harness.sweeps.runner import SWEEPS, Failure, SweepRun, run_sweeps
from harness.world import Source, make_source, quickened

_TOLD_EVERY_SECONDS: Final = 30.0
_SHARE_OF_SWEEPS: Final = 0.6
_DEFAULT_MINUTES: Final = 1.0
_MOST_TEXT: Final = 600


def main() -> int:
    """Run, and print what came of it.

    :return: the exit code
    """
    arguments = _arguments()
    if arguments.sweep is not None:
        return _sweep(arguments)
    if arguments.seed is not None:
        return _replay(arguments.seed)
    return _soak((arguments.minutes or _DEFAULT_MINUTES) * 60)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--minutes", type=float, help="how long (default: 1; with --sweep: as long as all cases take)"
    )
    parser.add_argument("--sweep", choices=[*SWEEPS, "all"], help="run this sweep, and no stories")
    parser.add_argument("--case", metavar="NAME", help="with --sweep: run this case only")
    parser.add_argument(
        "--seed", type=int, help="replay the story of this seed; with --sweep: its seed (default: 0)"
    )
    arguments = parser.parse_args()
    if arguments.case is not None and arguments.sweep in (None, "all"):
        parser.error("--case needs the --sweep that it belongs to")
    return arguments


def _sweep(arguments: argparse.Namespace) -> int:
    runs = run_sweeps(
        SWEEPS if arguments.sweep == "all" else [arguments.sweep],
        seed=arguments.seed or 0,
        seconds=None if arguments.minutes is None else arguments.minutes * 60,
        case=arguments.case,
        tell=_tell_failure,
    )
    _tell_sweeps(runs)
    return 0 if all(run.counts.is_good for run in runs) else 1


def _replay(seed: int) -> int:
    logging.basicConfig(level=logging.INFO)
    print(roll(random.Random(seed)))
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder))
        soak.run(seed)
    soak.tell()
    return soak.code


def _soak(seconds: float) -> int:
    began = time.monotonic()
    first = random.SystemRandom().randrange(10**9)
    print(f"seeds from {first} on, for {seconds / 60:g} min", flush=True)
    runs = run_sweeps(SWEEPS, seed=first, seconds=seconds * _SHARE_OF_SWEEPS, tell=_tell_failure)
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder))
        soak.run_for(seconds - (time.monotonic() - began), first)
    _tell_sweeps(runs)
    print()
    soak.tell()
    return max(soak.code, *(0 if run.counts.is_good else 1 for run in runs))


def _tell_failure(failure: Failure) -> None:
    print(f"{failure.sweep}, {failure.case}: {str(failure.findings)[:_MOST_TEXT]}", file=sys.stderr, flush=True)


def _tell_sweeps(runs: list[SweepRun]) -> None:
    print(table((run.name, run.counts) for run in runs))
    for run in runs:
        for failure in run.failures:
            print(f"replay with: {failure.replay}")


class Soak:
    """Stories, one after another, and what came of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._source_of = cache(self._make_source)
        self.tally = Tally()
        self.failures: list[tuple[int, str]] = []

    def _make_source(self, size_bytes: int) -> Source:
        return make_source(self._folder / f"{size_bytes}.mp4", size_bytes)

    def run_for(self, seconds: float, first: int) -> None:
        """Until the time is up, seeds from ``first`` on."""
        logging.getLogger("async_uploader").setLevel(logging.CRITICAL)
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

    @property
    def code(self) -> int:
        """The exit code."""
        return 1 if self.failures or not self.tally.is_good else 0

    def tell(self) -> None:
        """The counts."""
        tally = self.tally
        rows = {
            "stories": tally.cases,
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
