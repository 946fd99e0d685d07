"""The counts of a sweep: cases, runs, and everything that must not happen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What can be wrong with a run. Each kind is a column of the table."""

    TRACEBACK = "tracebacks"
    HANG = "hangs"
    DUPLICATE = "duplicates"
    ORPHAN = "orphans"
    BYTES_SENT_AGAIN = "bytes sent again"
    WRONG = "wrong outcomes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong.

    :ivar count: how many; for bytes sent again, the number of bytes
    """

    kind: Kind
    text: str
    count: int = 1


class Findings:
    """The findings of one case."""

    def __init__(self) -> None:
        self.all: list[Finding] = []
        self.runs = 0

    def add(self, kind: Kind, text: str, count: int = 1) -> None:
        """Add a finding."""
        self.all.append(Finding(kind=kind, text=text, count=count))

    def check(self, holds: object, text: str, kind: Kind = Kind.WRONG) -> bool:
        """Add a finding unless ``holds`` is true. Returns whether it is."""
        if not holds:
            self.add(kind, text)
        return bool(holds)

    def __str__(self) -> str:
        return "; ".join(f"{finding.kind}: {finding.text}" for finding in self.all)


@dataclass(slots=True)
class Counts:
    """The counts of one sweep.

    :ivar cases: number of cases
    :ivar runs: number of commands and uploads that the cases ran
    """

    cases: int = 0
    runs: int = 0
    wrong: Counter[Kind] = field(default_factory=Counter)
    seconds: float = 0.0

    def add(self, findings: Findings) -> None:
        """Add the findings of a case."""
        self.cases += 1
        self.runs += findings.runs
        for finding in findings.all:
            self.wrong[finding.kind] += finding.count

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong.total()


def table(counts: Iterable[tuple[str, Counts]]) -> str:
    """A table with a row for each sweep and a row of totals."""
    rows = list(counts)
    columns = ["sweep", "cases", "runs", *Kind]
    lines = [columns]
    total = Counts()
    for name, count in rows:
        lines.append([name, *_figures(count)])
        total.cases += count.cases
        total.runs += count.runs
        total.wrong += count.wrong
    lines.append(["all", *_figures(total)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if not place else cell.rjust(width) for place, (cell, width) in enumerate(cells)
        )
        for cells in (list(zip(line, widths, strict=True)) for line in lines)
    )


def _figures(count: Counts) -> list[str]:
    return [f"{number:,}" for number in (count.cases, count.runs, *(count.wrong[kind] for kind in Kind))]
