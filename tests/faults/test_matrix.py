"""Each fault, wherever it strikes: the source's bytes in one container, or an error from which one can go on.

The product is fault × place × kind of source × kind of range × number in flight × way of resuming. The default
run is a covering subset of it: every fault at every place, and every two of the other circumstances together.
The full product runs behind the marker `soak`.
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
    SEVERAL_BYTES,
    TROUBLES,
    Case,
    Fails,
    Finishes,
    Place,
    Trouble,
    every_case,
    paired_cases,
)

SourceOf = Callable[[int], Source]


PAIRED = paired_cases()


@pytest.mark.anyio
@pytest.mark.parametrize("cases", PAIRED.values(), ids=PAIRED)
async def test_paired(cases: list[Case], source_of: SourceOf) -> None:
    """Every fault at every place, the places at once."""
    await _check_all(cases, source_of)


@pytest.mark.anyio
async def test_progress_takes_back(source_of: SourceOf) -> None:
    """What a failed attempt had sent does not count as sent any more."""
    source = source_of(SEVERAL_BYTES)
    async with service("upload,part=first,times=1:cut,when=late", connection_rate=50_000_000) as emulator:
        run = await run_upload(emulator, source, concurrency=1)
    sent = [moment.sent_bytes for moment in run.progress]
    falls = [before for before, after in pairwise(sent) if after < before]
    assert len(falls) == 1
    assert 0 < falls[0] <= source.part_bytes


@pytest.mark.soak
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("trouble", "place"),
    [
        pytest.param(trouble, place, id=f"{trouble.name}, {place}")
        for trouble in TROUBLES
        for place in trouble.places
    ],
)
async def test_every(trouble: Trouble, place: Place, source_of: SourceOf) -> None:
    """Everything with everything."""
    for cases in batched(every_case(trouble, place), len(CONCURRENCY)):
        await _check_all(cases, source_of)


def test_the_pairs_are_covered() -> None:
    """Every two circumstances of the product are met together in the default run."""
    wanted, met = (
        {pair for case in cases for pair in combinations(_circumstances(case), 2)}
        for cases in (
            [case for one in TROUBLES for place in one.places for case in every_case(one, place)],
            [case for cases in PAIRED.values() for case in cases],
        )
    )
    assert wanted == met


def _circumstances(case: Case) -> list[tuple[str, object]]:
    return [(name, getattr(case, name)) for name in ("place", "kind", "ranges", "concurrency", "resume")]


def batched(cases: Iterable[Case], size: int) -> Iterator[list[Case]]:
    """So many at a time."""
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
        exc.add_note(f"This was: {case}")
        raise


async def _check_one(case: Case, source: Source) -> None:
    async with service(*case.specs) as emulator:
        run = await _run(emulator, case, source)
        ends = case.trouble.ends
        if isinstance(ends, Fails) and ends.finishes_with_resume and case.resume != "no":
            ends = Finishes()
        if isinstance(ends, Finishes):
            await _check_finished(emulator, case, ends, source, run)
        else:
            await _check_failed(emulator, case, ends, source, run)
    # Only now: a request that stalls is written down when the service gives it up.
    assert any(record.faults for record in emulator.requests), "no fault has struck"
    if isinstance(case.trouble.ends, Finishes):
        struck = source.content_range(case.part_number, case.ranges)
        tries = [record for record in uploads(emulator) if record.content_range == struck]
        assert case.trouble.ends.tries in (None, len(tries)), tries


async def _run(emulator: Emulator, case: Case, source: Source) -> Run:
    return await run_upload(
        emulator,
        source,
        as_stream=case.kind == "stream",
        ranges=case.ranges,
        concurrency=case.concurrency,
        resume={"no": "off", "local": "local", "anywhere": "anywhere"}[case.resume],
        stall_timeout=case.trouble.stall_timeout,
        max_attempts=case.trouble.max_attempts,
    )


async def _check_finished(emulator: Emulator, case: Case, ends: Finishes, source: Source, run: Run) -> None:
    assert run.error is None, run.error
    assert run.video is not None
    orphans = ends.orphans if case.resume == "no" else 0
    await check_finished(emulator, source, run.video.video_id, others=orphans)
    assert run.video.metadata == ()
    assert emulator.statistics().logins == ends.logins


async def _check_failed(emulator: Emulator, case: Case, ends: Fails, source: Source, run: Run) -> None:
    assert run.video is None
    assert run.error is not None
    check_sentence(str(run.error))
    check_no_resent_bytes(emulator)
    if ends.container == "never made":
        _check_cause(run.error, ends)
        assert len(emulator.videos) <= ends.orphans
        return
    assert isinstance(run.error, UploadFailed)
    assert run.error.__cause__ is not None
    _check_cause(run.error.__cause__, ends)
    _check_told(run.error, case, ends, source, run)
    if case.resume != "no" and ends.goes_on:
        await _check_going_on(emulator, case, ends, source, run.error)
        return
    assert not run.error.resumable
    expected = set() if ends.container == "deleted" else {run.error.video_id}
    assert set(emulator.videos) == expected


def _check_cause(error: BaseException, ends: Fails) -> None:
    assert isinstance(error, ends.cause), error
    assert getattr(error, "status", None) == ends.status
    assert isinstance(error, UploaderError)


def _check_told(error: UploadFailed, case: Case, ends: Fails, source: Source, run: Run) -> None:
    """The error says what had arrived, where, and what became of it."""
    assert (error.part_number is None) == (ends.names == "none")
    assert error.part_number == case.part_number or ends.names != "it"
    assert error.total_bytes == source.size_bytes
    assert error.parts_total == source.parts_total
    assert error.acknowledged_bytes == run.progress[-1].acknowledged_bytes
    assert error.parts_done == run.progress[-1].parts_done
    assert str(error.video_id) in str(error)
    assert f"{error.parts_done} of {error.parts_total} parts" in str(error)
    assert error.advice in str(error)
    assert error.advice


async def _check_going_on(
    emulator: Emulator, case: Case, ends: Fails, source: Source, error: UploadFailed
) -> None:
    """The same upload again, with the trouble over, sends what is missing and no more."""
    assert error.resumable
    assert error.advice == "Upload it again to resume."
    (view,) = emulator.videos.values()
    assert view.video_id == error.video_id
    if ends.tells_truth:
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
