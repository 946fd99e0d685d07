"""How sources are cut."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from async_uploader import ConfigurationError
from async_uploader._limits import GIB, MAX_PART_BYTES, MAX_PARTS, MAX_VIDEO_BYTES, MIB, MIN_PART_BYTES
from async_uploader._plan import Allowance, fit_to_allowance, plan_parts


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


class Fitted(NamedTuple):
    """What an account may still upload, how many files share it, and how many parts there should be."""

    total_bytes: int
    left: int
    limit: int
    line_bytes_a_second: int | None
    files: int
    parts: int


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(Fitted(GIB, 100, 100, None, 1, 64), id="room for all"),
        pytest.param(Fitted(GIB, 40, 40, None, 1, 32), id="a small account: still a multiple of the connections"),
        pytest.param(Fitted(GIB, 36, 100, None, 1, 32), id="what the upload before has left"),
        pytest.param(Fitted(GIB, 3, 100, None, 1, 64), id="next to nothing left, and the line is not known"),
        pytest.param(Fitted(GIB, 3, 100, 100 * MIB, 1, 13), id="next to nothing left on a fast line"),
        pytest.param(Fitted(GIB, 3, 100, 5 * MIB, 1, 64), id="on a slow line there is time"),
        pytest.param(Fitted(50 * MIB, 100, 100, None, 16, 4), id="many files share connections"),
        pytest.param(Fitted(50 * MIB, 0, 100, 100 * MIB, 16, 1), id="and on a fast line are not cut at all"),
        pytest.param(Fitted(10 * GIB, 0, 100, 1000 * MIB, 16, 52), id="but no part is over 200 MiB"),
        pytest.param(Fitted(1, 0, 100, 1000 * MIB, 16, 1), id="one byte"),
    ],
)
def test_parts_fit_what_the_account_may_still_upload(case: Fitted) -> None:
    rate = case.line_bytes_a_second
    allowance = Allowance(remaining=case.left, limit=case.limit, window_bytes=rate and rate * 60)
    plan = fit_to_allowance(plan_parts(case.total_bytes), allowance, files=case.files)
    assert plan.parts_total == case.parts
    assert MIN_PART_BYTES <= plan.part_bytes <= MAX_PART_BYTES


def test_a_part_size_that_was_asked_for_stays() -> None:
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
def test_fitted_parts_are_never_smaller_nor_too_many(
    total_bytes: int, left: int, limit: int, window_bytes: float | None, files: int
) -> None:
    usual = plan_parts(total_bytes)
    plan = fit_to_allowance(usual, Allowance(remaining=left, limit=limit, window_bytes=window_bytes), files=files)
    assert usual.part_bytes <= plan.part_bytes <= MAX_PART_BYTES
    assert sum(part.size_bytes for part in plan.parts()) == total_bytes
