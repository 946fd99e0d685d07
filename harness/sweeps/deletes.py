"""kill -9 before, during and after a DELETE, and lost responses to it; then the same command again.

In the end, the video and its journal entry are deleted. A command that is repeated for a deleted video says so in
one message.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Final

from harness.service import Service

from .bench import Bench, Case, shuffled
from .child import Injection, Instructions, Moment
from .counts import Findings, Kind
from .workspace import CommandResult, Workspace, finished_videos, is_quiet, upload_flags

NAME: Final = "deletes"

_SIZE_BYTES: Final = 100_000
_LATENCY_SECONDS: Final = 0.1
_CALLS: Final = ("Service.delete_video", "Journal.unfinished", "Journal.forget", "output")
_MOMENTS: Final[tuple[Moment, ...]] = ("before", "during", "after")
_COMMANDS: Final = ("delete", "forget --delete", "upload --no-resume")
# Faults of the first DELETE.
_FAULTS: Final = {
    "no fault": (),
    "cut": ("delete,times=1:cut",),
    "response lost": ("delete,times=1:cut,when=stored",),
    "503": ("delete,times=1:status=503",),
    "503 though deleted": ("delete,times=1:status=503,when=stored",),
    "stalled": ("delete,times=1:stall=forever,when=stored",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A command that deletes a video.

    :ivar injection: when the command is killed; None: it is not killed
    """

    command: str
    fault: str
    injection: Injection | None

    @property
    def name(self) -> str:
        """The name."""
        return f"{self.command}, {self.fault}, " + (f"killed {self.injection}" if self.injection else "not killed")


def scenarios() -> list[Scenario]:
    """All scenarios. Either the service has a fault or the command is killed."""
    found = [
        Scenario(command=command, fault=fault, injection=None) for command, fault in product(_COMMANDS, _FAULTS)
    ]
    for command, call, moment in product(_COMMANDS, _CALLS, _MOMENTS):
        injection = Injection(call=call, number=1, moment=moment, delay_seconds=_LATENCY_SECONDS / 2)
        found.append(Scenario(command=command, fault="no fault", injection=injection))
    return found


def cases(_bench: Bench, seed: int) -> Iterator[Case]:
    """All cases."""
    yield from shuffled([_case(scenario) for scenario in scenarios()], seed)


def case(_bench: Bench, name: str) -> Case:
    """The case with this name."""
    (scenario,) = (scenario for scenario in scenarios() if scenario.name == name)
    return _case(scenario)


def _case(scenario: Scenario) -> Case:
    return Case(name=scenario.name, run=partial(_run, scenario))


def _run(scenario: Scenario, bench: Bench, findings: Findings) -> None:
    faults = _FAULTS[scenario.fault]
    with (
        bench.service(*faults, latency=_LATENCY_SECONDS) as service,
        bench.workspace(findings) as workspace,
    ):
        if scenario.command == "upload --no-resume":
            _run_upload(scenario, bench, service, workspace)
        else:
            _run_delete(scenario, bench, service, workspace)


def _instructions(scenario: Scenario) -> Instructions:
    return Instructions(injections=() if scenario.injection is None else (scenario.injection,), stall_seconds=0.5)


def _run_upload(scenario: Scenario, bench: Bench, service: Service, workspace: Workspace) -> None:
    """An upload that fails, so that it deletes its container."""
    source, findings = bench.source(_SIZE_BYTES), workspace.findings
    command = ("upload", workspace.copy(source, "0.mp4").name, *upload_flags(service, "--no-resume"))
    bench.add_fault(service, "upload,times=1:problem=uploaded-file-invalid-file")
    result = workspace.run(*command, instructions=_instructions(scenario))
    service.wait_for(is_quiet)
    left = set(service.emulator.videos)
    if result.code != -9:
        findings.check(result.code == 1, f"unexpected {result.summary}")
        findings.check(len(result.errors) == 1, f"not exactly one message: {result.summary}")
        if left and not any("could not be deleted" in line for line in result.errors):
            findings.add(Kind.ORPHAN, f"{len(left)} containers are left, but the message does not say so")
    result = workspace.run(*command)
    findings.check(result.code == 0, f"the upload does not succeed: {result.summary}")
    # Without resuming, there is no record of what a killed run was about to delete.
    workspace.check_videos(service, [source], unavoidable=left)


def _run_delete(scenario: Scenario, bench: Bench, service: Service, workspace: Workspace) -> None:
    source, findings = bench.source(_SIZE_BYTES), workspace.findings
    upload = ("upload", workspace.copy(source, "0.mp4").name, *upload_flags(service))
    interruption = Injection(call="Journal.acknowledge", number=1, moment="before")
    workspace.run(*upload, instructions=Instructions(injections=(interruption,)))
    service.wait_for(is_quiet)
    (video_id,) = service.emulator.videos
    command = (*scenario.command.split(), video_id, "--base-url", service.emulator.url)
    result = workspace.run(*command, instructions=_instructions(scenario))
    if result.code in (-9, 1):
        result = _run_again(command, result, workspace)
    is_gone = video_id not in service.emulator.videos and not any(workspace.journal_rows().values())
    is_gone_already = is_gone and result.code in (1, 2)  # and the message says so
    findings.check(
        result.code == 0 or is_gone_already or (result.code == 1 and scenario.command == "delete"),
        f"the command does not succeed: {result.summary}",
    )
    findings.check(len(result.errors) == bool(result.code), f"not exactly one message: {result.summary}")
    findings.check(video_id not in service.emulator.videos, "the video is still there")
    if scenario.command == "forget --delete":
        workspace.check_journal_empty()
    result = workspace.run(*upload)
    findings.check(result.code == 0, f"the next upload does not succeed: {result.summary}")
    workspace.check_videos(service, [source])
    findings.check(len(finished_videos(service)) == 1, "not exactly one video is left")


def _run_again(command: tuple[object, ...], result: CommandResult, workspace: Workspace) -> CommandResult:
    for _ in range(2):
        result = workspace.run(*command)
        if result.code == 0:
            break
    return result
