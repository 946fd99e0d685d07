"""Stories: an upload in several lives, with faults, cancellations and restarts, and what must come of it.

A story is data; whoever draws it (hypothesis, or dice with a seed), it is told the same way.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from async_uploader import UploadFailed
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
RESUME: Final[tuple[bool | Literal["local"], ...]] = (False, "local", True)

# What can go wrong with a part, and with anything else; none of it for good.
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


# A service that stores a part and then answers that it did not take it, is not to be dealt with.
_NOT_STORED: Final = ("status=401", "status=429")


def part_fault(selector: str, action: str, times: int) -> str:
    """The SPEC of a fault of parts."""
    if selector == "completing":  # can strike only when all is stored
        words = [word for word in action.split(",") if not word.startswith(("when=", "retry-after="))]
        action = ",".join("status=503" if word in _NOT_STORED else word for word in (*words, "when=stored"))
    return f"{selector},times={times}:{action}"


def other_fault(endpoint: str, action: str, times: int) -> str:
    """The SPEC of a fault of anything else."""
    return f"{endpoint},times={times}:{action}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """How an upload is asked for, and what happens to it.

    :ivar cancels: a life each before the last one: after which share of the source's bytes the upload is
        cancelled; None: it goes on until it ends
    """

    size_bytes: int
    part_bytes: int
    ranges: Literal["part", "bytes"]
    concurrency: int
    resume: bool | Literal["local"]
    faults: tuple[str, ...]
    cancels: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What is counted."""

    cases: int = 0
    bytes_sent_twice: int = 0
    orphans: int = 0
    hung: int = 0
    errors: int = 0
    cancelled: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(**{name: getattr(self, name) + getattr(other, name) for name in self.__slots__})

    @property
    def is_good(self) -> bool:
        """What must be 0 is."""
        return not (self.bytes_sent_twice or self.orphans or self.hung)


def roll(dice: random.Random) -> Story:
    """A story by dice."""
    faults = [
        part_fault(dice.choice(PART_SELECTORS), dice.choice(PART_ACTIONS), dice.randint(1, 3))
        for _ in range(dice.randint(0, 3))
    ] + [
        other_fault(dice.choice(OTHER_ENDPOINTS), dice.choice(OTHER_ACTIONS), dice.randint(1, 2))
        for _ in range(dice.randint(0, 2))
    ]
    return Story(
        size_bytes=dice.choice(SIZES),
        part_bytes=dice.choice(PART_SIZES),
        ranges=dice.choice(("part", "bytes")),
        concurrency=dice.choice(CONCURRENCY),
        resume=dice.choice(RESUME),
        faults=tuple(faults),
        cancels=tuple(dice.choice((None, dice.random())) for _ in range(dice.randint(0, 3))),
    )


async def tell(story: Story, source_of: Callable[[int], Source]) -> Tally:
    """Live through a story, and hold it to what must come of it.

    :raises AssertionError: it did not come to that
    """
    source = replace(source_of(story.size_bytes), part_bytes=story.part_bytes)
    tally = Tally(cases=1)
    async with service(*story.faults) as emulator:
        teller = _Teller(emulator, source, story)
        try:
            for share in story.cancels:
                tally += await teller.life(share)
            emulator.clear_faults()
            await teller.last_life()
        except TimeoutError:
            return tally + Tally(hung=1)
        orphans = len(emulator.videos) - 1
        return tally + Tally(
            bytes_sent_twice=emulator.statistics().bytes_again,
            orphans=max(0, orphans - teller.lost_creations()),
        )


class _Teller:
    def __init__(self, emulator: Emulator, source: Source, story: Story) -> None:
        self._emulator = emulator
        self._source = source
        self._story = story
        self._excused = 0

    async def _upload(self) -> Run:
        story = self._story
        options: dict[str, Any] = {
            "ranges": story.ranges,
            "concurrency": story.concurrency,
            "resume": story.resume,
        }
        return await run_upload(
            self._emulator, self._source, **options, stall_timeout=_STALL_SECONDS, max_attempts=3
        )

    async def life(self, share: float | None) -> Tally:
        """One run, cancelled or not, well or not."""
        since = len(self._emulator.requests)
        task = asyncio.create_task(self._upload())
        if share is not None:
            await self._reach(share, task)
        is_cancelled = share is not None and task.cancel()
        try:
            async with asyncio.timeout(_CANCEL_SECONDS if is_cancelled else None):
                run = await task
        except asyncio.CancelledError:
            self._excuse(since)
            return Tally(cancelled=1)
        finally:
            # What was on its way when the upload ended has landed, or was given up.
            with suppress(TimeoutError):
                await self._emulator.wait_for(_is_quiet, timeout=0.2)
        if run.error is not None:
            await self._check_error(run)
            return Tally(errors=1)
        assert run.video is not None
        await self._check_video(run.video.video_id)
        return Tally()

    async def _reach(self, share: float, task: asyncio.Task[Run]) -> None:
        """Until so much has been received in this life, or it has ended."""
        until = self._emulator.statistics().bytes_received + int(share * self._source.size_bytes)
        come = asyncio.create_task(
            self._emulator.wait_for(lambda emulator: emulator.statistics().bytes_received > until, timeout=None)
        )
        await asyncio.wait([come, task], return_when=asyncio.FIRST_COMPLETED)
        come.cancel()
        await asyncio.gather(come, return_exceptions=True)

    def _excuse(self, since: int) -> None:
        """Cancelled before it sent anything: it may not have read the answer to the creation either."""
        endpoints = [record.endpoint for record in self._emulator.requests[since:]]
        if "create" in endpoints and "upload" not in endpoints:
            self._excused += 1

    async def _check_error(self, run: Run) -> None:
        error = run.error
        assert error is not None
        if not isinstance(error, UploadFailed):
            return
        assert error.__cause__ is not None
        assert error.resumable == bool(self._story.resume), error
        if "could not be deleted" in error.advice:
            self._excused += 1
        elif not self._story.resume:
            assert error.video_id not in self._emulator.videos
        else:
            assert error.video_id in self._emulator.videos
        if isinstance(error.__cause__, TransportError):
            assert error.__cause__.retryable

    async def _check_video(self, video_id: str) -> None:
        view = await self._emulator.finished(video_id)
        assert (view.sha256, view.size_bytes) == (self._source.sha256, self._source.size_bytes)
        # That upload is over; the next life is another upload.
        self._excused += 1

    async def last_life(self) -> None:
        """Without faults: it finishes, and sends only what is missing."""
        before = dict(self._emulator.videos)
        since = asyncio.get_running_loop().time()
        run = await self._upload()
        assert run.video is not None, run.error
        view = await self._emulator.finished(run.video.video_id)
        assert (view.sha256, view.size_bytes) == (self._source.sha256, self._source.size_bytes)
        assert run.video.metadata == ()
        if (begun := before.get(run.video.video_id)) is not None:
            sent = sum(record.body_bytes for record in uploads(self._emulator, since))
            assert sent <= missing_bytes(begun, self._source, self._story.ranges)

    def lost_creations(self) -> int:
        """Containers that may be left: the answer to their creation did not arrive, or they are finished."""
        creations = [record for record in self._emulator.requests if record.endpoint == "create"]
        return self._excused + sum(record.status != 201 for record in creations)


def _is_quiet(emulator: Emulator) -> bool:
    return not emulator.statistics().uploads_in_flight
