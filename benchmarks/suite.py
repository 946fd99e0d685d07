"""Runs entries in turn (A B C A B C …), so that other load on the machine affects all of them equally."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from .children import run_child
from .targets import Address, Target
from .units import GIB, MIB

#: The figures of one run, by name. Figures that do not apply are missing.
Sample = dict[str, float]
#: The samples of a case by entry, one per run.
Samples = dict[str, list[Sample]]

_MIN_BYTES_FOR_RATES: Final = 64 * MIB
_MAXIMA: Final = ("peak_rss_mb", "stall_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that is measured.

    :param command: returns the command line for an address
    :param payload_bytes: how many bytes are uploaded
    :param before: called before each run
    :param times: how often a run repeats the command, to average short durations; memory and stalls are maxima,
        all other figures are means
    """

    name: str
    target: Target
    command: Callable[[Address], list[str]]
    payload_bytes: int = 0
    before: Callable[[], None] | None = None
    times: int = 1

    def run(self) -> Sample:
        """Run once."""
        samples = [self._once() for _ in range(self.times)]
        run: Sample = {}
        for figure in samples[0]:
            values = [sample[figure] for sample in samples]
            run[figure] = max(values) if figure in _MAXIMA else statistics.fmean(values)
        if self.payload_bytes >= _MIN_BYTES_FOR_RATES:
            run["mib_per_second"] = self.payload_bytes / MIB / run["seconds"]
            run["cpu_seconds_per_gib"] = run["cpu_seconds"] / (self.payload_bytes / GIB)
        return run

    def _once(self) -> Sample:
        if self.before is not None:
            self.before()
        with self.target as address:
            child = run_child([*address.prefix, *self.command(address)], environment=address.environment)
        sample: Sample = {
            "seconds": float(child.report.get("seconds", child.process_seconds)),
            "process_seconds": child.process_seconds,
            "cpu_seconds": child.cpu_seconds,
            "peak_rss_mb": child.peak_rss_bytes / 1e6,
            **self.target.statistics(),
        }
        if "stall_seconds" in child.report:
            sample["stall_ms"] = float(child.report["stall_seconds"]) * 1000
        return sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Entries that are compared with each other.

    :param done: called after the last run, to clean up
    :param max_runs: run it at most so many times, because it takes long
    """

    key: str
    title: str
    entries: Sequence[Entry]
    done: Callable[[], None] | None = None
    max_runs: int | None = None

    def run(self, runs: int) -> Samples:
        """Run all entries ``runs`` times."""
        runs = min(runs, self.max_runs or runs)
        samples: Samples = {entry.name: [] for entry in self.entries}
        try:
            for number in range(1, runs + 1):
                for entry in self.entries:
                    sample = entry.run()
                    samples[entry.name].append(sample)
                    print(
                        f"{self.key} {number}/{runs}  {entry.name:<28}{sample['seconds']:9.3f} s",
                        file=sys.stderr,
                        flush=True,
                    )
        finally:
            if self.done is not None:
                self.done()
        return samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A median and its range."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(median=statistics.median(values), low=min(values), high=max(values))


def spread(samples: Sequence[Sample], figure: str) -> Spread | None:
    """The spread of one figure. None if no sample has it."""
    values = [sample[figure] for sample in samples if figure in sample]
    return Spread.of(values) if values else None


def ratio(samples: Samples, one: str, other: str, *, figure: str = "seconds") -> Spread | None:
    """The ratio of one entry to another, within each round. None if one was not measured."""
    pairs = zip(samples.get(one, ()), samples.get(other, ()), strict=False)
    values = [first[figure] / second[figure] for first, second in pairs]
    return Spread.of(values) if values else None
