"""Filling one container: a bounded pool of workers, and what they come to.

The only module with concurrency. One task group holds everything; one worker at a time takes the next part and
waits for a slot, so that parts leave in order as workers come free. The first failure cancels the rest, and
exactly one error comes out, never an exception group.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
from msgspec import Struct

from async_uploader._api.service import PartResponse, Service, byte_range, part_range
from async_uploader._cancelled import is_being_cancelled
from async_uploader._counter import Counter
from async_uploader._dispatcher import Attempt, EventDispatcher
from async_uploader._errors import ApiError, SourceError, SourceFailed, UploaderError, UploadFailed
from async_uploader._flow.rate_limit import RequestKind
from async_uploader._flow.retries import RetryRunner
from async_uploader._flow.slots import UploadSlots
from async_uploader._models import Video
from async_uploader._options import MAX_CONCURRENCY, TransferOptions
from async_uploader._outcome import (
    ALREADY_WHOLE,
    Conflict,
    Fate,
    Outcome,
    classify,
    fate,
    is_whole,
    received_parts,
)
from async_uploader._plan import Part, Plan
from async_uploader._progress import ProgressReporter, ProgressTracker
from async_uploader._sources.file import PartSource, Source
from async_uploader._units import format_size
from async_uploader.events import ConcurrencyChanged, ContainerReady

if TYPE_CHECKING:
    from async_uploader._resume.resume import Resume

T = TypeVar("T")

log: Final = logging.getLogger("async_uploader")

# How often the status is asked once everything was accepted.
_FIRST_POLL_SECONDS: Final = 0.1
_LAST_POLL_SECONDS: Final = 5.0


class Job(Struct, frozen=True, kw_only=True):
    """What is to be uploaded, how, and over which line."""

    source: Source
    plan: Plan
    options: TransferOptions
    line: UploadSlots


class Transfer:
    """One upload into one container.

    :param resume: is told what arrives
    :param video_id: the container; None with an upload token, whose first part makes it
    :param received: parts that the service has already
    :param goes_on: an earlier process has begun, and may have had more parts on their way when it ended
    """

    def __init__(
        self,
        job: Job,
        *,
        service: Service,
        pacing: RetryRunner,
        teller: EventDispatcher,
        resume: Resume | None,
        video_id: str | None,
        received: frozenset[int],
        goes_on: bool,
    ) -> None:
        self._source = job.source
        self._plan = job.plan
        self._options = job.options
        self._service = service
        self._pacing = pacing
        self._teller = teller
        self._resume = resume
        self.video_id = video_id
        self._goes_on = goes_on
        self._received = received
        self._in_flight: set[PartSource] = set()
        self._turn = anyio.Lock()
        self._line = job.line
        self._sending = Counter()
        self._video: Video | None = None
        self._is_told_whole = False
        self._ledger = ProgressTracker(total_bytes=job.plan.total_bytes, parts_total=job.plan.parts_total)
        for part in job.plan.parts() if received else ():
            if part.number in received:
                self._ledger.acknowledged(part.number, part.size_bytes)
        self._failure: Exception | None = None
        self._failed_part: Part | None = None
        self._scope = anyio.CancelScope()

    async def run(self) -> Video:
        """Send everything, see it come together, return the Video.

        :raises UploadFailed: it did not work out; the cause is chained
        """
        reporter = ProgressReporter(self._ledger, self._options.on_progress)
        self._tell_container()
        with self._scope, self._pacing.limiter.wanted(self._parts_waiting):
            async with anyio.create_task_group() as group:
                group.start_soon(self._guarded, reporter.run)
                group.start_soon(self._guarded, self._adapt)
                group.start_soon(self._guarded, self._fill)
        await self._guarded(reporter.tell)
        if self._failure is not None:
            raise self._failed(self._failure) from self._failure
        assert self._video is not None
        return self._video

    def _tell_container(self) -> None:
        if self.video_id is not None:
            self._teller.tell(
                ContainerReady(
                    video_id=self.video_id,
                    parts_total=self._ledger.parts_total,
                    part_bytes=self._plan.part_bytes,
                    parts_done=self._ledger.parts_done,
                    acknowledged_bytes=self._ledger.acknowledged_bytes,
                    resumable=self._resume is not None and self._resume.can_resume,
                )
            )

    @property
    def _parts_left(self) -> int:
        """How many parts are still to come, as far as is known."""
        total = self._ledger.parts_total
        return 0 if total is None else total - self._ledger.parts_done

    def _parts_waiting(self) -> int:
        """How many of these are not on their way."""
        return max(0, self._parts_left - self._sending.count)

    async def _guarded(self, step: Callable[[], Awaitable[None]]) -> None:
        """Run a step; its error becomes the upload's, if it is the first, and stops everything else."""
        try:
            await step()
        except asyncio.CancelledError as exc:
            if is_being_cancelled(exc):
                raise
            error = UploaderError("A callback, or something that it waited for, was cancelled.")
            error.__cause__ = exc
            self._fail(error)
        except Exception as exc:  # noqa: BLE001 - raised again by run(), as the cause of what it raises
            self._fail(exc)

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        self._scope.cancel()

    async def _adapt(self) -> None:
        await self._line.adapt(self._tell_connections)

    def _tell_connections(self, connections: int) -> None:
        try:
            self._teller.tell(ConcurrencyChanged(connections=connections))
        except Exception as exc:  # noqa: BLE001 - a listener's; this upload's failure, not that of who tells it
            self._fail(exc)

    async def _fill(self) -> None:
        await self._send_all()
        await self._conclude()
        self._scope.cancel()

    async def _send_all(self) -> None:
        async with aclosing(self._source.pieces(self._plan, received=self._received)) as pieces:
            if self.video_id is None:
                # Two first parts would make two videos: the first goes alone and brings the videoId.
                await self._deliver_in_slot(await self._next(pieces))
            # No more than there are parts: most of ten thousand files have one.
            count = min(self._plan.concurrency, self._parts_left or self._plan.concurrency)
            with self._line.workers.plus(count):
                async with anyio.create_task_group() as workers:
                    for _ in range(count):
                        workers.start_soon(self._guarded, partial(self._work, pieces))

    async def _work(self, pieces: AsyncGenerator[PartSource, None]) -> None:
        with suppress(StopAsyncIteration):
            while True:
                await self._deliver_in_slot(await self._next(pieces))

    async def _next(self, pieces: AsyncGenerator[PartSource, None]) -> PartSource:
        """The next part, as soon as one more may be in flight.

        One worker at a time: so parts leave in order, and no more than one of them waits to be sent.
        """
        async with self._turn:
            piece = await anext(pieces)
            if self._ledger.parts_total is None and piece.part.last:
                self._ledger.ends(total_bytes=piece.part.end, parts_total=piece.part.number)
            await self._take_slot(piece)
            return piece

    async def _take_slot(self, piece: PartSource) -> None:
        await self._line.slots.acquire_on_behalf_of(piece)
        self._in_flight.add(piece)

    def _give_back_slot(self, piece: PartSource) -> None:
        if piece in self._in_flight:
            self._in_flight.discard(piece)
            self._line.slots.release_on_behalf_of(piece)

    async def _deliver_in_slot(self, piece: PartSource) -> None:
        try:
            await self._deliver(piece)
        finally:
            self._give_back_slot(piece)

    async def _wait(self, piece: PartSource, seconds: float) -> None:
        """Before another try. The slot is for others meanwhile, of other uploads maybe."""
        self._give_back_slot(piece)
        await anyio.sleep(seconds)
        await self._take_slot(piece)

    async def _deliver(self, piece: PartSource) -> None:
        """Send one part until the service has it."""
        part = piece.part
        maybe_received = self._goes_on
        may_be_refused = self._may_be_stored(part)
        is_unknown = False
        attempts = 0

        async def attempt() -> PartResponse | None:
            nonlocal maybe_received, is_unknown, attempts
            if is_unknown and await self._has_arrived(part):
                log.info("%s had arrived.", self._named(part))
                return None
            attempts += 1
            this = Attempt(self._teller, part, attempts)
            try:
                send = partial(self._send, piece, this, expect_continue=attempts > 1 or may_be_refused)
                answer = await self._pacing.in_turn(RequestKind.UPLOAD, send, waiting=self._line.held_up.plus())
            except UploaderError as exc:
                self._ledger.taken_back(part.number)
                verdict = classify(exc, maybe_received=maybe_received)
                this.ended(verdict, exc)
                if verdict is Outcome.STORED:
                    log.info("%s had arrived.", self._named(part))
                    self._is_told_whole |= isinstance(exc, ApiError) and exc.slug == ALREADY_WHOLE
                    return None
                self._raise_if_final(verdict, part, exc)
                self._line.failed()
                is_unknown |= verdict is Outcome.UNKNOWN
                maybe_received |= is_unknown
                raise
            except BaseException:
                this.ended(None)
                raise
            this.ended(Outcome.STORED)
            return answer

        try:
            answer = await self._pacing.persist(
                attempt,
                what=f"part {part.number}",
                part_number=part.number,
                progress=lambda: self._ledger.acknowledged_bytes,
                sleep=partial(self._wait, piece),
            )
        except Exception:
            self._failed_part = self._failed_part or part
            raise
        self._ledger.acknowledged(part.number, part.size_bytes)
        self._pacing.limiter.stored(part.size_bytes)
        done = self._ledger.snapshot()
        log.info(
            "%s: arrived, %s of %s parts are there.", self._named(part), done.parts_done, done.parts_total or "?"
        )
        piece.release()
        # The completing request brings the finished Video; which one that is, only the order of answers tells. So
        # the latest stands.
        video = answer.video if answer is not None else None
        self._video = video or self._video
        if answer is not None and self.video_id is None:
            await self._made(answer, part)
        elif self._resume:
            await self._resume.acknowledged(part.number, video)

    def _may_be_stored(self, part: Part) -> bool:
        """Whether an earlier process may have sent a part, and nobody can be asked whether it has arrived.

        Then the service gets the chance to refuse before the body goes out. Parts leave in order: beyond those
        that were in flight at most, none has left.
        """
        if not (self._goes_on and self._service.delegated):
            return False
        return not self._received or part.number <= max(self._received) + MAX_CONCURRENCY

    def _named(self, part: Part) -> str:
        return f"{self._source.name}, part {part.number}"

    def _raise_if_final(self, verdict: Outcome, part: Part, error: UploaderError) -> None:
        if verdict is Outcome.CONFLICT:
            raise Conflict(f"{error} This upload had not sent it: someone else writes to this video.") from error
        if verdict is Outcome.UNKNOWN and self.video_id is None and part.last:
            raise Conflict(
                f"{error} The only part may have made a video, which an upload token cannot ask about; sent "
                "again, it could make a second one. Look into the account first."
            ) from error

    async def _has_arrived(self, part: Part) -> bool:
        """Ask before a part is sent again, so that no byte goes out twice; an upload token cannot."""
        if self._service.delegated or self.video_id is None:
            return False
        video_id = self.video_id
        status = await self._pacing.in_turn(RequestKind.READ, lambda: self._service.get_status(video_id))
        return bool(
            is_whole(status, total_bytes=self._ledger.total_bytes)
            or received_parts(status, [part], ranges=self._options.ranges)
        )

    async def _made(self, answer: PartResponse, part: Part) -> None:
        """The first part of an upload token has made the container."""
        if answer.video_id is None:
            raise UploaderError("The service did not tell which video it made of the first part.")
        self.video_id = answer.video_id
        if self._resume:
            await self._resume.record(
                self.video_id,
                ranges=self._options.ranges,
                part_bytes=self._plan.part_bytes,
                received=frozenset({part.number}),
                video=answer.video,
            )
        self._tell_container()

    async def _send(self, piece: PartSource, attempt: Attempt, *, expect_continue: bool) -> PartResponse:
        def on_sent(count_bytes: int) -> None:
            attempt.sent(count_bytes)
            self._ledger.sent(part.number, count_bytes)

        attempt.begins()
        part, total_bytes = piece.part, self._plan.total_bytes
        if self._options.ranges == "part":
            content_range = part_range(part)
        else:
            assert total_bytes is not None, "checked before"
            content_range = byte_range(part, total_bytes)
        with self._sending.plus():
            return await self._service.send_part(
                piece,
                content_range=content_range,
                filename=self._source.name,
                video_id=self.video_id,
                expect_continue=expect_continue,
                on_sent=on_sent,
                meter=self._line.meter,
                on_connection=partial(setattr, attempt, "connection"),
            )

    async def _conclude(self) -> None:
        """Every part was accepted; see that the video has come together, and have it."""
        if self._service.delegated:
            # An upload token cannot ask: the completing answer has to do, or that there is nothing to complete.
            if self._video is None and self._is_told_whole:
                self._video = Video.from_answer({"videoId": self.video_id})
            if self._video is None:
                if self._goes_on and self._resume:
                    # A part is missing that an earlier process took for stored: the next one asks for each.
                    await self._resume.doubt()
                raise UploaderError("Every part was accepted, but no answer brought the finished video.")
            return
        assert self.video_id is not None
        await self._come_together(self.video_id)
        if self._video is None:
            self._video = await self._ask("video", lambda: self._service.get_video(self.video_id or ""))

    async def _ask(self, what: str, request: Callable[[], Awaitable[T]]) -> T:
        return await self._pacing.run(RequestKind.READ, request, what=what)

    async def _come_together(self, video_id: str) -> None:
        pause_seconds = _FIRST_POLL_SECONDS
        deadline = anyio.current_time() + self._options.stall_timeout
        while True:
            status = await self._ask("status", lambda: self._service.get_status(video_id))
            whole = is_whole(status, total_bytes=self._ledger.total_bytes)
            if whole:
                return
            if whole is False:
                raise Conflict(
                    f"The service put together {status.ingest.filesize:,} bytes of a source of "
                    f"{self._ledger.total_bytes:,} bytes."
                )
            if anyio.current_time() >= deadline:
                raise UploaderError(
                    "Every part was accepted, but the video has not come together "
                    f"(its status is {status.ingest.status!r})."
                )
            await anyio.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 2, _LAST_POLL_SECONDS)

    def _failed(self, cause: Exception) -> UploadFailed:
        progress = self._ledger.snapshot()
        text = str(cause) if isinstance(cause, UploaderError) else f"{type(cause).__name__}: {cause}."
        if self._failed_part is not None:
            of_all = "" if progress.parts_total is None else f" of {progress.parts_total}"
            text = f"Part {self._failed_part.number}{of_all}: {text}"
        if self.video_id is not None:
            of_all = "" if progress.parts_total is None else f" of {progress.parts_total}"
            text += (
                f" {progress.parts_done}{of_all} parts "
                f"({format_size(progress.acknowledged_bytes)}) had arrived in video {self.video_id}."
            )
        kind = SourceFailed if isinstance(cause, SourceError) else UploadFailed
        return kind(
            text,
            video_id=self.video_id,
            part_number=self._failed_part.number if self._failed_part else None,
            parts_done=progress.parts_done,
            parts_total=progress.parts_total,
            acknowledged_bytes=progress.acknowledged_bytes,
            total_bytes=progress.total_bytes,
            resumable=fate(cause) is Fate.KEEP and self.video_id is not None,
        )
