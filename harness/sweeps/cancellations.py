"""Cancellation, Ctrl-C and SIGTERM before, during and after every request, over a network with latency.

With resuming, every container that is left is in the journal, and the same upload then ends as one video without
sending a byte again. Without resuming, no unfinished container is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, Final

from async_uploader import Client
from harness.service import Service

from .bench import Bench, Case, shuffled
from .child import Action, Injection, Instructions, Moment
from .counts import Findings, Kind
from .workspace import PART_BYTES, CommandResult, Source, Workspace, is_quiet, key_environment, upload_flags

NAME: Final = "cancellations"

_CALL: Final = "Http.exchange"
_MOMENTS: Final[tuple[Moment, ...]] = ("before", "during", "after")
_WAYS: Final[dict[str, Action]] = {"Ctrl-C": "interrupt", "SIGTERM": "terminate", "cancel()": "cancel"}
_RESUME: Final[dict[str, str]] = {"--resume": "anywhere", "default": "local", "--no-resume": "off"}
_LATENCIES: Final = (0.08, 0.3)
# Time for the cleanup of an interrupted command, on a busy machine.
_END_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """An upload, and how it is stopped."""

    way: str
    resume: str
    latency_seconds: float
    size_bytes: int

    @property
    def name(self) -> str:
        """The name."""
        parts = "1 part" if self.size_bytes < PART_BYTES else "2 parts"
        return f"{self.way} {self.resume} {parts} {round(self.latency_seconds * 1000)} ms"

    @property
    def is_library(self) -> bool:
        """Whether the library is called, not the command line."""
        return self.way == "cancel()"


def scenarios() -> list[Scenario]:
    """All scenarios."""
    return [
        Scenario(way=way, resume=resume, latency_seconds=latency, size_bytes=size)
        for way, resume, latency, size in product(_WAYS, _RESUME, _LATENCIES, (1000, PART_BYTES + 1))
        if way != "SIGTERM" or latency == max(_LATENCIES)  # like Ctrl-C
    ]


def cases(bench: Bench, seed: int) -> Iterator[Case]:
    """All scenarios, stopped at each of their requests."""
    found = [
        _case(scenario, moment, number)
        for scenario in scenarios()
        for number, moment in product(range(1, _requests_of(bench, scenario) + 1), _MOMENTS)
    ]
    yield from shuffled(found, seed)


def case(_bench: Bench, name: str) -> Case:
    """The case with a name like ``Ctrl-C default 1 part 80 ms: during Http.exchange 2``."""
    about, _, where = name.partition(": ")
    moment, _, number = where.split()
    (scenario,) = (scenario for scenario in scenarios() if scenario.name == about)
    return _case(scenario, next(one for one in _MOMENTS if one == moment), int(number))


def _case(scenario: Scenario, moment: Moment, number: int) -> Case:
    injection = Injection(
        call=_CALL,
        number=number,
        moment=moment,
        action=_WAYS[scenario.way],
        delay_seconds=scenario.latency_seconds / 2,
    )
    return Case(name=f"{scenario.name}: {injection}", run=partial(_run, scenario, injection))


def _requests_of(bench: Bench, scenario: Scenario) -> int:
    findings = Findings()
    with bench.service() as service, bench.workspace(findings) as workspace:
        upload = _Upload(bench, scenario, service, workspace)
        record = workspace.folder / "calls"
        upload.run(Instructions(record=str(record)), is_library=False)
        return record.read_text().split().count(_CALL)


class _Upload:
    def __init__(self, bench: Bench, scenario: Scenario, service: Service, workspace: Workspace) -> None:
        self._scenario = scenario
        self._service = service
        self._workspace = workspace
        self.source = bench.source(scenario.size_bytes)
        self._name = workspace.copy(self.source, "0.mp4").name

    def run(self, instructions: Instructions, *, is_library: bool) -> CommandResult:
        start = self._start_library if is_library else self._start_command
        return self._workspace.finish(start(instructions), seconds=_END_SECONDS)

    def _start_command(self, instructions: Instructions) -> Any:
        flags = () if self._scenario.resume == "default" else (self._scenario.resume,)
        return self._workspace.start(
            "upload", self._name, *upload_flags(self._service, *flags), instructions=instructions
        )

    def _start_library(self, instructions: Instructions) -> Any:
        options = {"part_size": PART_BYTES, "concurrency": 2, "resume": _RESUME[self._scenario.resume]}
        environment = {**key_environment(), "APIVIDEO_BASE_URL": self._service.emulator.url}
        return self._workspace.start(
            self._name, instructions=replace(instructions, library=options), environment=environment
        )


def _run(scenario: Scenario, injection: Injection, bench: Bench, findings: Findings) -> None:
    with (
        bench.service(latency=scenario.latency_seconds) as service,
        bench.workspace(findings) as workspace,
    ):
        upload = _Upload(bench, scenario, service, workspace)
        result = upload.run(Instructions(injections=(injection,)), is_library=scenario.is_library)
        findings.check(result.code in (0, 130), f"unexpected {result.summary}")
        service.wait_for(is_quiet)
        if scenario.resume == "--no-resume":
            _check_nothing_left(service, upload.source, findings)
            return
        _check_known(service, workspace)
        if result.code and not workspace.is_complete(result, service, [upload.source]):
            result = upload.run(Instructions(), is_library=scenario.is_library)
            findings.check(result.code == 0, f"the upload does not succeed: {result.summary}")
        workspace.check_videos(service, [upload.source])
        workspace.check_journal_empty()


def _check_nothing_left(service: Service, source: Source, findings: Findings) -> None:
    """No container is left, except a video that was finished when the upload was stopped."""
    for view in service.emulator.videos.values():
        if view.state in ("empty", "uploading"):
            findings.add(Kind.ORPHAN, f"container {view.video_id} is {view.state}")
        elif view.sha256 is not None:
            findings.check(view.sha256 == source.sha256, "a video has not the bytes of the file")


def _check_known(service: Service, workspace: Workspace) -> None:
    """Every unfinished container is in the journal or has resume metadata."""
    known = workspace.journaled_videos()
    for video_id, view in service.emulator.videos.items():
        is_marked = service.request(partial(_has_metadata, video_id))
        if view.sha256 is None and video_id not in known and not is_marked:
            rows = {table: len(found) for table, found in workspace.journal_rows().items()}
            workspace.findings.add(
                Kind.ORPHAN, f"container {video_id} is {view.state} and not in the journal: {rows}"
            )


async def _has_metadata(video_id: str, client: Client) -> bool:
    return bool((await client.get_video(video_id)).metadata)
