"""One upload: create or resume a container, fill it, and decide what becomes of the container after a failure.

==============================================  =================  ===========================
how the upload ended                            can be resumed     the container
==============================================  =================  ===========================
finished                                        (any)              is the video
failed for a reason that may pass; cancelled    yes                is kept
failed for a reason that may pass; cancelled    no                 is deleted
the service refuses this source                 (any)              is deleted
another program writes to the container         (any)              is not touched
the container no longer exists                  (any)              is forgotten
==============================================  =================  ===========================

:func:`._outcome.fate` maps errors to these rows. An upload can be resumed if ``resume`` is on and a later run can
find the container: by the journal or by its marks (:attr:`._resume.resume.Resume.can_resume`).

A container that the caller named (``video_id``) is never deleted. An upload token cannot delete any.
"""

from __future__ import annotations

import logging
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from async_uploader._dispatcher import error_type
from async_uploader._errors import UploadFailed
from async_uploader._flow.rate_limit import RequestKind
from async_uploader._models import Video
from async_uploader._outcome import Fate, fate
from async_uploader._plan import fit
from async_uploader.events import UploadBegan, UploadEnded

from . import failures
from .container import Container
from .job import Context, Job
from .state import TransferState
from .transfer import Transfer

if TYPE_CHECKING:
    from async_uploader._resume.resume import ResumePoint

log: Final = logging.getLogger("async_uploader")


class Upload:
    """One upload, from its container to its verified video."""

    def __init__(self, job: Job, context: Context) -> None:
        self._job = job
        self._context = context
        self._container = Container(context)

    async def run(self) -> Video:
        """Upload the source, and emit the first and the last event.

        :raises ApiError: the container could not be created
        :raises TransportError: the container could not be created
        :raises UploadFailed: the container exists, but filling it failed
        """
        plan, slots, events = self._job.plan, self._job.slots, self._context.events
        try:
            events.emit(
                UploadBegan(
                    total_bytes=plan.total_bytes,
                    parts_total=plan.parts_total,
                    part_bytes=plan.part_bytes,
                    concurrency=min(plan.concurrency, slots.max_concurrency),
                    adapts=slots.is_adaptive,
                )
            )
            video = await self._upload_or_resume()
        except BaseException as exc:
            events.emit(_ended_by(exc))
            raise
        is_recorded = self._context.resume is not None and self._context.resume.is_recorded
        events.emit(UploadEnded(video_id=video.video_id, error=None, resumable=is_recorded))
        return video

    async def _upload_or_resume(self) -> Video:
        resume = self._context.resume
        begun = await resume.begun() if resume else None
        if begun is not None and begun.whole:
            video = begun.video or await self._get_video(begun.video_id)
        else:
            video = await self._fill(begun)
        if resume:
            video = await resume.finished(video)
        if self._job.options.on_video is not None:
            returned = self._job.options.on_video(video)
            if isawaitable(returned):
                await returned
        if resume:
            # Last: after a crash before this line, the next run finds the finished video in the journal.
            await resume.delivered()
        return video

    async def _get_video(self, video_id: str) -> Video:
        request = partial(self._context.service.get_video, video_id)
        return await self._context.retries.run(RequestKind.READ, request, what="video")

    async def _fill(self, begun: ResumePoint | None) -> Video:
        if begun is not None:
            job = _resumed(self._job, begun)
            state = TransferState(job, video_id=begun.video_id, received=begun.received, is_resumed=True)
        else:
            job, video_id = await self._create()
            state = TransferState(job, video_id=video_id)
        try:
            return await self._transfer(job, state)
        except UploadFailed as exc:
            exc.resumable, exc.advice = await self._clean_up(state.video_id, fate(exc.__cause__ or exc))
            raise
        except BaseException as exc:
            is_kept, advice = await self._clean_up(state.video_id, Fate.KEEP)
            exc.add_note(advice)  # the advice of the last event
            if self._context.resume and not is_kept and state.video_id:
                log.warning("%s: %s", self._job.source.name, advice)
            raise

    async def _transfer(self, job: Job, state: TransferState) -> Video:
        if self._context.resume and state.video_id:
            await self._context.resume.record(
                state.video_id,
                ranges=job.options.ranges,
                part_bytes=job.plan.part_bytes,
                received=state.received,
            )
        return await Transfer(job, self._context, state).run()

    async def _create(self) -> tuple[Job, str | None]:
        """A container, and a plan that fits the account's rate limit. An upload token creates no container yet."""
        job = self._fitted(self._job)
        video_id = self._job.options.video_id
        if video_id is None and not self._context.service.delegated:
            video_id = await self._container.create(job.payload, job.plan)
        # The response to the creation contains the rate limit, so fit again; unless the container's marks already
        # contain the plan.
        is_marked = self._context.resume is not None and self._context.resume.is_marked
        return (job if is_marked else self._fitted(job)), video_id

    def _fitted(self, job: Job) -> Job:
        allowance = self._context.retries.limiter.allowance()
        return replace(job, plan=fit(job.plan, allowance, files=job.slots.active_uploads))

    async def _clean_up(self, video_id: str | None, fate: Fate) -> tuple[bool, str]:
        """Keep or delete the container of an upload that ended without a video.

        :returns: whether the upload can be resumed, and a sentence about the container
        """
        is_kept = fate is Fate.KEEP and self._context.resume is not None
        if is_kept and self._context.can_resume:
            return True, failures.RESUMABLE
        if self._context.resume:
            await self._context.resume.forget()
        if video_id is None:
            return False, ""
        return False, (failures.NO_JOURNAL if is_kept else "") + await self._discard(video_id, fate)

    async def _discard(self, video_id: str, fate: Fate) -> str:
        """Delete a container that can no longer be used, if that is allowed; returns a sentence about it."""
        if fate is Fate.GONE:
            return failures.GONE
        if fate is Fate.LEAVE or self._context.service.delegated or self._job.options.video_id is not None:
            return failures.KEPT
        return failures.DELETED if await self._container.discard(video_id) else failures.NOT_DELETED


def _ended_by(error: BaseException) -> UploadEnded:
    """The last event of an upload that failed or was cancelled."""
    is_error = isinstance(error, Exception)
    advice = getattr(error, "advice", "") or "".join(getattr(error, "__notes__", ()))
    return UploadEnded(
        video_id=getattr(error, "video_id", None),
        error=str(error) if is_error else "cancelled",
        error_type=error_type(error) if is_error else None,
        resumable=failures.RESUMABLE in advice,
        advice=advice,
    )


def _resumed(job: Job, begun: ResumePoint) -> Job:
    """The job with the part size and the ranges that the earlier run used."""
    plan = replace(job.plan, part_bytes=begun.part_bytes)
    return replace(job, plan=plan, options=replace(job.options, ranges=begun.ranges))
