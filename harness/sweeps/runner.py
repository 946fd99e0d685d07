"""Runs the cases of sweeps on several threads, within a time limit."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from . import batch, cancellations, certificates, clocks, deletes, journal, kills, machines, responses, terminals
from .bench import Bench, Case, Sweep, benches
from .counts import Counts, Findings

_MODULES: Final = (
    kills, machines, journal, responses, batch, cancellations, clocks, deletes, certificates, terminals,
)  # fmt: skip
SWEEPS: Final[dict[str, Sweep]] = {module.NAME: module for module in _MODULES}
# The shares of a limited time. Other sweeps have 1.
_SHARES: Final = {"kills": 4, "machines": 4, "cancellations": 2, "journal": 2, "responses": 2}
# A case mostly waits: for processes to start, for latency, for timeouts.
_THREADS_PER_PROCESSOR: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A case with findings."""

    sweep: str
    case: str
    findings: Findings

    @property
    def replay(self) -> str:
        """The command that repeats the case."""
        return f'python -m benchmarks.soak --sweep {self.sweep} --case "{self.case}"'


@dataclass(slots=True)
class SweepRun:
    """One run of a sweep: its counts and failures."""

    name: str
    counts: Counts = field(default_factory=Counts)
    failures: list[Failure] = field(default_factory=list)

    def run(
        self,
        cases: Iterator[Case],
        benches: list[Bench],
        *,
        seconds: float | None = None,
        on_failure: Callable[[Failure], None] = lambda _: None,
    ) -> None:
        """Run cases until there are no more or the time is over. Each thread runs at least one.

        :param seconds: after this time no case is started; default: run all cases
        :param on_failure: called with each failure
        """
        lock = threading.Lock()
        began = time.monotonic()

        def work(bench: Bench) -> None:
            while True:
                with lock:
                    case = next(cases, None)
                if case is None:
                    return
                findings = bench.run(case)
                with lock:
                    self._add(case, findings, on_failure)
                if seconds is not None and time.monotonic() - began >= seconds:
                    return

        with ThreadPoolExecutor(len(benches)) as threads:
            for one in [threads.submit(work, bench) for bench in benches]:
                one.result()
        self.counts.seconds += time.monotonic() - began

    def _add(self, case: Case, findings: Findings, on_failure: Callable[[Failure], None]) -> None:
        self.counts.add(findings)
        if findings.all:
            failure = Failure(sweep=self.name, case=case.name, findings=findings)
            self.failures.append(failure)
            on_failure(failure)


def run_sweeps(
    names: Iterable[str],
    *,
    seed: int,
    seconds: float | None = None,
    case: str | None = None,
    on_failure: Callable[[Failure], None],
) -> list[SweepRun]:
    """Run sweeps one after another.

    :param seed: seed of the first case, or of the order of cases that have no seed
    :param seconds: time limit for all sweeps together; time that a sweep does not use is left to the next ones;
        default: no limit
    :param case: run only this case; default: all cases
    :param on_failure: called with each failure
    """
    runs = [SweepRun(name) for name in names]
    ends_at = None if seconds is None else time.monotonic() + seconds
    with benches(1 if case else _THREADS_PER_PROCESSOR * (os.cpu_count() or 1), verbose=case is not None) as found:
        for place, run in enumerate(runs):
            sweep = SWEEPS[run.name]
            cases = iter([sweep.case(found[0], case)]) if case else iter(sweep.cases(found[0], seed))
            share = None
            if ends_at is not None:
                shares = [_SHARES.get(later.name, 1) for later in runs[place:]]
                share = max(0.0, ends_at - time.monotonic()) * shares[0] / sum(shares)
            run.run(cases, found, seconds=share, on_failure=on_failure)
    return runs
