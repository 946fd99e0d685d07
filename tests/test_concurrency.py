"""The concurrency controller: over simulated links, and each of its cases by name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from async_uploader._flow.concurrency import ConcurrencyController, State
from async_uploader._flow.concurrency_policy import ConcurrencyPolicy
from async_uploader._limits import GIB, MIB
from async_uploader._plan import plan_parts
from harness.networks import NETWORKS, Network, max_justified, planned_part_bytes, simulate

SIZE = 2048 * MIB
PART = plan_parts(SIZE).part_bytes


@pytest.mark.parametrize("name", NETWORKS)
def test_adaptive_concurrency_is_near_the_best_fixed_number(name: str) -> None:
    network = NETWORKS[name]
    size_bytes = min(SIZE, int(100 * network.link_rate))  # a longer upload shows nothing new
    best = min(
        simulate(
            network, size_bytes=size_bytes, part_bytes=planned_part_bytes(network, size_bytes), connections=count
        ).seconds
        for count in (2, 4, 8, 16, 32)
    )
    run = simulate(network, size_bytes=size_bytes)
    growing_seconds = 0.15 + 24 * network.rtt_seconds
    noticing_seconds = 5 if network.changes_at_seconds < run.seconds else 0
    lost_seconds = 5 if network.lifetime_seconds < run.seconds * 5 else 0  # depends on which parts are lost
    assert run.seconds <= best * 1.1 + growing_seconds + noticing_seconds + lost_seconds


@pytest.mark.parametrize("limit", [40, 100, 1000])
@pytest.mark.parametrize("size_bytes", [20 * MIB, 4 * GIB, 30 * GIB])
def test_no_upload_exceeds_the_rate_limit(limit: int, size_bytes: int) -> None:
    network = replace(NETWORKS["100 uploads per minute"], uploads_per_minute=limit)
    run = simulate(network, size_bytes=size_bytes)
    assert run.refused == 0
    assert run.seconds <= network.bound_seconds(size_bytes, run.parts) * 1.1 + 20


@pytest.mark.parametrize("lifetime_seconds", [15.0, 30.0])
def test_lost_connections_are_mostly_replaced(lifetime_seconds: float) -> None:
    network = replace(NETWORKS["connections that last 30 s"], lifetime_seconds=lifetime_seconds)
    assert simulate(network, size_bytes=SIZE).final_connections >= 16


def test_steady_link_that_gets_faster_grows_again() -> None:
    network = NETWORKS["link that gets faster"]
    run = simulate(network, size_bytes=4 * SIZE)
    assert run.peak_connections == 32
    assert run.seconds <= network.bound_seconds(4 * SIZE, run.parts) + 6


@pytest.mark.parametrize("link_rate", [2 * MIB, 20 * MIB, 50 * MIB])
def test_shared_link_gets_few_connections(link_rate: float) -> None:
    run = simulate(Network(connection_rate=25 * MIB, link_rate=link_rate), size_bytes=SIZE, part_bytes=PART)
    assert run.peak_connections <= 6
    assert run.final_connections <= 5


def test_independent_connections_are_all_used() -> None:
    assert simulate(Network(connection_rate=5 * MIB), size_bytes=SIZE, part_bytes=PART).final_connections == 32


def test_single_failures_are_forgiven() -> None:
    controller = ConcurrencyController(ConcurrencyPolicy())
    controller.connections = 16
    for minute in range(10):
        controller.connection_failed(60.0 * minute)
    assert (controller.connections, controller.is_growing) == (16, True)


def test_repeated_failures_reduce_and_lead_to_steady() -> None:
    controller = ConcurrencyController(ConcurrencyPolicy())
    controller.connections = 8
    controller.connection_failed(1.0)
    controller.connection_failed(1.5)
    assert (controller.connections, controller.is_growing) == (7, False)


def test_simultaneous_failures_cost_a_quarter_per_second() -> None:
    """Until one connection remains."""
    controller = ConcurrencyController(ConcurrencyPolicy())
    controller.connections = 16
    for second, expected in enumerate((12, 9, 7, 6, 5, 4, 3, 2, 1, 1)):
        for _ in range(16):
            controller.connection_failed(float(second))
        assert controller.connections == expected


def test_baseline_waits_until_all_connections_are_in_use() -> None:
    controller = ConcurrencyController(ConcurrencyPolicy())
    for tick in range(100):
        assert controller.step(tick / 100, moved_bytes=tick * MIB, busy=1) == 2


def test_policy_limits_the_connections() -> None:
    controller = ConcurrencyController(ConcurrencyPolicy(most=3))
    moved = 0.0
    for tick in range(1000):
        moved += controller.connections * MIB
        assert controller.step(tick / 100, moved_bytes=moved, busy=controller.connections) <= 3


def _after(*rates: tuple[int, list[float]], parts_left: int = 1000) -> ConcurrencyController:
    """A controller after samples of one second each: numbers of connections with the rates measured there."""
    controller = ConcurrencyController(
        ConcurrencyPolicy(settle_seconds=0.0, measure_seconds=1.0, probe_seconds=1.0)
    )
    now, moved_bytes = 0.0, 0.0
    for connections, seen in rates:
        assert controller.connections == connections
        for _ in range(2):  # the first step notices the number in use, the second starts the sample
            controller.step(now, moved_bytes=moved_bytes, busy=connections, parts_left=parts_left)
        for rate in seen:
            now, moved_bytes = now + 1, moved_bytes + rate * 10 * MIB
            controller.step(now, moved_bytes=moved_bytes, busy=connections, parts_left=parts_left)
    return controller


def test_growing_2a_slow_first_samples_of_many_connections_are_tolerated() -> None:
    """Many connections that open at once are slow for a moment."""
    controller = _after((2, [2]), (6, [6]), (32, [8, 8, 30, 32, 32]))
    assert (controller.connections, controller.is_growing) == (32, True)


@pytest.mark.parametrize(
    ("parts_left", "expected"), [(1000, 20), (64, 22), (41, 21), (40, 20), (31, 31), (19, 20)]
)
def test_growing_2d_settles_without_a_short_last_round(parts_left: int, expected: int) -> None:
    """A few of the open connections more can save a whole round."""
    controller = _after((2, [2]), (6, [6]), (32, [16] * 8), parts_left=parts_left)
    assert (controller.connections, controller.is_growing) == (expected, False)


def test_growing_2b_lasting_gain_beyond_proportion_leads_to_a_small_step() -> None:
    """The earlier throughput was low for another reason, such as a busy machine."""
    controller = _after((2, [1]), (6, [6, 6, 6]))
    assert (controller.connections, controller.is_growing) == (12, True)


def test_growing_2b_gain_beyond_proportion_may_be_filling_buffers() -> None:
    controller = _after((2, [2]), (6, [8, 6]))
    assert (controller.connections, controller.is_growing) == (32, True)


def test_growing_2d_short_gain_settles_at_a_small_number() -> None:
    """Buffers on the path make new connections look fast for a moment."""
    controller = _after((2, [2]), (6, [4.5, 4, 2, 2, 2, 2, 2, 2]))
    assert (controller.connections, controller.is_growing) == (3, False)


# Settled at 8 connections, with three samples of the steady state.
_SETTLED = ((2, [2.0]), (6, [6.0]), (32, [6.4] * 8), (8, [6.4] * 3))


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        pytest.param([], (10, False), id="3c: a few more are probed"),
        pytest.param([(10, [7.0] * 3)], (8, False), id="4: they bring little, so they are given up"),
        pytest.param([(10, [7.9])], (20, True), id="4: they bring their share, so growth continues at once"),
        pytest.param(
            [(10, [7.6] * 3)], (20, True), id="4: they bring much of their share, so growth continues later"
        ),
        pytest.param([(10, [6.4] * 3), (8, [9])], (10, False), id="3a: a faster link is probed at once"),
        pytest.param([(10, [6.4] * 3), (8, [2] * 2)], (8, False), id="3b: two slow samples may be noise"),
        pytest.param(
            [(10, [6.4] * 3), (8, [2] * 3)], (4, False), id="3b: a slower link gets fewer connections as a probe"
        ),
        pytest.param([(10, [6.4] * 3), (8, [2] * 3), (4, [1.9] * 3)], (4, False), id="5: fewer suffice"),
        pytest.param([(10, [6.4] * 3), (8, [2] * 3), (4, [1] * 3)], (8, False), id="5: fewer do not suffice"),
    ],
)
def test_steady_and_probing(then: list[tuple[int, list[float]]], expected: tuple[int, bool]) -> None:
    controller = _after(*_SETTLED, *then)
    assert (controller.connections, controller.is_growing) == expected


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        pytest.param([], State.BASELINE, id="1: nothing was measured"),
        pytest.param([(2, [2.0])], State.GROWING, id="2: the baseline is known"),
        pytest.param(_SETTLED[:-1], State.STEADY, id="3: growth has ended"),
        pytest.param(_SETTLED, State.PROBING_MORE, id="4: no change, so more are probed"),
        pytest.param(
            [*_SETTLED, (10, [6.4] * 3), (8, [2.0] * 3)], State.PROBING_FEWER, id="5: slower, so fewer are probed"
        ),
    ],
)
def test_states(rates: list[tuple[int, list[float]]], expected: State) -> None:
    assert _after(*rates).state is expected


@pytest.mark.parametrize(
    ("failures", "seconds", "expected"),
    [
        pytest.param(0, 30, (8, False), id="an established number is used again"),
        pytest.param(0, 90, (2, True), id="but not after a minute"),
        pytest.param(2, 30, (2, True), id="nor if it is a consequence of failures"),
    ],
)
def test_next_upload_begins_with_the_established_number(
    failures: int, seconds: float, expected: tuple[int, bool]
) -> None:
    controller = _after(*_SETTLED[:-1])
    for _ in range(failures):
        controller.connection_failed(20.0)
    controller.begin(20.0 + seconds)
    assert (controller.connections, controller.is_growing) == expected


def test_growing_uses_no_more_than_can_be_used_now() -> None:
    """Connections that are not used cannot be measured."""
    controller = ConcurrencyController(ConcurrencyPolicy(settle_seconds=0.0, measure_seconds=1.0))
    for second in range(5):
        controller.step(second, moved_bytes=second * controller.connections, busy=controller.connections, most=5)
    assert controller.connections == 5


def test_probing_5_waits_until_the_extra_parts_have_ended() -> None:
    controller = _after(*_SETTLED, (10, [6.4] * 3), (8, [2.0] * 3))
    for second in range(100, 120):
        assert controller.step(second, moved_bytes=second * 2.0, busy=8) == 4


def test_baseline_1_opens_the_next_connections_early_on_a_distant_link() -> None:
    """The first connections are measured in the meantime."""
    run = simulate(NETWORKS["distant server, real round trips"], size_bytes=512 * MIB)
    saved_seconds = 5 * 0.08  # in round trips
    assert run.seconds <= 0.64 + 0.2 + (12 + 10 + 9) * 0.08 - saved_seconds


@pytest.mark.parametrize("connection_rate", [1 * MIB, 25 * MIB])
@pytest.mark.parametrize("link_rate", [2 * MIB, 8 * MIB, 50 * MIB])
@pytest.mark.parametrize("condition", ["background", "loaded"])
def test_noise_of_a_busy_machine_opens_no_more_connections(
    condition: str, link_rate: int, connection_rate: int
) -> None:
    """With recorded noise. If 8 connections fill the link, the next step is only half more: hard to judge."""
    network = Network(
        connection_rate=connection_rate, link_rate=link_rate, noise=(condition, f"{link_rate // MIB} MiB/s")
    )
    runs = [simulate(network, size_bytes=SIZE, part_bytes=PART, seed=seed, max_seconds=3) for seed in range(20)]
    exceeded = sum(run.peak_connections > max_justified(network) for run in runs)
    assert exceeded <= (5 if link_rate == 8 * connection_rate else 1)


@pytest.mark.parametrize("condition", ["background", "loaded"])
def test_noise_of_a_busy_machine_does_not_prevent_growth(condition: str) -> None:
    network = Network(connection_rate=MIB, noise=(condition, "50 MiB/s"))
    runs = [simulate(network, size_bytes=SIZE, part_bytes=PART, seed=seed, max_seconds=12) for seed in range(8)]
    assert sum(run.peak_connections >= 24 for run in runs) >= 6


@pytest.mark.parametrize(
    ("network", "answer"),
    [
        ("distant server, 25 MiB/s per connection", True),
        ("distant server, real round trips", True),
        ("slow connections", True),
        ("shared link of 50 MiB/s", False),
        ("shared link, real round trips", False),
        ("home uplink of 2 MiB/s", False),
        ("one fast connection", False),
        ("link that slows down", False),
    ],
)
def test_whether_more_connections_are_worthwhile(network: str, answer: bool) -> None:
    """Each connection has its own limit, or all share one."""
    size_bytes = 8 * GIB if NETWORKS[network].link_rate > 100 * MIB else 512 * MIB
    run = simulate(NETWORKS[network], size_bytes=size_bytes, max_seconds=9.0)
    assert run.are_more_worthwhile is answer


def test_whether_more_connections_are_worthwhile_is_unknown_without_a_comparison() -> None:
    controller = ConcurrencyController(ConcurrencyPolicy(settle_seconds=0.0, measure_seconds=1.0))
    for second in range(100):
        assert controller.are_more_worthwhile is None
        controller.step(second, moved_bytes=second * 2.0, busy=2, most=2)
