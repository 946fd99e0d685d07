"""How sources are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_uploader import ConfigurationError
from async_uploader._limits import MAX_PART_BYTES, MAX_PARTS, MAX_VIDEO_BYTES, MIB, MIN_PART_BYTES
from async_uploader._plan import plan_parts


@pytest.mark.parametrize(
    ("total_bytes", "part_bytes", "sizes"),
    [
        pytest.param(1, 5 * MIB, [1], id="one byte"),
        pytest.param(5 * MIB, 5 * MIB, [5 * MIB], id="exactly one part"),
        pytest.param(5 * MIB - 1, 5 * MIB, [5 * MIB - 1], id="just under one part"),
        pytest.param(10 * MIB, 5 * MIB, [5 * MIB] * 2, id="an exact multiple closes with a full part"),
        pytest.param(10 * MIB + 1, 5 * MIB, [5 * MIB, 5 * MIB, 1], id="a last part of one byte"),
        pytest.param(15 * MIB - 1, 5 * MIB, [5 * MIB, 5 * MIB, 5 * MIB - 1], id="a last part just under"),
    ],
)
def test_sizes(total_bytes: int, part_bytes: int, sizes: list[int]) -> None:
    parts = list(plan_parts(total_bytes, part_bytes=part_bytes).parts())
    assert [part.size_bytes for part in parts] == sizes
    assert [part.last for part in parts] == [False] * (len(sizes) - 1) + [True]


def test_ten_thousand_parts_are_the_most() -> None:
    most = MIN_PART_BYTES * MAX_PARTS
    assert plan_parts(most, part_bytes=MIN_PART_BYTES).parts_total == MAX_PARTS
    with pytest.raises(
        ConfigurationError, match=r"more than 10,000 parts of 5 MiB; choose a part size of at least 6 MiB"
    ):
        plan_parts(most + 1, part_bytes=MIN_PART_BYTES)


@given(st.integers(1, MAX_VIDEO_BYTES), st.integers(1, 64))
def test_a_planned_source_is_cut_without_gaps_inside_the_service_s_bounds(
    total_bytes: int, concurrency: int
) -> None:
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
def test_planned_parts_end_together(concurrency: int) -> None:
    plan = plan_parts(3_000_000_001, concurrency=concurrency)
    assert plan.parts_total is not None
    assert plan.parts_total % concurrency == 0
    sizes = [part.size_bytes for part in plan.parts()]
    assert sizes[0] - sizes[-1] < plan.parts_total
