"""How many connections a line is worth, on models of lines (see benchmarks/lines.py)."""

from __future__ import annotations

import pytest

from async_uploader._climb import Climb, ClimbPolicy
from async_uploader._limits import MIB
from async_uploader._plan import plan_parts
from benchmarks.lines import LINES, Line, simulate

SIZE = 2048 * MIB
PART = plan_parts(SIZE).part_bytes


@pytest.mark.parametrize("name", LINES)
def test_a_climb_comes_near_the_best_fixed_number(name: str) -> None:
    line = LINES[name]
    size_bytes = min(SIZE, int(100 * line.link_rate))  # what takes longer, tells no more
    part_bytes = plan_parts(size_bytes).part_bytes
    best = min(
        simulate(line, size_bytes=size_bytes, part_bytes=part_bytes, connections=count).seconds
        for count in (2, 4, 8, 16, 32)
    )
    run = simulate(line, size_bytes=size_bytes, part_bytes=part_bytes)
    ramp_seconds = 0.15 + 3 * 12 * line.rtt_seconds
    assert run.seconds <= best * 1.1 + ramp_seconds


@pytest.mark.parametrize("link_rate", [2 * MIB, 20 * MIB, 50 * MIB])
def test_a_shared_link_is_not_crowded(link_rate: float) -> None:
    run = simulate(Line(connection_rate=25 * MIB, link_rate=link_rate), size_bytes=SIZE, part_bytes=PART)
    assert run.peak <= 6
    assert run.settled <= 5


def test_connections_that_each_bring_their_own_are_all_used() -> None:
    assert simulate(Line(connection_rate=5 * MIB), size_bytes=SIZE, part_bytes=PART).settled == 32


def test_a_failure_gives_way_and_ends_the_climb() -> None:
    climb = Climb(ClimbPolicy(), now=0.0)
    climb.connections = 16
    climb.failed(1.0)
    assert (climb.connections, climb.is_climbing) == (12, False)
    for _ in range(20):
        climb.failed(1.0)
    assert climb.connections == 1


def test_nothing_is_judged_while_not_all_connections_are_used() -> None:
    climb = Climb(ClimbPolicy(), now=0.0)
    for tick in range(100):
        assert climb.step(tick / 100, moved_bytes=tick * MIB, busy=1) == 2


def test_never_more_than_allowed() -> None:
    climb = Climb(ClimbPolicy(most=3), now=0.0)
    moved = 0.0
    for tick in range(1000):
        moved += climb.connections * MIB
        assert climb.step(tick / 100, moved_bytes=moved, busy=climb.connections) <= 3


def _tried(*, rates: dict[int, list[float]], parts_left: int) -> Climb:
    """A climb that has seen these rates at these numbers of connections, one after the other."""
    climb = Climb(ClimbPolicy(settle_seconds=0.0, measure_seconds=1.0), now=0.0)
    now, moved_bytes = 0.0, 0.0
    for connections, seen in rates.items():
        assert climb.connections == connections
        climb.step(now, moved_bytes=moved_bytes, busy=connections, parts_left=parts_left)
        for rate in seen:
            now, moved_bytes = now + 1, moved_bytes + rate
            climb.step(now, moved_bytes=moved_bytes, busy=connections, parts_left=parts_left)
    return climb


def test_opening_many_connections_may_take_a_moment() -> None:
    """What they do at first is not held against them."""
    climb = _tried(rates={2: [2], 6: [6], 32: [8, 8, 30, 32, 32]}, parts_left=1000)
    assert (climb.connections, climb.is_climbing) == (32, True)


@pytest.mark.parametrize(
    ("parts_left", "expected"), [(1000, 20), (64, 22), (41, 21), (40, 20), (31, 31), (19, 20)]
)
def test_no_last_round_for_a_few_parts(parts_left: int, expected: int) -> None:
    """Not if a few of the connections that are open anyway save it."""
    climb = _tried(rates={2: [2], 6: [6], 32: [16] * 8}, parts_left=parts_left)
    assert (climb.connections, climb.is_climbing) == (expected, False)


def test_a_gain_that_soon_goes_is_not_followed() -> None:
    """Buffers on the way make new connections look fast for a moment."""
    climb = _tried(rates={2: [2], 6: [4.5, 2, 2, 2, 2, 2, 2, 2]}, parts_left=1000)
    assert (climb.connections, climb.is_climbing) == (3, False)
