"""Interleaved runs: A B C A B C ..., so that what else the machine does hits all alike."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .children import run_child
from .targets import Address, Target
from .units import GIB, MIB

#: One run's figures, by name. Missing is what does not apply.
Sample = dict[str, float]
#: The samples of a case by entry, in the order of the runs.
Samples = dict[str, list[Sample]]

_RATED_FROM_BYTES = 64 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that is measured.

    :param command: makes a command line for an address
    :param payload_bytes: what is uploaded
    :param before: is called before each run
    """

    name: str
    target: Target
    command: Callable[[Address], list[str]]
    payload_bytes: int = 0
    before: Callable[[], None] | None = None

    def run(self) -> Sample:
        """One run."""
        if self.before is not None:
            self.before()
        with self.target as address:
            child = run_child(self.command(address), environment=address.environment)
        seconds = float(child.report.get("seconds", child.process_seconds))
        sample: Sample = {
            "seconds": seconds,
            "process_seconds": child.process_seconds,
            "cpu_seconds": child.cpu_seconds,
            "peak_rss_mb": child.peak_rss_bytes / 1e6,
            **self.target.statistics(),
        }
        if "stall_seconds" in child.report:
            sample["stall_ms"] = float(child.report["stall_seconds"]) * 1000
        if self.payload_bytes >= _RATED_FROM_BYTES:
            sample["mib_a_second"] = self.payload_bytes / MIB / seconds
            sample["cpu_seconds_a_gib"] = child.cpu_seconds / (self.payload_bytes / GIB)
        return sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Things that are compared with each other.

    :param done: is called after the last run, to tidy up
    """

    key: str
    title: str
    entries: Sequence[Entry]
    done: Callable[[], None] | None = None

    def run(self, runs: int) -> Samples:
        """All entries, so many times."""
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
    """The spread of one figure; None where it does not apply."""
    values = [sample[figure] for sample in samples if figure in sample]
    return Spread.of(values) if values else None


def ratio(samples: Samples, one: str, other: str, *, figure: str = "seconds") -> Spread | None:
    """One entry's figure over the other's, each within the same round; None if one of them was not measured."""
    pairs = zip(samples.get(one, ()), samples.get(other, ()), strict=False)
    values = [first[figure] / second[figure] for first, second in pairs]
    return Spread.of(values) if values else None
