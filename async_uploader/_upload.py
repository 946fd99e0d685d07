"""One upload: a container, a transfer into it, and what becomes of the container when that fails.

==========================================  =================  ========================================
how it ended                                resume             the container
==========================================  =================  ========================================
finished                                    (any)              is the video
failed, could go on; or cancelled           yes                is kept, and the journal knows it
failed, could go on; or cancelled           no                 is deleted
failed for good                             (any)              is deleted
failed: someone else writes to it           (any)              is left alone
==========================================  =================  ========================================

A container that the caller named (``video_id``) is never deleted, nor can an upload token delete one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final

import anyio
from msgspec import Struct
from msgspec.structs import replace

from ._errors import ApiError, UploaderError, UploadFailed
from ._models import Video
from ._pacing import Pacing
from ._plan import fit
from ._ratelimit import Kind
from ._service import Service
from ._teller import Teller, error_type
from ._transfer import Conflict, Job, Transfer
from .events import UploadBegan, UploadEnded

if TYPE_CHECKING:
    from ._resume import Begun, Resume

log: Final = logging.getLogger("async_uploader")

# Cancellation must stop within a second, the last request included.
_DISCARD_SECONDS: Final = 0.5
_NOT_DELETED: Final = "The unfinished video could not be deleted; the service removes it after 7 days."


class Upload(Struct, frozen=True, kw_only=True):
    """One upload from its container to its verified video.

    :param payload: the JSON of the container to create
    :param resume: what is known of earlier tries; None to know nothing and leave nothing
    """

    job: Job
    payload: Mapping[str, Any]
    service: Service
    pacing: Pacing
    teller: Teller
    resume: Resume | None

    async def run(self) -> Video:
        """Do it.

        :raises ApiError, TransportError: there is no container yet
        :raises UploadFailed: there is
        """
        plan, line = self.job.plan, self.job.line
        try:
            self.teller.tell(
                UploadBegan(
                    total_bytes=plan.total_bytes,
                    parts_total=plan.parts_total,
                    part_bytes=plan.part_bytes,
                    concurrency=min(plan.concurrency, line.most),
                    adapts=line.adapts,
                )
            )
            video = await self._run()
        except BaseException as exc:
            video_id = getattr(exc, "video_id", None)
            is_error = isinstance(exc, Exception)
            self.teller.tell(
                UploadEnded(
                    video_id=video_id,
                    error=str(exc) if is_error else "cancelled",
                    error_type=error_type(exc) if is_error else None,
                )
            )
            raise
        self.teller.tell(UploadEnded(video_id=video.video_id, error=None))
        return video

    async def _run(self) -> Video:
        begun = await self.resume.begun() if self.resume else None
        if begun is not None and begun.whole:
            video = await self._ask(begun.video_id)
        else:
            video_id: str | None
            if begun is not None:
                job, video_id, received = _as_begun(self.job, begun), begun.video_id, begun.received
            else:
                (job, video_id), received = await self._begin(), frozenset[int]()
            transfer = Transfer(
                job,
                service=self.service,
                pacing=self.pacing,
                teller=self.teller,
                resume=self.resume,
                video_id=video_id,
                received=received,
                goes_on=begun is not None,
            )
            video = await self._see_through(transfer, job, received)
        if self.resume:
            video = await self.resume.unmark(video)
        if self.job.options.on_video is not None:
            answer = self.job.options.on_video(video)
            if isawaitable(answer):
                await answer
        if self.resume:
            # Last: a crash before this finds the whole video by the journal, and sends nothing again.
            await self.resume.forget()
        return video

    async def _see_through(self, transfer: Transfer, job: Job, received: frozenset[int]) -> Video:
        try:
            if self.resume and transfer.video_id:
                await self.resume.record(
                    transfer.video_id,
                    ranges=job.options.ranges,
                    part_bytes=job.plan.part_bytes,
                    received=received,
                )
            return await transfer.run()
        except UploadFailed as exc:
            is_conflict = isinstance(exc.__cause__, Conflict)
            keep = self.resume is not None and exc.resumable
            exc.advice = await self._settle(transfer.video_id, keep=keep, leave=is_conflict)
            exc.resumable = keep
            raise
        except BaseException:
            await self._settle(transfer.video_id, keep=self.resume is not None, leave=False)
            raise

    async def _begin(self) -> tuple[Job, str | None]:
        """A container for the parts, and a plan for them that fits what the account may still upload."""
        job = self._fitted(self.job)
        marks = self.resume.marks(job.plan) if self.resume else []
        video_id = await self._container(marks)
        # To have created it has told the limits; but the marks have told the plan.
        return (job if marks else self._fitted(job)), video_id

    def _fitted(self, job: Job) -> Job:
        return replace(job, plan=fit(job.plan, self.pacing.limiter.allowance(), files=job.line.files))

    async def _container(self, marks: Sequence[Mapping[str, str]]) -> str | None:
        if self.job.options.video_id is not None or self.service.delegated:
            return self.job.options.video_id
        payload = dict(self.payload)
        if marks:
            payload["metadata"] = [*payload.get("metadata", []), *marks]
        was_tried = False

        async def create() -> str:
            nonlocal was_tried
            if was_tried and self.resume and (made := await self.resume.marked()):
                return made.video_id  # only the answer was lost
            was_tried = True
            return (await self.service.create_video(payload)).video_id

        return await self.pacing.run(Kind.WRITE, create, what="create")

    async def _ask(self, video_id: str) -> Video:
        return await self.pacing.run(Kind.READ, lambda: self.service.get_video(video_id), what="video")

    async def _settle(self, video_id: str | None, *, keep: bool, leave: bool) -> str:
        """Decide what becomes of the container; returns a sentence about it."""
        if keep:
            return "Upload it again to go on from there."
        if self.resume:
            await self.resume.forget()
        if video_id is None:
            return ""
        if leave or self.service.delegated or self.job.options.video_id is not None:
            return "The video was left as it is."
        # Told to nobody: what a listener raises must not take the place of what ended the upload.
        pacing = replace(self.pacing, teller=None)
        with anyio.move_on_after(_DISCARD_SECONDS, shield=True):
            try:
                await pacing.run(Kind.WRITE, lambda: self.service.delete_video(video_id), what="delete")
            except UploaderError as exc:
                # 404: only the answer to an earlier try was lost.
                if not (isinstance(exc, ApiError) and exc.status == 404):
                    log.info("Video %s could not be deleted: %s", video_id, exc)
                    return _NOT_DELETED
            return "The unfinished video was deleted."
        return _NOT_DELETED


def _as_begun(job: Job, begun: Begun) -> Job:
    plan = replace(job.plan, part_bytes=begun.part_bytes)
    return replace(job, plan=plan, options=replace(job.options, ranges=begun.ranges))
