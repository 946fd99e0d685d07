"""Clock jumps by hours, days or years: during an upload, and between a killed run and the next one.

They must have no effect: the upload ends in its usual time, as one video, without sending a byte again. The
journal keeps two kinds of entries for only 7 days: finished videos that the caller has not received, and intents
to create a container. Therefore no case jumps by more than 7 days after a run that was killed with such an entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, Final

from .bench import Bench, Case, shuffled
from .child import Injection, Instructions
from .counts import Findings
from .workspace import PART_BYTES, is_quiet, missing_videos, upload_flags

NAME: Final = "clocks"

_HOUR: Final = 3600.0
_JUMPS: Final = {
    "1 h": _HOUR,
    "-1 h": -_HOUR,
    "3 days": 72 * _HOUR,
    "-3 days": -72 * _HOUR,
    "400 days": 9600 * _HOUR,
    "-50 years": -438_300 * _HOUR,
}
_RETENTION_SECONDS: Final = 7 * 24 * _HOUR
# The clock jumps at one of these calls, or the process is killed there and the next process has another time.
_INJECTION_POINTS: Final = (
    Injection(call="Journal.find", number=1, moment="before"),
    Injection(call="Service.create_video", number=1, moment="after"),
    Injection(call="Service.send_part", number=1, moment="during", delay_seconds=0.01),
    Injection(call="Journal.acknowledge", number=1, moment="after"),
    Injection(call="Service.get_status", number=1, moment="before"),
    Injection(call="output", number=1, moment="before"),
)
_SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "free": {},
    "limited": {"rate_limit": 2},
    "short tokens": {"token_ttl": 1.0},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A clock jump.

    :ivar injection_point: when the clock jumps, or when the first run is killed
    :ivar is_between: whether the clock jumps between the first run, which is killed, and the next one
    """

    jump: str
    injection_point: Injection
    is_between: bool
    settings: str

    @property
    def name(self) -> str:
        """The name."""
        when = "between runs, killed" if self.is_between else "jumps"
        return f"{self.jump} {when} {self.injection_point}, {self.settings}"

    @property
    def is_forgotten(self) -> bool:
        """Whether the journal's entry has expired after the jump."""
        is_far = self.is_between and _JUMPS[self.jump] > _RETENTION_SECONDS
        return is_far and self.injection_point.call in ("Service.create_video", "Service.get_status", "output")


def cases(_bench: Bench, seed: int) -> Iterator[Case]:
    """All cases."""
    found = [
        Scenario(jump=jump, injection_point=injection_point, is_between=is_between, settings=settings)
        for jump, injection_point, is_between, settings in product(
            _JUMPS, _INJECTION_POINTS, (False, True), _SETTINGS
        )
    ]
    yield from shuffled([_case(scenario) for scenario in found if not scenario.is_forgotten], seed)


def case(bench: Bench, name: str) -> Case:
    """The case with this name."""
    return next(case for case in cases(bench, 0) if case.name == name)


def _case(scenario: Scenario) -> Case:
    return Case(name=scenario.name, run=partial(_run, scenario))


def _run(scenario: Scenario, bench: Bench, findings: Findings) -> None:
    source, seconds = bench.source(2 * PART_BYTES + 1), _JUMPS[scenario.jump]
    with bench.service(**_SETTINGS[scenario.settings]) as service, bench.workspace(findings) as workspace:
        command = ("upload", workspace.copy(source, "0.mp4").name, *upload_flags(service))
        injection_point = scenario.injection_point
        injection = replace(
            injection_point, action="kill" if scenario.is_between else "clock", jump_seconds=seconds
        )
        result = workspace.run(*command, instructions=Instructions(injections=(injection,)))
        service.wait_for(is_quiet)
        if result.code == -9:
            result = workspace.run(*command, instructions=Instructions(clock_seconds=seconds))
        findings.check(result.code == 0, f"the command does not succeed: {result.summary}")
        findings.check(not missing_videos(result, service, [source]), "the video is not on standard output")
        workspace.check_videos(service, [source])
        workspace.check_journal_empty()
