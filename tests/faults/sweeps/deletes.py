"""kill -9 before, during and after a DELETE, and lost responses to it; then the same command again.

Whatever the moment: the video is gone in the end, so is what the journal knew of it, and a command that is run
again for what is gone already says so in one message.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Final

from .child import Moment, Order, Strike
from .counts import Findings, Kind
from .harness import Bench, Case, Done, Service, Workspace, finished, is_quiet, shuffled, upload_flags

NAME: Final = "deletes"

_SIZE_BYTES: Final = 100_000
_LATENCY_SECONDS: Final = 0.1
_CALLS: Final = ("Service.delete_video", "Journal.unfinished", "Journal.forget", "output")
_MOMENTS: Final[tuple[Moment, ...]] = ("before", "during", "after")
_COMMANDS: Final = ("delete", "forget --delete", "upload --no-resume")
# What the service does with the first DELETEs, beside being killed at.
_FAULTS: Final = {
    "sound": (),
    "cut": ("delete,times=1:cut",),
    "response lost": ("delete,times=1:cut,when=stored",),
    "503": ("delete,times=1:status=503",),
    "503 though deleted": ("delete,times=1:status=503,when=stored",),
    "stalled": ("delete,times=1:stall=forever,when=stored",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A command that deletes.

    :ivar strike: where it is killed; None: nowhere
    """

    command: str
    fault: str
    strike: Strike | None

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.command}, {self.fault}, " + (f"killed {self.strike}" if self.strike else "not killed")


def scenarios() -> list[Scenario]:
    """All of them; those that are killed have no other trouble."""
    found = [Scenario(command=command, fault=fault, strike=None) for command, fault in product(_COMMANDS, _FAULTS)]
    for command, call, moment in product(_COMMANDS, _CALLS, _MOMENTS):
        strike = Strike(call=call, number=1, moment=moment, delay_seconds=_LATENCY_SECONDS / 2)
        found.append(Scenario(command=command, fault="sound", strike=strike))
    return found


def cases(_bench: Bench, seed: int) -> Iterator[Case]:
    """All of them."""
    yield from shuffled([_case(scenario) for scenario in scenarios()], seed)


def case(_bench: Bench, name: str) -> Case:
    """One by its name."""
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


def _order(scenario: Scenario) -> Order:
    return Order(strikes=() if scenario.strike is None else (scenario.strike,), stall_seconds=0.5)


def _run_upload(scenario: Scenario, bench: Bench, service: Service, workspace: Workspace) -> None:
    """One that fails, so that its container is deleted."""
    source, findings = bench.source(_SIZE_BYTES), workspace.findings
    command = ("upload", workspace.copy(source, "0.mp4").name, *upload_flags(service, "--no-resume"))
    bench.add_fault(service, "upload,times=1:problem=uploaded-file-invalid-file")
    done = workspace.run(*command, order=_order(scenario))
    service.wait_for(is_quiet)
    left = set(service.emulator.videos)
    if done.code != -9:
        findings.check(done.code == 1, f"unexpected {done.last_words}")
        findings.check(len(done.errors) == 1, f"no single message: {done.last_words}")
        if left and not any("could not be deleted" in line for line in done.errors):
            findings.add(Kind.ORPHAN, f"{len(left)} containers are left, and the message does not tell")
    done = workspace.run(*command)
    findings.check(done.code == 0, f"the upload does not succeed: {done.last_words}")
    # Without resume nothing remembers what a killed run was about to delete.
    workspace.check_videos(service, [source], unavoidable=left)


def _run_delete(scenario: Scenario, bench: Bench, service: Service, workspace: Workspace) -> None:
    source, findings = bench.source(_SIZE_BYTES), workspace.findings
    upload = ("upload", workspace.copy(source, "0.mp4").name, *upload_flags(service))
    begun = Strike(call="Journal.acknowledge", number=1, moment="before")
    workspace.run(*upload, order=Order(strikes=(begun,)))
    service.wait_for(is_quiet)
    (video_id,) = service.emulator.videos
    command = (*scenario.command.split(), video_id, "--base-url", service.emulator.url)
    done = workspace.run(*command, order=_order(scenario))
    if done.code in (-9, 1):
        done = _again(command, done, workspace)
    is_gone = video_id not in service.emulator.videos and not any(workspace.rows().values())
    is_gone_already = is_gone and done.code in (1, 2)  # so it says
    findings.check(
        done.code == 0 or is_gone_already or (done.code == 1 and scenario.command == "delete"),
        f"the command does not succeed: {done.last_words}",
    )
    findings.check(len(done.errors) == bool(done.code), f"no single message: {done.last_words}")
    findings.check(video_id not in service.emulator.videos, "the video is still there")
    if scenario.command == "forget --delete":
        workspace.check_journal_empty()
    done = workspace.run(*upload)
    findings.check(done.code == 0, f"an upload after it does not succeed: {done.last_words}")
    workspace.check_videos(service, [source])
    findings.check(len(finished(service)) == 1, "there is another number of videos")


def _again(command: tuple[object, ...], done: Done, workspace: Workspace) -> Done:
    for _ in range(2):
        done = workspace.run(*command)
        if done.code == 0:
            break
    return done
