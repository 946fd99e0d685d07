"""One upload: a container, a transfer into it, and what becomes of the container when that fails.

==========================================  =================  ========================================
how it ended                                can be resumed     the container
==========================================  =================  ========================================
finished                                    (any)              is the video
failed, could go on; or cancelled           yes                is kept
failed, could go on; or cancelled           no                 is deleted
the service refuses this source             (any)              is deleted
someone else writes to it                   (any)              is left alone
it is gone                                  (any)              is forgotten
==========================================  =================  ========================================

:func:`._outcome.fate` says which error is which. An upload can be resumed if it asked for that (``resume``) and a
later run finds the container: the journal knows it, or it is marked (:attr:`._resume.Resume.can_resume`).

A container that the caller named (``video_id``) is never deleted, nor can an upload token delete one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from msgspec.structs import replace

from async_uploader._api.service import Service
from async_uploader._dispatcher import EventDispatcher, error_type
from async_uploader._errors import UploadFailed
from async_uploader._flow.rate_limit import RequestKind
from async_uploader._flow.retries import RetryRunner
from async_uploader._models import Video
from async_uploader._outcome import Fate, fate
from async_uploader._plan import fit
from async_uploader.events import UploadBegan, UploadEnded

from .container import Container
from .transfer import Job, Transfer

if TYPE_CHECKING:
    from async_uploader._resume.resume import Resume, ResumePoint

log: Final = logging.getLogger("async_uploader")

_RESUMABLE: Final = "Upload it again to go on from there."
_NOT_RESUMABLE: Final = "The journal cannot be used, so this upload cannot be resumed. "
_DELETED: Final = "The unfinished video was deleted."
_NOT_DELETED: Final = "The unfinished video could not be deleted; the service removes it after 7 days."


class Upload(Struct, frozen=True, kw_only=True):
    """One upload from its container to its verified video.

    :param payload: the JSON of the container to create
    :param resume: what is known of earlier tries; None to know nothing and leave nothing
    """

    job: Job
    payload: Mapping[str, Any]
    service: Service
    pacing: RetryRunner
    teller: EventDispatcher
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
            advice = getattr(exc, "advice", "") or "".join(getattr(exc, "__notes__", ()))
            self.teller.tell(
                UploadEnded(
                    video_id=video_id,
                    error=str(exc) if is_error else "cancelled",
                    error_type=error_type(exc) if is_error else None,
                    resumable=_RESUMABLE in advice,
                    advice=advice,
                )
            )
            raise
        is_kept = self.resume is not None and self.resume.is_recorded
        self.teller.tell(UploadEnded(video_id=video.video_id, error=None, resumable=is_kept))
        return video

    async def _run(self) -> Video:
        begun = await self.resume.begun() if self.resume else None
        if begun is not None and begun.whole:
            video = begun.video or await self._ask(begun.video_id)
        else:
            video = await self._fill(begun)
        if self.resume:
            video = await self.resume.finished(video)
        if self.job.options.on_video is not None:
            answer = self.job.options.on_video(video)
            if isawaitable(answer):
                await answer
        if self.resume:
            # Last: a crash before this finds the whole video by the journal, and sends nothing again.
            await self.resume.delivered()
        return video

    async def _fill(self, begun: ResumePoint | None) -> Video:
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
        return await self._see_through(transfer, job, received)

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
            exc.resumable, exc.advice = await self._settle(transfer.video_id, fate(exc.__cause__ or exc))
            raise
        except BaseException as exc:
            is_kept, advice = await self._settle(transfer.video_id, Fate.KEEP)
            exc.add_note(advice)  # for the last event
            if self.resume and not is_kept and transfer.video_id:
                log.warning("%s: %s", self.job.source.name, advice)
            raise

    async def _begin(self) -> tuple[Job, str | None]:
        """A container for the parts, and a plan for them that fits what the account may still upload."""
        job = self._fitted(self.job)
        video_id = self.job.options.video_id
        if video_id is None and not self.service.delegated:
            video_id = await self._container.create(self.payload, job.plan)
        # To have created it has told the limits; but the marks have told the plan.
        return (job if self.resume and self.resume.is_marked else self._fitted(job)), video_id

    def _fitted(self, job: Job) -> Job:
        return replace(job, plan=fit(job.plan, self.pacing.limiter.allowance(), files=job.line.files))

    @property
    def _container(self) -> Container:
        return Container(service=self.service, pacing=self.pacing, resume=self.resume)

    async def _ask(self, video_id: str) -> Video:
        return await self.pacing.run(RequestKind.READ, lambda: self.service.get_video(video_id), what="video")

    async def _settle(self, video_id: str | None, fate: Fate) -> tuple[bool, str]:
        """Decide what becomes of the container.

        :returns: whether it can be resumed, and a sentence about it
        """
        is_kept = fate is Fate.KEEP and self.resume is not None
        if is_kept and self.resume and self.resume.can_resume:
            return True, _RESUMABLE
        if self.resume:
            await self.resume.forget()
        if video_id is None:
            return False, ""
        return False, (_NOT_RESUMABLE if is_kept else "") + await self._left(video_id, fate)

    async def _left(self, video_id: str, fate: Fate) -> str:
        """Delete a container that is of no use any more; returns a sentence about it."""
        if fate is Fate.GONE:
            return "This video does not exist any more; upload it again to start anew."
        if fate is Fate.LEAVE or self.service.delegated or self.job.options.video_id is not None:
            return "The video was left as it is."
        return _DELETED if await self._container.discard(video_id) else _NOT_DELETED


def _as_begun(job: Job, begun: ResumePoint) -> Job:
    plan = replace(job.plan, part_bytes=begun.part_bytes)
    return replace(job, plan=plan, options=replace(job.options, ranges=begun.ranges))
