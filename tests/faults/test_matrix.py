"""Each fault at each place: one video with the source's bytes, or an error after which the upload can be resumed.

The product is fault × place × kind of source × kind of range × concurrency × resume mode. The default run is a
covering subset: every fault in a single part, in the last of several, and in the first or a middle one; and every
pair of other values. The full product has the marker `soak`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations, islice, pairwise

import pytest

from async_uploader import UploadFailed
from async_uploader._errors import UploaderError
from async_uploader.emulator import Emulator
from harness.world import (
    Run,
    Source,
    check_finished,
    check_no_resent_bytes,
    check_sentence,
    missing_bytes,
    run_upload,
    service,
    uploads,
)

from .matrix import (
    CONCURRENCY,
    SCENARIOS,
    SEVERAL_BYTES,
    Case,
    Failure,
    Place,
    Scenario,
    Success,
    all_cases,
    pairwise_cases,
)

SourceOf = Callable[[int], Source]


PAIRWISE = pairwise_cases()


@pytest.mark.anyio
@pytest.mark.parametrize("cases", PAIRWISE.values(), ids=PAIRWISE)
async def test_pairwise(cases: list[Case], source_of: SourceOf) -> None:
    """The covering subset. The places of a fault run concurrently."""
    await _check_all(cases, source_of)


@pytest.mark.anyio
async def test_progress_decreases_after_a_failed_attempt(source_of: SourceOf) -> None:
    """The bytes of a failed attempt no longer count as sent."""
    source = source_of(SEVERAL_BYTES)
    async with service("upload,part=first,times=1:cut,when=late", connection_rate=15_000_000) as emulator:
        run = await run_upload(emulator, source, concurrency=1)
    sent = [moment.sent_bytes for moment in run.progress]
    falls = [before for before, after in pairwise(sent) if after < before]
    assert len(falls) == 1
    assert 0 < falls[0] <= source.part_bytes


@pytest.mark.soak
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("scenario", "place"),
    [
        pytest.param(scenario, place, id=f"{scenario.name}, {place}")
        for scenario in SCENARIOS
        for place in scenario.places
    ],
)
async def test_all(scenario: Scenario, place: Place, source_of: SourceOf) -> None:
    """The full product."""
    for cases in batched(all_cases(scenario, place), len(CONCURRENCY)):
        await _check_all(cases, source_of)


def test_all_pairs_are_covered() -> None:
    """The default run contains every pair of values of the product."""
    required, covered = (
        {pair for case in cases for pair in combinations(_configuration(case), 2)}
        for cases in (
            [case for one in SCENARIOS for place in one.places for case in all_cases(one, place)],
            [case for cases in PAIRWISE.values() for case in cases],
        )
    )
    assert required == covered


def _configuration(case: Case) -> list[tuple[str, object]]:
    return [(name, getattr(case, name)) for name in ("place", "kind", "ranges", "concurrency", "resume")]


def batched(cases: Iterable[Case], size: int) -> Iterator[list[Case]]:
    """Split into batches."""
    rest = iter(cases)
    while batch := list(islice(rest, size)):
        yield batch


async def _check_all(cases: Iterable[Case], source_of: SourceOf) -> None:
    async with asyncio.TaskGroup() as group:
        for case in cases:
            group.create_task(_check(case, source_of(case.size_bytes)), name=str(case))


async def _check(case: Case, source: Source) -> None:
    try:
        await _check_one(case, source)
    except BaseException as exc:
        exc.add_note(f"Case: {case}")
        raise


async def _check_one(case: Case, source: Source) -> None:
    async with service(*case.specs) as emulator:
        run = await _run(emulator, case, source)
        expected = case.scenario.expected
        if isinstance(expected, Failure) and expected.succeeds_with_resume and case.resume != "no":
            expected = Success()
        if isinstance(expected, Success):
            await _check_finished(emulator, case, expected, source, run)
        else:
            await _check_failed(emulator, case, expected, source, run)
    # A stalled request is recorded only when the emulator gives it up.
    assert any(record.faults for record in emulator.requests), "no fault was triggered"
    if isinstance(case.scenario.expected, Success):
        affected = source.content_range(case.part_number, case.ranges)
        attempts = [record for record in uploads(emulator) if record.content_range == affected]
        assert case.scenario.expected.attempts in (None, len(attempts)), attempts


async def _run(emulator: Emulator, case: Case, source: Source) -> Run:
    return await run_upload(
        emulator,
        source,
        as_stream=case.kind == "stream",
        ranges=case.ranges,
        concurrency=case.concurrency,
        resume={"no": "off", "local": "local", "anywhere": "anywhere"}[case.resume],
        stall_timeout=case.scenario.stall_timeout,
        max_attempts=case.scenario.max_attempts,
    )


async def _check_finished(emulator: Emulator, case: Case, expected: Success, source: Source, run: Run) -> None:
    assert run.error is None, run.error
    assert run.video is not None
    orphans = expected.orphans if case.resume == "no" else 0
    await check_finished(emulator, source, run.video.video_id, others=orphans)
    assert run.video.metadata == ()
    assert emulator.statistics().logins == expected.logins


async def _check_failed(emulator: Emulator, case: Case, expected: Failure, source: Source, run: Run) -> None:
    assert run.video is None
    assert run.error is not None
    check_sentence(str(run.error))
    check_no_resent_bytes(emulator)
    if expected.container == "not created":
        _check_cause(run.error, expected)
        assert len(emulator.videos) <= expected.orphans
        return
    assert isinstance(run.error, UploadFailed)
    assert run.error.__cause__ is not None
    _check_cause(run.error.__cause__, expected)
    _check_report(run.error, case, expected, source, run)
    if case.resume != "no" and expected.resumable:
        await _check_resume(emulator, case, expected, source, run.error)
        return
    assert not run.error.resumable
    remaining = set() if expected.container == "deleted" else {run.error.video_id}
    assert set(emulator.videos) == remaining


def _check_cause(error: BaseException, expected: Failure) -> None:
    assert isinstance(error, expected.cause), error
    assert getattr(error, "status", None) == expected.status
    assert isinstance(error, UploaderError)


def _check_report(error: UploadFailed, case: Case, expected: Failure, source: Source, run: Run) -> None:
    """The error states correctly which parts are stored, and what happens to the container."""
    assert (error.part_number is None) == (expected.reported_part == "none")
    assert error.part_number == case.part_number or expected.reported_part != "affected"
    assert error.total_bytes == source.size_bytes
    assert error.parts_total == source.parts_total
    assert error.acknowledged_bytes == run.progress[-1].acknowledged_bytes
    assert error.parts_done == run.progress[-1].parts_done
    assert str(error.video_id) in str(error)
    assert f"{error.parts_done} of {error.parts_total} parts" in str(error)
    assert error.advice in str(error)
    assert error.advice


async def _check_resume(
    emulator: Emulator, case: Case, expected: Failure, source: Source, error: UploadFailed
) -> None:
    """Without faults, the same upload sends only what is missing."""
    assert error.resumable
    assert error.advice == "Upload it again to resume."
    (view,) = emulator.videos.values()
    assert view.video_id == error.video_id
    if expected.is_accurate:
        assert error.acknowledged_bytes <= view.received_bytes
    missing = missing_bytes(view, source, case.ranges)
    emulator.clear_faults()
    since = asyncio.get_running_loop().time()
    run = await _run(emulator, case, source)
    assert run.error is None, run.error
    assert run.video is not None
    assert run.video.video_id == error.video_id
    await check_finished(emulator, source, run.video.video_id)
    assert sum(record.body_bytes for record in uploads(emulator, since)) <= missing
    assert run.video.metadata == ()
