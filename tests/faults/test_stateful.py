"""Whatever happens: the source's bytes in one finished container, or an error, and then only what is missing."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import stories
from harness.stories import Story, Tally, tell
from harness.world import Source, quickened

SourceOf = Callable[[int], Source]

FAULTS = st.one_of(
    st.builds(
        stories.part_fault,
        st.sampled_from(stories.PART_SELECTORS),
        st.sampled_from(stories.PART_ACTIONS),
        st.integers(1, 3),
    ),
    st.builds(
        stories.other_fault,
        st.sampled_from(stories.OTHER_ENDPOINTS),
        st.sampled_from(stories.OTHER_ACTIONS),
        st.integers(1, 2),
    ),
)
STORIES = st.builds(
    Story,
    size_bytes=st.sampled_from(stories.SIZES),
    part_bytes=st.sampled_from(stories.PART_SIZES),
    ranges=st.sampled_from(["part", "bytes"]),
    concurrency=st.sampled_from(stories.CONCURRENCY),
    resume=st.sampled_from(stories.RESUME),
    faults=st.lists(FAULTS, max_size=4).map(tuple),
    cancels=st.lists(st.none() | st.floats(0, 1), max_size=3).map(tuple),
)
_ALL_THE_SAME = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@settings(_ALL_THE_SAME, max_examples=15)
@given(story=STORIES)
def test_stories(story: Story, source_of: SourceOf) -> None:
    """A few of them, always the same."""
    _check(story, source_of)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@settings(_ALL_THE_SAME, max_examples=1000, derandomize=False)
@given(story=STORIES)
def test_many_stories(story: Story, source_of: SourceOf) -> None:
    """Always others."""
    _check(story, source_of)


def _check(story: Story, source_of: SourceOf) -> None:
    with tempfile.TemporaryDirectory() as state, quickened(Path(state)):
        tally = asyncio.run(tell(story, source_of))
    assert tally.is_good, tally
    assert isinstance(tally, Tally)
