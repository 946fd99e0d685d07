"""How sources are split into parts."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from async_uploader import ConfigurationError
from async_uploader._limits import GIB, MAX_PART_BYTES, MAX_PARTS, MAX_VIDEO_BYTES, MIB, MIN_PART_BYTES
from async_uploader._plan import Allowance, fit_to_allowance, plan_parts, plan_stream


@pytest.mark.parametrize(
    ("total_bytes", "part_bytes", "sizes"),
    [
        pytest.param(1, 5 * MIB, [1], id="one byte"),
        pytest.param(5 * MIB, 5 * MIB, [5 * MIB], id="exactly one part"),
        pytest.param(5 * MIB - 1, 5 * MIB, [5 * MIB - 1], id="just under one part"),
        pytest.param(10 * MIB, 5 * MIB, [5 * MIB] * 2, id="exact multiple ends with a full part"),
        pytest.param(10 * MIB + 1, 5 * MIB, [5 * MIB, 5 * MIB, 1], id="last part of one byte"),
        pytest.param(
            15 * MIB - 1, 5 * MIB, [5 * MIB, 5 * MIB, 5 * MIB - 1], id="last part just under the part size"
        ),
    ],
)
def test_part_sizes(total_bytes: int, part_bytes: int, sizes: list[int]) -> None:
    parts = list(plan_parts(total_bytes, part_bytes=part_bytes).parts())
    assert [part.size_bytes for part in parts] == sizes
    assert [part.last for part in parts] == [False] * (len(sizes) - 1) + [True]


def test_limit_of_10_000_parts() -> None:
    max_bytes = MIN_PART_BYTES * MAX_PARTS
    assert plan_parts(max_bytes, part_bytes=MIN_PART_BYTES).parts_total == MAX_PARTS
    with pytest.raises(
        ConfigurationError, match=r"more than 10,000 parts of 5 MiB; choose a part size of at least 6 MiB"
    ):
        plan_parts(max_bytes + 1, part_bytes=MIN_PART_BYTES)


@given(st.integers(1, MAX_VIDEO_BYTES), st.integers(1, 64))
def test_planned_parts_have_no_gaps_and_respect_limits(total_bytes: int, concurrency: int) -> None:
    plan = plan_parts(total_bytes, concurrency=concurrency)
    assert MIN_PART_BYTES <= plan.part_bytes <= MAX_PART_BYTES
    assert plan.parts_total is not None
    assert plan.parts_total <= MAX_PARTS
    end = 0
    for number, part in enumerate(plan.parts(), start=1):
        assert (part.number, part.offset) == (number, end)
        assert part.size_bytes == plan.part_bytes or part.last
        end = part.end
    assert end == total_bytes


@pytest.mark.parametrize("concurrency", [1, 3, 4, 8, 16])
def test_planned_parts_are_a_multiple_of_the_concurrency(concurrency: int) -> None:
    plan = plan_parts(3_000_000_001, concurrency=concurrency)
    assert plan.parts_total is not None
    assert plan.parts_total % concurrency == 0
    sizes = [part.size_bytes for part in plan.parts()]
    assert sizes[0] - sizes[-1] < plan.parts_total


class AllowanceCase(NamedTuple):
    """An allowance, the number of files that share it, and the expected number of parts."""

    total_bytes: int
    remaining: int
    limit: int
    bytes_per_second: int | None
    files: int
    parts: int


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(AllowanceCase(GIB, 100, 100, None, 1, 64), id="enough for the usual parts"),
        pytest.param(AllowanceCase(GIB, 40, 40, None, 1, 32), id="low limit: still a multiple of the concurrency"),
        pytest.param(AllowanceCase(GIB, 36, 100, None, 1, 32), id="window partly used by another upload"),
        pytest.param(AllowanceCase(GIB, 3, 100, None, 1, 64), id="window almost exhausted, throughput unknown"),
        pytest.param(AllowanceCase(GIB, 3, 100, 100 * MIB, 1, 13), id="window almost exhausted, fast network"),
        pytest.param(AllowanceCase(GIB, 3, 100, 5 * MIB, 1, 64), id="window almost exhausted, slow network"),
        pytest.param(AllowanceCase(50 * MIB, 100, 100, None, 16, 4), id="many files share the connections"),
        pytest.param(
            AllowanceCase(50 * MIB, 0, 100, 100 * MIB, 16, 1), id="many files on a fast network: one part each"
        ),
        pytest.param(AllowanceCase(10 * GIB, 0, 100, 1000 * MIB, 16, 52), id="no part over 200 MiB"),
        pytest.param(AllowanceCase(1, 0, 100, 1000 * MIB, 16, 1), id="one byte"),
    ],
)
def test_parts_fit_the_allowance(case: AllowanceCase) -> None:
    rate = case.bytes_per_second
    allowance = Allowance(remaining=case.remaining, limit=case.limit, window_bytes=rate and rate * 60)
    plan = fit_to_allowance(plan_parts(case.total_bytes), allowance, files=case.files)
    assert plan.parts_total == case.parts
    assert MIN_PART_BYTES <= plan.part_bytes <= MAX_PART_BYTES


def test_requested_part_size_is_kept() -> None:
    plan = plan_parts(GIB, part_bytes=5 * MIB)
    assert fit_to_allowance(plan, Allowance(remaining=0, limit=1, window_bytes=1e12), files=100) == plan


@example(GIB, 3, 100, 5e-324, 1)
@given(
    st.integers(1, MAX_VIDEO_BYTES),
    st.integers(0, 1000),
    st.integers(1, 1000),
    st.floats(0, 1e12) | st.none(),
    st.integers(1, 256),
)
def test_fitted_parts_are_never_smaller_than_planned(
    total_bytes: int, remaining: int, limit: int, window_bytes: float | None, files: int
) -> None:
    usual = plan_parts(total_bytes)
    plan = fit_to_allowance(
        usual, Allowance(remaining=remaining, limit=limit, window_bytes=window_bytes), files=files
    )
    assert usual.part_bytes <= plan.part_bytes <= MAX_PART_BYTES
    assert sum(part.size_bytes for part in plan.parts()) == total_bytes


def test_stream_parts_grow_and_the_biggest_video_fits() -> None:
    plan = plan_stream(buffer_bytes=64 * MIB)
    sizes = [plan.size_of(number) for number in range(1, 10_001)]
    assert sizes[:20] == [MIN_PART_BYTES] * 20
    assert sizes == sorted(sizes)
    assert max(sizes) == MAX_PART_BYTES
    assert sum(sizes) >= MAX_VIDEO_BYTES
    fast = Allowance(remaining=0, limit=100, window_bytes=60 * 40 * MIB)
    assert [plan.size_of(number, fast) for number in (1, 100, 200)] == [30 * MIB, 30 * MIB, 50 * MIB]
    slow = Allowance(remaining=0, limit=100, window_bytes=60 * MIB)
    assert [plan.size_of(number, slow) for number in (1, 100)] == [5 * MIB, 25 * MIB]
    live = plan_stream(buffer_bytes=64 * MIB, live=True)
    assert sum(live.size_of(number) for number in range(1, 10_001)) >= MAX_VIDEO_BYTES


@pytest.mark.parametrize(("buffer_bytes", "most"), [(0, 2), (25 * MIB, 3), (64 * MIB, 10), (1024 * MIB, 32)])
def test_the_parts_in_flight_of_a_stream_fit_into_the_memory_budget(buffer_bytes: int, most: int) -> None:
    assert plan_stream(buffer_bytes=buffer_bytes).concurrency == most
    assert plan_stream(buffer_bytes=buffer_bytes, concurrency=7).concurrency == 7
