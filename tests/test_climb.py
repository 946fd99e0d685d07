"""How many connections a line is worth, on models of lines (see benchmarks/lines.py)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from async_uploader._climb import Climb, ClimbPolicy
from async_uploader._limits import GIB, MIB
from async_uploader._plan import plan_parts
from benchmarks.lines import LINES, Line, planned_bytes, simulate

SIZE = 2048 * MIB
PART = plan_parts(SIZE).part_bytes


@pytest.mark.parametrize("name", LINES)
def test_a_climb_comes_near_the_best_fixed_number(name: str) -> None:
    line = LINES[name]
    size_bytes = min(SIZE, int(100 * line.link_rate))  # what takes longer, tells no more
    best = min(
        simulate(
            line, size_bytes=size_bytes, part_bytes=planned_bytes(line, size_bytes), connections=count
        ).seconds
        for count in (2, 4, 8, 16, 32)
    )
    run = simulate(line, size_bytes=size_bytes)
    finding_seconds = 0.15 + 24 * line.rtt_seconds
    noticing_seconds = 5 if line.changes_at_seconds < run.seconds else 0
    luck_seconds = 5 if line.life_seconds < run.seconds * 5 else 0  # which parts are lost
    assert run.seconds <= best * 1.1 + finding_seconds + noticing_seconds + luck_seconds


@pytest.mark.parametrize("limit", [40, 100, 1000])
@pytest.mark.parametrize("size_bytes", [20 * MIB, 4 * GIB, 30 * GIB])
def test_no_upload_goes_over_the_limit(limit: int, size_bytes: int) -> None:
    line = replace(LINES["100 uploads a minute"], uploads_a_minute=limit)
    run = simulate(line, size_bytes=size_bytes)
    assert run.refused == 0
    assert run.seconds <= line.bound_seconds(size_bytes, run.parts) * 1.1 + 20


@pytest.mark.parametrize("life_seconds", [15.0, 30.0])
def test_a_line_that_loses_connections_keeps_most_of_them(life_seconds: float) -> None:
    line = replace(LINES["connections that last 30 s"], life_seconds=life_seconds)
    assert simulate(line, size_bytes=SIZE).settled >= 16


def test_what_becomes_faster_is_climbed_again() -> None:
    line = LINES["link that gets faster"]
    run = simulate(line, size_bytes=4 * SIZE)
    assert run.peak == 32
    assert run.seconds <= line.bound_seconds(4 * SIZE, run.parts) + 6


@pytest.mark.parametrize("link_rate", [2 * MIB, 20 * MIB, 50 * MIB])
def test_a_shared_link_is_not_crowded(link_rate: float) -> None:
    run = simulate(Line(connection_rate=25 * MIB, link_rate=link_rate), size_bytes=SIZE, part_bytes=PART)
    assert run.peak <= 6
    assert run.settled <= 5


def test_connections_that_each_bring_their_own_are_all_used() -> None:
    assert simulate(Line(connection_rate=5 * MIB), size_bytes=SIZE, part_bytes=PART).settled == 32


def test_one_failure_is_forgiven() -> None:
    climb = Climb(ClimbPolicy())
    climb.connections = 16
    for minute in range(10):
        climb.failed(60.0 * minute)
    assert (climb.connections, climb.is_climbing) == (16, True)


def test_failures_give_way_and_end_the_climb() -> None:
    climb = Climb(ClimbPolicy())
    climb.connections = 8
    climb.failed(1.0)
    climb.failed(1.5)
    assert (climb.connections, climb.is_climbing) == (7, False)


def test_all_connections_failing_at_once_cost_a_quarter() -> None:
    """A second, that is: until one is left."""
    climb = Climb(ClimbPolicy())
    climb.connections = 16
    for second, expected in enumerate((12, 9, 7, 6, 5, 4, 3, 2, 1, 1)):
        for _ in range(16):
            climb.failed(float(second))
        assert climb.connections == expected


def test_nothing_is_judged_while_not_all_connections_are_used() -> None:
    climb = Climb(ClimbPolicy())
    for tick in range(100):
        assert climb.step(tick / 100, moved_bytes=tick * MIB, busy=1) == 2


def test_never_more_than_allowed() -> None:
    climb = Climb(ClimbPolicy(most=3))
    moved = 0.0
    for tick in range(1000):
        moved += climb.connections * MIB
        assert climb.step(tick / 100, moved_bytes=moved, busy=climb.connections) <= 3


def _tried(*rates: tuple[int, list[float]], parts_left: int = 1000) -> Climb:
    """A climb that has seen these rates at these numbers of connections, one after the other, a second each."""
    climb = Climb(ClimbPolicy(settle_seconds=0.0, measure_seconds=1.0, probe_seconds=1.0))
    now, moved_bytes = 0.0, 0.0
    for connections, seen in rates:
        assert climb.connections == connections
        for _ in range(2):  # when they are all in use, and then
            climb.step(now, moved_bytes=moved_bytes, busy=connections, parts_left=parts_left)
        for rate in seen:
            now, moved_bytes = now + 1, moved_bytes + rate
            climb.step(now, moved_bytes=moved_bytes, busy=connections, parts_left=parts_left)
    return climb


def test_opening_many_connections_may_take_a_moment() -> None:
    """What they do at first is not held against them."""
    climb = _tried((2, [2]), (6, [6]), (32, [8, 8, 30, 32, 32]))
    assert (climb.connections, climb.is_climbing) == (32, True)


@pytest.mark.parametrize(
    ("parts_left", "expected"), [(1000, 20), (64, 22), (41, 21), (40, 20), (31, 31), (19, 20)]
)
def test_no_last_round_for_a_few_parts(parts_left: int, expected: int) -> None:
    """Not if a few of the connections that are open anyway save it."""
    climb = _tried((2, [2]), (6, [6]), (32, [16] * 8), parts_left=parts_left)
    assert (climb.connections, climb.is_climbing) == (expected, False)


def test_a_gain_beyond_all_proportion_is_no_reason_for_a_large_step() -> None:
    """The rate before was low for another reason: a busy machine, say."""
    climb = _tried((2, [1]), (6, [6, 6, 6]))
    assert (climb.connections, climb.is_climbing) == (12, True)


def test_a_gain_beyond_all_proportion_may_be_buffers_that_fill() -> None:
    climb = _tried((2, [2]), (6, [8, 6]))
    assert (climb.connections, climb.is_climbing) == (32, True)


def test_a_gain_that_soon_goes_is_not_followed() -> None:
    """Buffers on the way make new connections look fast for a moment."""
    climb = _tried((2, [2]), (6, [4.5, 4, 2, 2, 2, 2, 2, 2]))
    assert (climb.connections, climb.is_climbing) == (3, False)


# Over at 8 connections, of which three windows have been measured.
_OVER = ((2, [2.0]), (6, [6.0]), (32, [6.4] * 8), (8, [6.4] * 3))


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        pytest.param([], (10, False), id="a few more are tried"),
        pytest.param([(10, [7.0] * 3)], (8, False), id="and given back, if they bring little"),
        pytest.param([(10, [7.9])], (20, True), id="or climbed on from, at once if they bring their own"),
        pytest.param([(10, [7.6] * 3)], (20, True), id="and later, if they bring much of it"),
        pytest.param([(10, [6.4] * 3), (8, [9])], (10, False), id="what became faster is noticed at once"),
        pytest.param([(10, [6.4] * 3), (8, [2] * 2)], (8, False), id="slower, maybe"),
        pytest.param([(10, [6.4] * 3), (8, [2] * 3)], (4, False), id="slower: fewer are tried"),
        pytest.param([(10, [6.4] * 3), (8, [2] * 3), (4, [1.9] * 3)], (4, False), id="and do"),
        pytest.param([(10, [6.4] * 3), (8, [2] * 3), (4, [1] * 3)], (8, False), id="or do not"),
    ],
)
def test_the_line_is_watched(then: list[tuple[int, list[float]]], expected: tuple[int, bool]) -> None:
    climb = _tried(*_OVER, *then)
    assert (climb.connections, climb.is_climbing) == expected


@pytest.mark.parametrize(
    ("failures", "seconds", "expected"),
    [
        pytest.param(0, 30, (8, False), id="what was found holds for the next upload"),
        pytest.param(0, 90, (2, True), id="for a minute"),
        pytest.param(2, 30, (2, True), id="but not if failures have led to it"),
    ],
)
def test_the_next_upload_begins_with_what_was_found(
    failures: int, seconds: float, expected: tuple[int, bool]
) -> None:
    climb = _tried(*_OVER[:-1])
    for _ in range(failures):
        climb.failed(20.0)
    climb.begin(20.0 + seconds)
    assert (climb.connections, climb.is_climbing) == expected


def test_no_more_than_can_be_used_just_now() -> None:
    """So that they are used, and can be judged."""
    climb = Climb(ClimbPolicy(settle_seconds=0.0, measure_seconds=1.0))
    for second in range(5):
        climb.step(second, moved_bytes=second * climb.connections, busy=climb.connections, most=5)
    assert climb.connections == 5


def test_parts_that_still_have_to_end_are_no_measure_for_fewer() -> None:
    climb = _tried(*_OVER, (10, [6.4] * 3), (8, [2.0] * 3))
    for second in range(100, 120):
        assert climb.step(second, moved_bytes=second * 2.0, busy=8) == 4


def test_connections_that_take_long_to_find_their_speed_are_opened_ahead() -> None:
    """And the first ones are measured in the meantime."""
    run = simulate(LINES["far server, real round trips"], size_bytes=512 * MIB)
    ahead = 5 * 0.08  # round trips saved
    assert run.seconds <= 0.64 + 0.2 + (12 + 10 + 9) * 0.08 - ahead
