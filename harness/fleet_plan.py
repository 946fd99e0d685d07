"""Simulates how long a fleet takes for a catalogue, minute by minute, from measured costs of an item.

In each minute, a fleet finishes as many videos as the scarcest of these allows: its machines (their networks, and
uploads that wait), the account's limits of uploads, writes and reads, and the coordinator.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from async_uploader._limits import MAX_PART_BYTES, READS_A_MINUTE, UPLOADS_A_MINUTE, WRITES_A_MINUTE

# Requests of a new item with an idempotency key, counted by the emulator: find, create, settle and verify.
READS_AN_ITEM: Final = 5
WRITES_AN_ITEM: Final = 1
# `python -m benchmarks.fleet_soak cost`.
COORDINATOR_SECONDS_AN_ITEM: Final = 0.002
# Waits of an item in which it sends nothing: mostly for the listing, in `_resume.shared_containers`.
_OVERHEAD_SECONDS: Final = 1.5
# Bytes per second of a network with 1 Gbit/s, without the overhead of TCP and TLS.
GIGABIT: Final = 117_000_000
_UPLOADS_PER_MACHINE: Final = 8
_MINUTE: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A catalogue, a fleet and an account.

    :param limit_factor: the account's limits, in multiples of the standard ones
    :param link_rate: bytes per second of each machine
    """

    videos: int
    size_bytes: int
    machines: int
    limit_factor: int
    link_rate: float = GIGABIT

    @property
    def videos_a_minute(self) -> dict[str, float]:
        """Number of videos that each bound allows per minute."""
        parts = -(-self.size_bytes // MAX_PART_BYTES)
        item_seconds = _OVERHEAD_SECONDS + self.size_bytes / (self.link_rate / _UPLOADS_PER_MACHINE)
        return {
            "uploads": UPLOADS_A_MINUTE * self.limit_factor / parts,
            "writes": WRITES_A_MINUTE * self.limit_factor / WRITES_AN_ITEM,
            "reads": READS_A_MINUTE * self.limit_factor / READS_AN_ITEM,
            "machines": self.machines * _UPLOADS_PER_MACHINE * _MINUTE / item_seconds,
            "coordinator": _MINUTE / COORDINATOR_SECONDS_AN_ITEM,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The result of a simulation.

    :ivar bound: what limits the fleet
    """

    seconds: float
    bound: str
    machine_hours: float


def simulate(scenario: Scenario) -> Estimate:
    """Simulate a fleet until all videos are finished."""
    bounds = scenario.videos_a_minute
    bound = min(bounds, key=lambda name: bounds[name])
    remaining, seconds = float(scenario.videos), _OVERHEAD_SECONDS
    while remaining > 0:
        # The limits are per minute: requests that a minute does not use are lost.
        finished = min(remaining, bounds[bound])
        seconds += _MINUTE * finished / bounds[bound]
        remaining -= finished
    return Estimate(seconds=seconds, bound=bound, machine_hours=scenario.machines * seconds / 3600)


SCENARIOS: Final = tuple(
    Scenario(videos=videos, size_bytes=500_000_000, machines=machines, limit_factor=factor)
    for videos, machines, factor in (
        (1_000, 1, 1), (1_000, 3, 1), (1_000, 10, 1),
        (100_000, 1, 1), (100_000, 3, 1), (100_000, 30, 10),
        (10_000_000, 3, 1), (10_000_000, 30, 10), (10_000_000, 300, 100),
    )
)  # fmt: skip


def table(scenarios: tuple[Scenario, ...] = SCENARIOS) -> Iterator[str]:
    """The rows of the table in docs/fleet.md."""
    yield "| videos of 500 MB | machines | limits | time | machine hours | bound by |"
    yield "| ---: | ---: | ---: | ---: | ---: | --- |"
    for each in scenarios:
        estimate = simulate(each)
        yield (
            f"| {each.videos:,} | {each.machines} | × {each.limit_factor} | {_duration(estimate.seconds)} "
            f"| {estimate.machine_hours:,.0f} | {estimate.bound} |"
        )


def _duration(seconds: float) -> str:
    hours = seconds / 3600
    if hours < 2:
        return f"{seconds / 60:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:,.1f} days"
