"""Filling one container: a bounded pool of workers, and what they come to.

The only module with concurrency. One task group holds everything; a feeder hands parts over to the workers one
by one, so that parts leave in order as workers come free. The first failure cancels the rest, and exactly one
error comes out, never an exception group.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ._errors import ApiError, SourceError, SourceFailed, UploaderError, UploadFailed
from ._models import Video
from ._options import TransferOptions
from ._outcome import Verdict, is_whole, judge
from ._pacing import Pacing
from ._plan import Part, Plan
from ._progress import Ledger, Reporter
from ._ratelimit import Kind
from ._service import PartAnswer, Service, byte_range, part_range
from ._source import FileSource
from ._units import format_size

T = TypeVar("T")

log: Final = logging.getLogger("async_uploader")

# How often the status is asked once everything was accepted.
_FIRST_POLL_SECONDS: Final = 0.1
_LAST_POLL_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be uploaded, and how."""

    source: FileSource
    plan: Plan
    options: TransferOptions


class _Dead(UploaderError):
    """An end that going on later cannot mend."""


class Transfer:
    """One upload into one container.

    :param video_id: the container; None with an upload token, whose first part makes it
    """

    def __init__(self, job: Job, *, service: Service, pacing: Pacing, video_id: str | None) -> None:
        self._source = job.source
        self._plan = job.plan
        self._options = job.options
        self._service = service
        self._pacing = pacing
        self._video_id = video_id
        self._video: Video | None = None
        self._ledger = Ledger(total_bytes=job.plan.total_bytes, parts_total=job.plan.parts_total)
        self._failure: Exception | None = None
        self._failed_part: Part | None = None
        self._scope = anyio.CancelScope()

    async def run(self) -> Video:
        """Send everything, see it come together, return the Video.

        :raises UploadFailed: it did not work out; the cause is chained
        """
        reporter = Reporter(self._ledger, self._options.on_progress)
        self._pacing.limiter.expect(Kind.UPLOAD, self._plan.parts_total)
        try:
            with self._scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._guarded, reporter.run)
                    await self._guarded(self._send_all)
                    await self._guarded(self._conclude)
                    group.cancel_scope.cancel()
        finally:
            self._pacing.limiter.expect(Kind.UPLOAD, self._ledger.parts_done - self._plan.parts_total)
        await self._guarded(reporter.tell)
        if self._failure is not None:
            raise self._failed(self._failure) from self._failure
        assert self._video is not None
        return self._video

    async def _guarded(self, step: Callable[[], Awaitable[None]]) -> None:
        """Run a step; its error becomes the upload's, if it is the first, and stops everything else."""
        try:
            await step()
        except Exception as exc:  # noqa: BLE001 - raised again by run(), as the cause of what it raises
            self._failure = self._failure or exc
            self._scope.cancel()

    async def _send_all(self) -> None:
        parts = self._plan.parts()
        if self._video_id is None:
            # Two first parts would make two videos: the first goes alone and brings the videoId.
            await self._deliver(next(parts))
        hand_over, parts_to_send = anyio.create_memory_object_stream[Part](0)
        async with anyio.create_task_group() as workers:
            workers.start_soon(self._feed, parts, hand_over)
            for _ in range(self._plan.concurrency):
                workers.start_soon(self._work, parts_to_send.clone())
            parts_to_send.close()

    async def _feed(self, parts: Iterator[Part], hand_over: MemoryObjectSendStream[Part]) -> None:
        async with hand_over:
            for part in parts:
                await hand_over.send(part)

    async def _work(self, parts_to_send: MemoryObjectReceiveStream[Part]) -> None:
        async with parts_to_send:
            async for part in parts_to_send:
                await self._guarded(partial(self._deliver, part))

    async def _deliver(self, part: Part) -> None:
        """Send one part until the service has it."""
        maybe_received = False

        async def attempt() -> PartAnswer | None:
            nonlocal maybe_received
            try:
                return await self._send(part)
            except UploaderError as exc:
                self._ledger.taken_back(part.number)
                verdict = judge(exc, maybe_received=maybe_received)
                if verdict is Verdict.STORED:
                    log.info("Part %d had arrived already.", part.number)
                    return None
                if verdict is Verdict.UNKNOWN and self._video_id is None and part.last:
                    raise _Dead(
                        f"{exc} The only part may have made a video, which an upload token cannot ask about; "
                        "sent again, it could make a second one. Look into the account first."
                    ) from exc
                if verdict is Verdict.CONFLICT:
                    raise _Dead(f"{exc} This upload had not sent it: someone else writes to this video.") from exc
                maybe_received |= verdict is Verdict.UNKNOWN
                self._pacing.limiter.expect(Kind.UPLOAD, 1)
                raise

        try:
            answer = await self._pacing.run(
                Kind.UPLOAD,
                attempt,
                what=f"{self._source.name}, part {part.number}",
                progress=lambda: self._ledger.acknowledged_bytes,
            )
        except Exception:
            self._failed_part = self._failed_part or part
            raise
        self._ledger.acknowledged(part.number, part.size_bytes)
        if answer is not None:
            # The completing request brings the finished Video; which one that is, only the order of answers
            # tells. So the latest stands.
            self._video = answer.video or self._video
            self._video_id = self._video_id or answer.video_id

    async def _send(self, part: Part) -> PartAnswer:
        by_part = self._options.ranges == "part"
        return await self._service.send_part(
            lambda: self._source.reading(part),
            size_bytes=part.size_bytes,
            content_range=part_range(part) if by_part else byte_range(part, self._plan.total_bytes),
            filename=self._source.name,
            video_id=self._video_id,
            on_sent=lambda count_bytes: self._ledger.sent(part.number, count_bytes),
        )

    async def _conclude(self) -> None:
        """Every part was accepted; see that the video has come together, and have it."""
        if self._service.delegated:
            # An upload token cannot ask: the completing answer has to do.
            if self._video is None:
                raise UploaderError("Every part was accepted, but no answer brought the finished video.")
            return
        assert self._video_id is not None
        await self._come_together(self._video_id)
        if self._video is None:
            self._video = await self._ask("video", lambda: self._service.get_video(self._video_id or ""))

    async def _ask(self, what: str, request: Callable[[], Awaitable[T]]) -> T:
        return await self._pacing.run(Kind.READ, request, what=f"{self._source.name}, {what}")

    async def _come_together(self, video_id: str) -> None:
        pause_seconds = _FIRST_POLL_SECONDS
        deadline = anyio.current_time() + self._options.stall_timeout
        while True:
            status = await self._ask("status", lambda: self._service.get_status(video_id))
            whole = is_whole(status, total_bytes=self._plan.total_bytes)
            if whole:
                return
            if whole is False:
                raise _Dead(
                    f"The service put together {status.ingest.filesize:,} bytes of a source of "
                    f"{self._plan.total_bytes:,} bytes."
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
            text = f"Part {self._failed_part.number} of {progress.parts_total}: {text}"
        if self._video_id is not None:
            text += (
                f" {progress.parts_done} of {progress.parts_total} parts "
                f"({format_size(progress.acknowledged_bytes)}) had arrived in video {self._video_id}."
            )
        kind = SourceFailed if isinstance(cause, SourceError) else UploadFailed
        return kind(
            text,
            video_id=self._video_id,
            part_number=self._failed_part.number if self._failed_part else None,
            parts_done=progress.parts_done,
            parts_total=progress.parts_total,
            acknowledged_bytes=progress.acknowledged_bytes,
            total_bytes=progress.total_bytes,
            resumable=_is_resumable(cause) and self._video_id is not None and not self._service.delegated,
        )


def _is_resumable(cause: Exception) -> bool:
    """Whether the same upload could go on later: not if what ended it would end it again."""
    match cause:
        case ApiError():
            return cause.status in (401, 403, 408, 429) or cause.status >= 500
        case _Dead() | SourceError():
            return False
        case _:
            return True
