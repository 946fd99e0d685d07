"""The clock jumps by hours, days or years: during an upload, and between a run that is killed and the next one.

Nothing may come of that: the upload ends in its usual time, as one video, without a byte sent again. The journal
keeps two things for 7 days by the clock: a finished video that was not told yet, and a container that is about to
be created. So a jump of more than 7 days is not tried between a run that was killed then and the next one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, Final

from .bench import PART_BYTES, Bench, Case, is_quiet, missing_in, shuffled, upload_flags
from .child import Order, Strike
from .counts import Findings

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
_MOST_KEPT_SECONDS: Final = 7 * 24 * _HOUR
# The clock jumps at one of these calls, or the process is killed there and the next one's clock is wrong.
_PLACES: Final = (
    Strike(call="Journal.find", number=1, moment="before"),
    Strike(call="Service.create_video", number=1, moment="after"),
    Strike(call="Service.send_part", number=1, moment="during", delay_seconds=0.01),
    Strike(call="Journal.acknowledge", number=1, moment="after"),
    Strike(call="Service.get_status", number=1, moment="before"),
    Strike(call="output", number=1, moment="before"),
)
_SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "free": {},
    "limited": {"rate_limit": 2},
    "short tokens": {"token_ttl": 1.0},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A jump.

    :ivar is_between: between two runs, of which the first is killed at the place; else at the place
    """

    jump: str
    place: Strike
    is_between: bool
    settings: str

    @property
    def name(self) -> str:
        """In words."""
        when = "between runs, killed" if self.is_between else "jumps"
        return f"{self.jump} {when} {self.place}, {self.settings}"

    @property
    def is_forgotten(self) -> bool:
        """Whether what the journal knows is too old by the clock."""
        is_far = self.is_between and _JUMPS[self.jump] > _MOST_KEPT_SECONDS
        return is_far and self.place.call in ("Service.create_video", "Service.get_status", "output")


def cases(_bench: Bench, seed: int) -> Iterator[Case]:
    """All of them."""
    found = [
        Scenario(jump=jump, place=place, is_between=is_between, settings=settings)
        for jump, place, is_between, settings in product(_JUMPS, _PLACES, (False, True), _SETTINGS)
    ]
    yield from shuffled([_case(scenario) for scenario in found if not scenario.is_forgotten], seed)


def case(bench: Bench, name: str) -> Case:
    """One by its name."""
    return next(case for case in cases(bench, 0) if case.name == name)


def _case(scenario: Scenario) -> Case:
    return Case(name=scenario.name, run=partial(_run, scenario))


def _run(scenario: Scenario, bench: Bench, findings: Findings) -> None:
    source, seconds = bench.source(2 * PART_BYTES + 1), _JUMPS[scenario.jump]
    with bench.service(**_SETTINGS[scenario.settings]) as service, bench.workspace(findings) as workspace:
        command = ("upload", workspace.copy(source, "0.mp4").name, *upload_flags(service))
        place = scenario.place
        strike = replace(place, action="kill" if scenario.is_between else "clock", jump_seconds=seconds)
        done = workspace.run(*command, order=Order(strikes=(strike,)))
        service.wait_for(is_quiet)
        if done.code == -9:
            done = workspace.run(*command, order=Order(clock_seconds=seconds))
        findings.check(done.code == 0, f"the command does not succeed: {done.last_words}")
        findings.check(not missing_in(done, service, [source]), "the video is not on standard output")
        workspace.check_videos(service, [source])
        workspace.check_journal_empty()
