"""Runs sweeps, on as many threads as there are processors, and within a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from . import batch, journal, kills, responses
from .counts import Counts, Findings
from .harness import Bench, Case, Sweep

SWEEPS: Final[dict[str, Sweep]] = {module.NAME: module for module in (kills, journal, responses, batch)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A case that went wrong."""

    sweep: str
    case: str
    findings: Findings

    @property
    def replay(self) -> str:
        """The command that runs it again."""
        return f"python -m benchmarks.soak --sweep {self.sweep} --case {self.case!r}"


@dataclass(slots=True)
class SweepRun:
    """One sweep on its way."""

    name: str
    counts: Counts = field(default_factory=Counts)
    failures: list[Failure] = field(default_factory=list)

    def run(
        self,
        cases: Iterator[Case],
        benches: list[Bench],
        *,
        seconds: float | None = None,
        tell: Callable[[Failure], None] = lambda _: None,
    ) -> None:
        """Run cases until there are no more, or the time is up.

        :param seconds: no case begins after so long; default: all of them run
        :param tell: is called with each failure
        """
        turn = threading.Lock()
        began = time.monotonic()

        def work(bench: Bench) -> None:
            while seconds is None or time.monotonic() - began < seconds:
                with turn:
                    case = next(cases, None)
                if case is None:
                    return
                findings = bench.run(case)
                with turn:
                    self._add(case, findings, tell)

        with ThreadPoolExecutor(len(benches)) as threads:
            for one in [threads.submit(work, bench) for bench in benches]:
                one.result()
        self.counts.seconds += time.monotonic() - began

    def _add(self, case: Case, findings: Findings, tell: Callable[[Failure], None]) -> None:
        self.counts.add(findings)
        if findings.all:
            failure = Failure(sweep=self.name, case=case.name, findings=findings)
            self.failures.append(failure)
            tell(failure)
