"""Killed before and after every call into journal, service, results and locks; then the same command again.

A first run of each scenario records which calls there are. Then each of these calls has two cases, in which
SIGKILL ends the process there. Whatever the moment, running the command again until it ends has to make exactly
one video of each file, without sending a stored byte again and without leaving anything behind.

One loss cannot be avoided: an upload token can ask for nothing. A container whose creating response was not
recorded in the journal when the process died is unknown to everybody, so it does not count.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Final

from async_uploader._limits import MIB

from .bench import (
    PART_BYTES,
    Bench,
    Case,
    Done,
    Service,
    Source,
    Workspace,
    is_quiet,
    missing_in,
    shuffled,
    upload_flags,
    with_key,
)
from .child import Moment, Order, Strike
from .counts import Findings

NAME: Final = "kills"

# The same command is run so often after a kill; it should end the first time.
_MOST_RUNS: Final = 4
_MOMENTS: Final[tuple[Moment, ...]] = ("before", "after")

# They look at memory only, or are inside of another call.
_WITHOUT_EFFECT: Final = ("Results.is_done", "Results.is_begun", "Http.exchange")

# A container is known from the return of this call on.
_RECORDED: Final = "Journal.begin/"

_SMALL: Final = (200_000,)
_PARTS: Final = (3 * PART_BYTES + MIB,)
_SEVERAL: Final = (200_000, 100_000, PART_BYTES + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A command."""

    has_token: bool
    sizes: tuple[int, ...]
    flags: tuple[str, ...]

    @property
    def name(self) -> str:
        """In words."""
        what = {_SMALL: "1 part", _PARTS: "4 parts", _SEVERAL: "3 files"}[self.sizes]
        words = [flag for flag in self.flags if flag.startswith("--")]
        return " ".join(["token" if self.has_token else "key", what, *words])


def scenarios() -> list[Scenario]:
    """Every combination that means something."""
    found = []
    modes: tuple[tuple[str, ...], ...] = ((), ("--resume",), ("--json",))
    for has_token, sizes, mode in product((False, True), (_SMALL, _PARTS, _SEVERAL), modes):
        if has_token and "--resume" in mode:
            continue  # a token cannot mark a container: it would be the same
        results = ((), ("--results", "results.jsonl")) if sizes is _SEVERAL else ((),)
        found += [Scenario(has_token=has_token, sizes=sizes, flags=(*mode, *more)) for more in results]
    return found


def cases(bench: Bench, seed: int) -> Iterator[Case]:
    """All of them; what a scenario calls is found out first."""
    found = [case for scenario in scenarios() for case in _cases_of(bench, scenario)]
    yield from shuffled(found, seed)


def case(bench: Bench, name: str) -> Case:
    """One by its name, as ``key 1 part: before Journal.begin 1``."""
    about, _, where = name.partition(": ")
    moment, call, number = where.split()
    (scenario,) = (scenario for scenario in scenarios() if scenario.name == about)
    return _case(
        scenario, Strike(call=call, number=int(number), moment="before" if moment == "before" else "after")
    )


def _cases_of(bench: Bench, scenario: Scenario) -> Iterator[Case]:
    for call, count in _calls_of(bench, scenario).items():
        for number, moment in product(range(1, count + 1), _MOMENTS):
            yield _case(scenario, Strike(call=call, number=number, moment=moment))


def _case(scenario: Scenario, strike: Strike) -> Case:
    return Case(name=f"{scenario.name}: {strike}", run=partial(_run, scenario, strike))


def _calls_of(bench: Bench, scenario: Scenario) -> Counter[str]:
    findings = Findings()
    with bench.service() as service, bench.workspace(findings) as workspace:
        record = workspace.folder / "calls"
        _Command(bench, scenario, service, workspace).run(Order(record=str(record)))
        calls = (call for call in record.read_text().split() if not call.endswith("/"))
        return Counter(call for call in calls if call not in _WITHOUT_EFFECT)


class _Command:
    """The command of a scenario, as often as it takes."""

    def __init__(self, bench: Bench, scenario: Scenario, service: Service, workspace: Workspace) -> None:
        self._workspace = workspace
        self.is_json = "--json" in scenario.flags
        self.sources = [bench.source(size, number) for number, size in enumerate(scenario.sizes)]
        names = [workspace.copy(source, f"{number}.mp4").name for number, source in enumerate(self.sources)]
        self._arguments = ("upload", *names, *upload_flags(service, *scenario.flags))
        self._environment = {"APIVIDEO_UPLOAD_TOKEN": service.make_token()} if scenario.has_token else with_key()

    def run(self, order: Order) -> Done:
        return self._workspace.run(*self._arguments, order=order, environment=self._environment)


def _run(scenario: Scenario, strike: Strike, bench: Bench, findings: Findings) -> None:
    with bench.service() as service, bench.workspace(findings) as workspace:
        command = _Command(bench, scenario, service, workspace)
        record = workspace.folder / "calls"
        done = command.run(Order(strikes=(strike,), record=str(record)))
        unknown: set[str] = set()
        if done.code == -9:
            service.wait_for(is_quiet)  # what the killed process had on its way has landed or broken off
            if scenario.has_token:
                recorded = record.read_text().split().count(_RECORDED)
                unknown = _unrecorded(service, workspace, recorded)
            has_results = (workspace.folder / "results.jsonl").exists()
            if has_results or not workspace.is_over(done, service, command.sources, is_json=command.is_json):
                done = _again(command)
        findings.check(done.code in (0, -9), f"the command does not succeed: {done.last_words}")
        workspace.check_videos(service, command.sources, unavoidable=unknown)
        workspace.check_journal_empty()
        missing = missing_in(done, service, command.sources, is_json=command.is_json)
        findings.check(not missing, f"{len(missing)} videos are not on standard output: {done.out[-200:]!r}")
        if "--results" in scenario.flags:
            _check_results(command.sources, workspace)


def _again(command: _Command) -> Done:
    """Until it succeeds, or has failed too often."""
    done = command.run(Order())
    for _ in range(_MOST_RUNS - 1):
        if done.code == 0:
            break
        done = command.run(Order())
    return done


def _unrecorded(service: Service, workspace: Workspace, recorded: int) -> set[str]:
    """The containers that the journal has never known.

    :param recorded: how many it has known
    """
    results = workspace.folder / "results.jsonl"
    text = results.read_text() if results.exists() else ""
    known = workspace.known_videos()
    unknown = [video_id for video_id in service.emulator.videos if video_id not in known and video_id not in text]
    # The last ones: what was made first was recorded first, and may be forgotten again.
    return set(unknown[len(unknown) - max(0, len(service.emulator.videos) - recorded) :])


def _check_results(sources: list[Source], workspace: Workspace) -> None:
    """They name the video of every file once."""
    lines = (workspace.folder / "results.jsonl").read_text().splitlines()
    recorded = Counter(told["path"] for told in map(json.loads, lines) if told.get("video"))
    workspace.findings.check(
        len(recorded) == len(sources) and set(recorded.values()) == {1}, f"the results have {dict(recorded)}"
    )
