"""SIGKILL before and after every call into journal, service, results and locks; then the same command again.

The first run of each scenario records its calls. Each call has two cases: the process is killed before it or after
it. Then the command is repeated until it succeeds, in some scenarios on another machine. There has to be exactly
one video of each file, no stored byte is sent again, and nothing is left.

Objects on the web and in S3 are always continued on another machine.

With an upload token, one loss is unavoidable, because a token cannot list containers: if the process is killed
before the journal has the id of a new container, no client knows that container. It is ignored.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Final, Literal

from async_uploader._limits import MIB
from harness.range_server import RangeServer
from harness.service import Service

from .bench import Bench, Case, shuffled
from .child import Injection, Instructions, Moment
from .counts import Findings
from .workspace import (
    PART_BYTES,
    CommandResult,
    Source,
    Workspace,
    is_quiet,
    key_environment,
    missing_videos,
    upload_flags,
)

NAME: Final = "kills"

# How often the command is repeated after a kill. It should succeed the first time.
_MAX_RUNS: Final = 4
_MOMENTS: Final[tuple[Moment, ...]] = ("before", "after")

# These calls only read memory, or are part of another call.
_WITHOUT_EFFECT: Final = ("ResultsFile.is_finished", "ResultsFile.is_import_started", "Http.exchange")

# When this call returns, the journal has the container.
_RECORDED: Final = "Journal.begin/"

Place = Literal["disk", "web", "s3"]

_KEYED: Final = ("--idempotency-key", "a")
_SMALL: Final = (200_000,)
_PARTS: Final = (3 * PART_BYTES + MIB,)
_SEVERAL: Final = (200_000, 100_000, PART_BYTES + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A command.

    :ivar is_moved: after a kill, the command is repeated on another machine
    :ivar place: where the source is
    """

    has_token: bool
    sizes: tuple[int, ...]
    flags: tuple[str, ...]
    is_moved: bool = False
    place: Place = "disk"

    @property
    def name(self) -> str:
        """The name."""
        size = {_SMALL: "1 part", _PARTS: "4 parts", _SEVERAL: "3 files"}[self.sizes]
        words = [flag for flag in self.flags if flag.startswith("--")] + ["elsewhere"] * self.is_moved
        words += [self.place] * (self.place != "disk")
        return " ".join(["token" if self.has_token else "key", size, *words])


def scenarios() -> list[Scenario]:
    """All useful combinations."""
    found = []
    modes: tuple[tuple[str, ...], ...] = ((), ("--resume",), ("--json",))
    for has_token, sizes, mode in product((False, True), (_SMALL, _PARTS, _SEVERAL), modes):
        if has_token and "--resume" in mode:
            continue  # without effect: a token cannot read or write metadata
        results = ((), ("--results", "results.jsonl")) if sizes is _SEVERAL else ((),)
        found += [Scenario(has_token=has_token, sizes=sizes, flags=(*mode, *more)) for more in results]
    for sizes, is_moved in product((_SMALL, _PARTS), (False, True)):
        found.append(Scenario(has_token=False, sizes=sizes, flags=_KEYED, is_moved=is_moved))
    found += [
        Scenario(has_token=False, sizes=sizes, flags=("--resume",), is_moved=True) for sizes in (_SMALL, _PARTS)
    ]
    places: tuple[Place, ...] = ("web", "s3")
    for place, flags in product(places, ((), _KEYED, ("--key-from-source",))):
        found.append(Scenario(has_token=False, sizes=_PARTS, flags=flags, is_moved=True, place=place))
    return found


def cases(bench: Bench, seed: int) -> Iterator[Case]:
    """All cases. First, each scenario is run once to record its calls."""
    found = [case for scenario in scenarios() for case in _cases_of(bench, scenario)]
    yield from shuffled(found, seed)


def case(bench: Bench, name: str) -> Case:
    """The case with a name like ``key 1 part: before Journal.begin 1``."""
    about, _, where = name.partition(": ")
    moment, call, number = where.split()
    (scenario,) = (scenario for scenario in scenarios() if scenario.name == about)
    return _case(
        scenario, Injection(call=call, number=int(number), moment="before" if moment == "before" else "after")
    )


def _cases_of(bench: Bench, scenario: Scenario) -> Iterator[Case]:
    for call, count in _calls_of(bench, scenario).items():
        for number, moment in product(range(1, count + 1), _MOMENTS):
            yield _case(scenario, Injection(call=call, number=number, moment=moment))


def _case(scenario: Scenario, injection: Injection) -> Case:
    return Case(name=f"{scenario.name}: {injection}", run=partial(_run, scenario, injection))


def _calls_of(bench: Bench, scenario: Scenario) -> Counter[str]:
    findings = Findings()
    with _started(bench, scenario, findings) as (_, workspace, command):
        record = workspace.folder / "calls"
        command.run(Instructions(record=str(record)))
        calls = (call for call in record.read_text().split() if not call.endswith("/"))
        return Counter(call for call in calls if call not in _WITHOUT_EFFECT)


@contextmanager
def _started(
    bench: Bench, scenario: Scenario, findings: Findings
) -> Iterator[tuple[Service, Workspace, _Command]]:
    """Start the servers of a scenario, and prepare its command."""
    sources = [bench.source(size, number) for number, size in enumerate(scenario.sizes)]
    with bench.service() as service, bench.workspace(findings) as workspace, ExitStack() as stack:
        environment = {"APIVIDEO_UPLOAD_TOKEN": service.make_token()} if scenario.has_token else key_environment()
        names: list[str] = []
        for number, source in enumerate(sources):
            if scenario.place == "disk":
                names.append(workspace.copy(source, f"{number}.mp4").name)
                continue
            server = RangeServer(source.path.read_bytes())
            stack.enter_context(bench.portal.wrap_async_context_manager(server))
            environment |= server.s3_environment
            names += [server.url(), "--fetch", "here"] if scenario.place == "web" else ["s3://films/movie.mp4"]
        yield service, workspace, _Command(scenario, sources, service, workspace, names, environment)


class _Command:
    """The command of a scenario. It can be run several times.

    :param names: the sources as arguments
    """

    def __init__(
        self,
        scenario: Scenario,
        sources: list[Source],
        service: Service,
        workspace: Workspace,
        names: list[str],
        environment: dict[str, str],
    ) -> None:
        self._workspace = workspace
        self._is_moved = scenario.is_moved
        self.is_json = "--json" in scenario.flags
        self.sources = sources
        self._arguments = ("upload", *names, *upload_flags(service, *scenario.flags))
        self._environment = environment

    def run(self, instructions: Instructions) -> CommandResult:
        return self._run_in(self._workspace, instructions)

    def run_again(self) -> CommandResult:
        """Run the command after a kill."""
        workspace = self._workspace.on_machine("elsewhere") if self._is_moved else self._workspace
        return self._run_in(workspace, Instructions())

    def _run_in(self, workspace: Workspace, instructions: Instructions) -> CommandResult:
        return workspace.run(*self._arguments, instructions=instructions, environment=self._environment)


def _run(scenario: Scenario, injection: Injection, bench: Bench, findings: Findings) -> None:
    with _started(bench, scenario, findings) as (service, workspace, command):
        record = workspace.folder / "calls"
        result = command.run(Instructions(injections=(injection,), record=str(record)))
        unrecorded: set[str] = set()
        if result.code == -9:
            service.wait_for(is_quiet)  # the requests of the killed process have ended
            if scenario.has_token:
                recorded = record.read_text().split().count(_RECORDED)
                unrecorded = _unrecorded(service, workspace, recorded)
            if _has_to_run_again(scenario, result, service, workspace, command):
                result = _run_again(command)
        findings.check(result.code in (0, -9), f"the command does not succeed: {result.summary}")
        workspace.check_videos(service, command.sources, unavoidable=unrecorded)
        if not scenario.is_moved:
            workspace.check_journal_empty()
        missing = missing_videos(result, service, command.sources, is_json=command.is_json)
        findings.check(not missing, f"{len(missing)} videos are not on standard output: {result.out[-200:]!r}")
        if "--results" in scenario.flags:
            _check_results(command.sources, workspace)


def _has_to_run_again(
    scenario: Scenario, result: CommandResult, service: Service, workspace: Workspace, command: _Command
) -> bool:
    if scenario.is_moved:  # another machine does not see this one's journal
        return bool(missing_videos(result, service, command.sources, is_json=command.is_json))
    has_results = (workspace.folder / "results.jsonl").exists()
    return has_results or not workspace.is_complete(result, service, command.sources, is_json=command.is_json)


def _run_again(command: _Command) -> CommandResult:
    """Repeat the command until it succeeds."""
    result = command.run_again()
    for _ in range(_MAX_RUNS - 1):
        if result.code == 0:
            break
        result = command.run_again()
    return result


def _unrecorded(service: Service, workspace: Workspace, recorded: int) -> set[str]:
    """The containers that the journal has never contained.

    :param recorded: how many it has contained
    """
    results = workspace.folder / "results.jsonl"
    text = results.read_text() if results.exists() else ""
    known = workspace.journaled_videos()
    unknown = [video_id for video_id in service.emulator.videos if video_id not in known and video_id not in text]
    # The newest ones: containers are recorded in the order of their creation, and may be deleted from the journal.
    return set(unknown[len(unknown) - max(0, len(service.emulator.videos) - recorded) :])


def _check_results(sources: list[Source], workspace: Workspace) -> None:
    """The results file has the video of every file once."""
    lines = (workspace.folder / "results.jsonl").read_text().splitlines()
    recorded = Counter(entry["path"] for entry in map(json.loads, lines) if entry.get("video"))
    workspace.findings.check(
        len(recorded) == len(sources) and set(recorded.values()) == {1}, f"the results have {dict(recorded)}"
    )
