"""The comparison of a benchmark run with the committed results: data in, verdict out."""

from __future__ import annotations

import pytest

from harness.comparison import Ratio, Results, compare

RATIO = Ratio("tls", "ours", "seconds", "curl")


def results(ours: list[float], curl: list[float]) -> Results:
    return {
        "tls": {
            "ours": [{"seconds": seconds} for seconds in ours],
            "curl": [{"seconds": seconds} for seconds in curl],
        }
    }


@pytest.mark.parametrize(
    ("before", "after", "is_worse"),
    [
        pytest.param(([10, 10, 10], [10, 10, 10]), ([10, 10, 10], [10, 10, 10]), False, id="equal"),
        pytest.param(([10, 10, 10], [10, 10, 10]), ([20, 20, 20], [20, 20, 20]), False, id="slower machine"),
        pytest.param(([10, 10, 10], [10, 10, 10]), ([10, 30, 10], [10, 30, 10]), False, id="busy in one round"),
        pytest.param(([10, 10, 10], [10, 10, 10]), ([12, 12, 12], [10, 10, 10]), True, id="slower"),
        pytest.param(([10, 10, 10], [10, 10, 10]), ([8, 8, 8], [10, 10, 10]), False, id="faster"),
        pytest.param(([10, 10, 10], [10, 10, 10]), ([10.9, 10.9, 10.9], [10, 10, 10]), False, id="below 10 %"),
        pytest.param(([9, 10, 11], [10, 10, 10]), ([12, 13, 14], [10, 10, 10]), False, id="within the noise"),
        pytest.param(([9, 10, 11], [10, 10, 10]), ([14, 15, 16], [10, 10, 10]), True, id="beyond the noise"),
        pytest.param(([10, 10, 10], [10, 10, 10]), ([10, 12, 30], [10, 10, 10]), False, id="one slow round"),
        pytest.param(
            ([9, 10, 11], [10, 10, 10]), ([36, 40, 44], [10, 10, 10]), True, id="much slower, and noisier"
        ),
        pytest.param(([10], [10]), ([12], [10]), False, id="one round each, small change"),
        pytest.param(([10], [10]), ([17], [10]), True, id="one round each, large change"),
    ],
)
def test_verdict(
    before: tuple[list[float], list[float]], after: tuple[list[float], list[float]], is_worse: bool
) -> None:
    """Worse by more than 10 % and by more than the noise of both runs; the machine's speed does not matter."""
    (change,) = compare(results(*before), results(*after), [RATIO])
    assert change.is_worse is is_worse, str(change)


def test_only_what_both_runs_measured_is_compared() -> None:
    full = results([10], [10])
    for other in ({}, {"tls": {}}, {"tls": {"ours": [{"seconds": 1.0}]}}, results([], []), results([1], [])):
        assert compare(full, other, [RATIO]) == []
        assert compare(other, full, [RATIO]) == []
    assert compare(full, full, [RATIO._replace(figure="cpu_seconds")]) == []


def test_rounds_are_compared_in_pairs() -> None:
    """A round that is missing for one entry does not shift the others."""
    (change,) = compare(results([10, 20], [10, 20]), results([30, 10, 99], [30, 10]), [RATIO])
    assert (change.before, change.after, change.noise) == (1.0, 1.0, 0.0)
    assert str(change) == "tls: seconds of 'ours' / 'curl': 1.00 before, 1.00 now (+0%, noise 0%)"
