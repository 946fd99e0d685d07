"""Random scenarios: several runs of one upload, with faults, cancellations and restarts, and the checks of their
result.

A scenario is data. It comes from hypothesis, or from a random generator with a seed; both run it in the same way.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from async_uploader import ResumeMode, UploadFailed
from async_uploader._errors import TransportError
from async_uploader._limits import MIB
from async_uploader.emulator import Emulator

from .world import PART, Run, Source, missing_bytes, run_upload, service, uploads

SIZES: Final = (
    1, 3 * MIB, PART - 1, PART, PART + 1, 2 * PART - 1, 2 * PART, 2 * PART + 1, 3 * PART, 3 * PART + MIB,
    4 * PART - 1, 4 * PART,
)  # fmt: skip
PART_SIZES: Final = (PART, PART + 1, 7 * MIB)
CONCURRENCY: Final = (1, 2, 4, 16)
RESUME: Final[tuple[ResumeMode, ...]] = ("off", "local", "anywhere")

# Faults of parts and of other requests. All of them are transient.
PART_ACTIONS: Final = (
    "cut,when=early", "cut,when=middle", "cut,when=late", "cut,when=stored", "status=500,when=late",
    "status=503,when=stored", "status=503", "status=502,body=html,when=middle", "status=401", "status=408",
    "status=429,retry-after=0", "stall=forever,when=middle", "stall=forever,when=stored", "stall=0.1,when=middle",
    "expire-tokens", "expire-tokens,revoke-tokens", "status=200,body=html,when=stored",
)  # fmt: skip
OTHER_ACTIONS: Final = (
    "cut", "cut,when=stored", "status=500", "status=503,when=stored", "status=502,body=html", "stall=0.1",
    "stall=forever", "status=429,retry-after=0",
)  # fmt: skip
PART_SELECTORS: Final = ("upload,part=first", "upload,part=last", "upload,part=2", "upload", "completing")
OTHER_ENDPOINTS: Final = ("auth", "refresh", "create", "status", "get")

_CANCEL_SECONDS: Final = 1.3
_STALL_SECONDS: Final = 0.5


# Statuses that say that a part was not stored. No client can handle a service that stores the part anyway.
_NOT_STORED: Final = ("status=401", "status=429")


def part_fault(selector: str, action: str, times: int) -> str:
    """The SPEC of a fault of parts."""
    if selector == "completing":  # the fault has to come after the last part is stored
        words = [word for word in action.split(",") if not word.startswith(("when=", "retry-after="))]
        action = ",".join("status=503" if word in _NOT_STORED else word for word in (*words, "when=stored"))
    return f"{selector},times={times}:{action}"


def other_fault(endpoint: str, action: str, times: int) -> str:
    """The SPEC of a fault of another endpoint."""
    return f"{endpoint},times={times}:{action}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """The options of an upload, and what happens to it.

    :ivar cancels: one run each before the last one: the share of the source's bytes after which the upload is
        cancelled; None: the upload is not cancelled
    """

    size_bytes: int
    part_bytes: int
    ranges: Literal["part", "bytes"]
    concurrency: int
    resume: ResumeMode
    faults: tuple[str, ...]
    cancels: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What is counted."""

    cases: int = 0
    bytes_sent_again: int = 0
    orphans: int = 0
    hung: int = 0
    errors: int = 0
    cancelled: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in self.__slots__})

    @property
    def is_good(self) -> bool:
        """Whether everything that must be 0 is 0."""
        return not (self.bytes_sent_again or self.orphans or self.hung)


def random_scenario(rng: random.Random) -> Scenario:
    """Generate a scenario."""
    faults = [
        part_fault(rng.choice(PART_SELECTORS), rng.choice(PART_ACTIONS), rng.randint(1, 3))
        for _ in range(rng.randint(0, 3))
    ] + [
        other_fault(rng.choice(OTHER_ENDPOINTS), rng.choice(OTHER_ACTIONS), rng.randint(1, 2))
        for _ in range(rng.randint(0, 2))
    ]
    return Scenario(
        size_bytes=rng.choice(SIZES),
        part_bytes=rng.choice(PART_SIZES),
        ranges=rng.choice(("part", "bytes")),
        concurrency=rng.choice(CONCURRENCY),
        resume=rng.choice(RESUME),
        faults=tuple(faults),
        cancels=tuple(rng.choice((None, rng.random())) for _ in range(rng.randint(0, 3))),
    )


async def run_scenario(scenario: Scenario, source_of: Callable[[int], Source]) -> Counts:
    """Run a scenario, and check its result.

    :param source_of: returns a source of the given size
    :raises AssertionError: the result is wrong
    """
    source = replace(source_of(scenario.size_bytes), part_bytes=scenario.part_bytes)
    counts = Counts(cases=1)
    async with service(*scenario.faults) as emulator:
        run = _ScenarioRun(emulator, source, scenario)
        try:
            for share in scenario.cancels:
                counts += await run.run(share)
            emulator.clear_faults()
            await run.run_without_faults()
        except TimeoutError:
            return counts + Counts(hung=1)
        orphans = len(emulator.videos) - 1
        return counts + Counts(
            bytes_sent_again=emulator.statistics().bytes_again,
            orphans=max(0, orphans - run.lost_creations()),
        )


class _ScenarioRun:
    def __init__(self, emulator: Emulator, source: Source, scenario: Scenario) -> None:
        self._emulator = emulator
        self._source = source
        self._scenario = scenario
        self._allowed_orphans = 0

    async def _upload(self) -> Run:
        scenario = self._scenario
        options: dict[str, Any] = {
            "ranges": scenario.ranges,
            "concurrency": scenario.concurrency,
            "resume": scenario.resume,
        }
        return await run_upload(
            self._emulator, self._source, **options, stall_timeout=_STALL_SECONDS, max_attempts=3
        )

    async def run(self, share: float | None) -> Counts:
        """Run the upload once, and cancel it if ``share`` is given. It may fail."""
        since = len(self._emulator.requests)
        task = asyncio.create_task(self._upload())
        if share is not None:
            await self._reach(share, task)
        was_cancelled = share is not None and task.cancel()
        try:
            async with asyncio.timeout(_CANCEL_SECONDS if was_cancelled else None):
                run = await task
        except asyncio.CancelledError:
            self._allow_lost_creation(since)
            return Counts(cancelled=1)
        finally:
            # Wait until the requests that were in flight have ended.
            with suppress(TimeoutError):
                await self._emulator.wait_for(_is_quiet, timeout=0.2)
        if run.error is not None:
            await self._check_error(run)
            return Counts(errors=1)
        assert run.video is not None
        await self._check_video(run.video.video_id)
        return Counts()

    async def _reach(self, share: float, task: asyncio.Task[Run]) -> None:
        """Wait until this share of the source's bytes is received in this run, or until the run ends."""
        until = self._emulator.statistics().bytes_received + int(share * self._source.size_bytes)
        received = asyncio.create_task(
            self._emulator.wait_for(lambda emulator: emulator.statistics().bytes_received > until, timeout=None)
        )
        await asyncio.wait([received, task], return_when=asyncio.FIRST_COMPLETED)
        received.cancel()
        await asyncio.gather(received, return_exceptions=True)

    def _allow_lost_creation(self, since: int) -> None:
        """Allow an orphan if no part was sent: the creation response may not have been received."""
        endpoints = [record.endpoint for record in self._emulator.requests[since:]]
        if "create" in endpoints and "upload" not in endpoints:
            self._allowed_orphans += 1

    async def _check_error(self, run: Run) -> None:
        error = run.error
        assert error is not None
        if not isinstance(error, UploadFailed):
            return
        assert error.__cause__ is not None
        assert error.resumable == (self._scenario.resume != "off"), error
        if "could not be deleted" in error.advice:
            self._allowed_orphans += 1
        elif self._scenario.resume == "off":
            assert error.video_id not in self._emulator.videos
        else:
            assert error.video_id in self._emulator.videos
        if isinstance(error.__cause__, TransportError):
            assert error.__cause__.retryable

    async def _check_video(self, video_id: str) -> None:
        view = await self._emulator.finished(video_id)
        assert (view.sha256, view.size_bytes) == (self._source.sha256, self._source.size_bytes)
        # The next run is a new upload.
        self._allowed_orphans += 1

    async def run_without_faults(self) -> None:
        """Run the last upload. It succeeds, and sends only what is missing."""
        before = dict(self._emulator.videos)
        since = asyncio.get_running_loop().time()
        run = await self._upload()
        assert run.video is not None, run.error
        view = await self._emulator.finished(run.video.video_id)
        assert (view.sha256, view.size_bytes) == (self._source.sha256, self._source.size_bytes)
        assert run.video.metadata == ()
        if (unfinished := before.get(run.video.video_id)) is not None:
            sent = sum(record.body_bytes for record in uploads(self._emulator, since))
            assert sent <= missing_bytes(unfinished, self._source, self._scenario.ranges)

    def lost_creations(self) -> int:
        """The containers that may remain: other finished ones, and those whose creation response was lost."""
        creations = [record for record in self._emulator.requests if record.endpoint == "create"]
        return self._allowed_orphans + sum(record.status != 201 for record in creations)


def _is_quiet(emulator: Emulator) -> bool:
    return not emulator.statistics().uploads_in_flight
