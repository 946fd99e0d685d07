"""Random scenarios end with one finished video, or with an error after which only the missing bytes are sent."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import scenarios
from harness.scenarios import Counts, Scenario, run_scenario
from harness.world import Source, isolated

SourceOf = Callable[[int], Source]

FAULTS = st.one_of(
    st.builds(
        scenarios.part_fault,
        st.sampled_from(scenarios.PART_SELECTORS),
        st.sampled_from(scenarios.PART_ACTIONS),
        st.integers(1, 3),
    ),
    st.builds(
        scenarios.other_fault,
        st.sampled_from(scenarios.OTHER_ENDPOINTS),
        st.sampled_from(scenarios.OTHER_ACTIONS),
        st.integers(1, 2),
    ),
)
SCENARIOS = st.builds(
    Scenario,
    size_bytes=st.sampled_from(scenarios.SIZES),
    part_bytes=st.sampled_from(scenarios.PART_SIZES),
    ranges=st.sampled_from(["part", "bytes"]),
    concurrency=st.sampled_from(scenarios.CONCURRENCY),
    resume=st.sampled_from(scenarios.RESUME),
    faults=st.lists(FAULTS, max_size=4).map(tuple),
    cancels=st.lists(st.none() | st.floats(0, 1), max_size=3).map(tuple),
)
_SETTINGS = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@settings(_SETTINGS, max_examples=10)
@given(scenario=SCENARIOS)
def test_random_scenarios(scenario: Scenario, source_of: SourceOf) -> None:
    """A few scenarios, the same ones in every run."""
    _check(scenario, source_of)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@settings(_SETTINGS, max_examples=1000, derandomize=False)
@given(scenario=SCENARIOS)
def test_many_random_scenarios(scenario: Scenario, source_of: SourceOf) -> None:
    """Other scenarios in every run."""
    _check(scenario, source_of)


def _check(scenario: Scenario, source_of: SourceOf) -> None:
    with tempfile.TemporaryDirectory() as state, isolated(Path(state)):
        counts = asyncio.run(run_scenario(scenario, source_of))
    assert counts.is_good, counts
    assert isinstance(counts, Counts)
