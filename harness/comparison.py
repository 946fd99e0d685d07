"""Compares two runs of the benchmarks, and says what has become slower by more than their noise. Pure.

Problem
    Another machine, or another load, changes all durations. A median of a few runs varies by 10 % and more.

Approach
    Compare only ratios of two entries that were measured in turn in the same round, such as the uploader and
    `curl`. The noise of a ratio is its range over the rounds, relative to its median. A ratio has become worse if
    its median has grown by more than the noise of both runs together, and by at least 10 %.

Rejected
    - A fixed threshold: it is too small for some ratios, and hides changes of others.
    - A test of significance: with three rounds, no result is significant.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

#: The figures of the rounds by case and entry.
Results = Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]

# Smaller changes are of no interest, even if they are certain.
_MIN_CHANGE: Final = 0.10
# One round has no range. This is more than the usual range of several.
_NOISE_OF_ONE_ROUND: Final = 0.25


class Ratio(NamedTuple):
    """What is compared.

    :param figure: `seconds`, `cpu_seconds` …; less is better
    :param reference: the entry that it is divided by
    """

    case: str
    entry: str
    figure: str
    reference: str

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.case}: {self.figure} of {self.entry!r} / {self.reference!r}"


class Change(NamedTuple):
    """How a ratio has changed.

    :param before: the committed median
    :param after: the median of this run
    :param noise: by how much the median can change by chance, relative to it
    """

    ratio: Ratio
    before: float
    after: float
    noise: float

    @property
    def relative(self) -> float:
        """The change, relative to the committed median; positive: worse."""
        return self.after / self.before - 1

    @property
    def is_worse(self) -> bool:
        """Whether it is worse by more than the noise."""
        return self.relative > max(_MIN_CHANGE, self.noise)

    def __str__(self) -> str:
        return (
            f"{self.ratio.name}: {self.before:.2f} before, {self.after:.2f} now "
            f"({self.relative:+.0%}, noise {self.noise:.0%})"
        )


def compare(committed: Results, measured: Results, ratios: Sequence[Ratio]) -> list[Change]:
    """The changes of all ratios that both runs have measured."""
    changes = []
    for ratio in ratios:
        before, after = _values(committed, ratio), _values(measured, ratio)
        if before and after:
            noise = _relative_range(before) + _relative_range(after)
            changes.append(Change(ratio, statistics.median(before), statistics.median(after), noise))
    return changes


def _values(results: Results, ratio: Ratio) -> list[float]:
    """The ratio in each round."""
    entries = results.get(ratio.case, {})
    rounds = zip(entries.get(ratio.entry, ()), entries.get(ratio.reference, ()), strict=False)
    return [
        one[ratio.figure] / other[ratio.figure]
        for one, other in rounds
        if ratio.figure in one and other.get(ratio.figure)
    ]


def _relative_range(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / statistics.median(values) if len(values) > 1 else _NOISE_OF_ONE_ROUND
