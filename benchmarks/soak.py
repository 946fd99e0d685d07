"""Run sweeps through edge cases, then random scenarios, and print the counts.

    python -m benchmarks.soak --minutes 10        sweeps for about half of the time, scenarios for the rest
    python -m benchmarks.soak --sweep all         all cases of all sweeps, and no scenarios
    python -m benchmarks.soak --sweep kills       all cases of one sweep; --seed selects others, --case NAME one
    python -m benchmarks.soak --seed 4711         repeat one scenario

Sweeps: kills (SIGKILL before and after every call into journal, service, results and locks), machines (commands
with the same idempotency key on three machines), journal (mutations of the journal), responses (mutations of
responses to every command), batch (every file has a different fault), cancellations (at every request), clocks
(clock jumps), deletes (kill -9 and lost responses), certificates (invalid TLS certificates), terminals (progress
bars during faults).

All counts except cases and runs must be 0. Otherwise the exit code is 1, and the commands that repeat the failures
are printed.
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

from harness.scenarios import Counts, random_scenario, run_scenario
from harness.sweeps.counts import table
from harness.sweeps.runner import SWEEPS, Failure, SweepRun, run_sweeps
from harness.world import Source, isolated, make_source

_REPORT_INTERVAL_SECONDS: Final = 30.0
_SHARE_OF_SWEEPS: Final = 0.6
_DEFAULT_MINUTES: Final = 1.0
_MAX_TEXT: Final = 600


def main() -> int:
    """Run, and print the counts.

    :returns: the exit code
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
        "--minutes", type=float, help="duration (default: 1; with --sweep: until all cases have run)"
    )
    parser.add_argument("--sweep", choices=[*SWEEPS, "all"], help="run this sweep and no scenarios")
    parser.add_argument("--case", metavar="NAME", help="with --sweep: run this case only")
    parser.add_argument(
        "--seed", type=int, help="repeat the scenario with this seed; with --sweep: the sweep's seed (default: 0)"
    )
    arguments = parser.parse_args()
    if arguments.case is not None and arguments.sweep in (None, "all"):
        parser.error("--case requires --sweep with the name of one sweep")
    return arguments


def _sweep(arguments: argparse.Namespace) -> int:
    runs = run_sweeps(
        SWEEPS if arguments.sweep == "all" else [arguments.sweep],
        seed=arguments.seed or 0,
        seconds=None if arguments.minutes is None else arguments.minutes * 60,
        case=arguments.case,
        on_failure=_print_failure,
    )
    _print_sweeps(runs)
    return 0 if all(run.counts.is_good for run in runs) else 1


def _replay(seed: int) -> int:
    logging.basicConfig(level=logging.INFO)
    print(random_scenario(random.Random(seed)))
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder))
        soak.run(seed)
    soak.print_counts()
    return soak.code


def _soak(seconds: float) -> int:
    began = time.monotonic()
    first = random.SystemRandom().randrange(10**9)
    print(f"first seed: {first}; duration: {seconds / 60:g} min", flush=True)
    runs = run_sweeps(SWEEPS, seed=first, seconds=seconds * _SHARE_OF_SWEEPS, on_failure=_print_failure)
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder))
        soak.run_for(seconds - (time.monotonic() - began), first)
    _print_sweeps(runs)
    print()
    soak.print_counts()
    return max(soak.code, *(0 if run.counts.is_good else 1 for run in runs))


def _print_failure(failure: Failure) -> None:
    print(f"{failure.sweep}, {failure.case}: {str(failure.findings)[:_MAX_TEXT]}", file=sys.stderr, flush=True)


def _print_sweeps(runs: list[SweepRun]) -> None:
    print(table((run.name, run.counts) for run in runs))
    for run in runs:
        for failure in run.failures:
            print(f"repeat with: {failure.replay}")


class Soak:
    """Runs scenarios one after another, and counts their results."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._source_of = cache(self._make_source)
        self.counts = Counts()
        self.failures: list[tuple[int, str]] = []

    def _make_source(self, size_bytes: int) -> Source:
        return make_source(self._folder / f"{size_bytes}.mp4", size_bytes)

    def run_for(self, seconds: float, first: int) -> None:
        """Run scenarios until the time is over, with seeds from ``first``."""
        logging.getLogger("async_uploader").setLevel(logging.CRITICAL)
        ends_at = time.monotonic() + seconds
        report_at = time.monotonic() + _REPORT_INTERVAL_SECONDS
        seed = first
        while time.monotonic() < ends_at:
            self.run(seed)
            seed += 1
            if time.monotonic() >= report_at:
                report_at += _REPORT_INTERVAL_SECONDS
                print(f"{self.counts.cases} cases, {len(self.failures)} failed", flush=True)

    def run(self, seed: int) -> None:
        """Run one scenario with its own state directory."""
        with tempfile.TemporaryDirectory(dir=self._folder) as state, isolated(Path(state)):
            try:
                counts = asyncio.run(run_scenario(random_scenario(random.Random(seed)), self._source_of))
            except Exception as exc:  # noqa: BLE001 - counts as a failure of this scenario
                counts = Counts(cases=1)
                self._fail(seed, f"{type(exc).__name__}: {exc}")
            else:
                if not counts.is_good:
                    self._fail(seed, str(counts))
        gc.collect()
        self.counts += counts

    def _fail(self, seed: int, reason: str) -> None:
        self.failures.append((seed, reason))
        print(f"seed {seed}: {reason[:500]}", file=sys.stderr, flush=True)

    @property
    def code(self) -> int:
        """The exit code."""
        return 1 if self.failures or not self.counts.is_good else 0

    def print_counts(self) -> None:
        """Print the counts, and how to repeat failures."""
        counts = self.counts
        rows = {
            "scenarios": counts.cases,
            "  cancelled runs": counts.cancelled,
            "  failed runs": counts.errors,
            "wrong outcomes": len(self.failures),
            "bytes sent again": counts.bytes_sent_again,
            "orphan containers": counts.orphans,
            "hung runs": counts.hung,
        }
        for name, count in rows.items():
            print(f"{name:<48}{count:>12,}")
        for seed, _ in self.failures:
            print(f"repeat with: python -m benchmarks.soak --seed {seed}")


if __name__ == "__main__":
    sys.exit(main())
