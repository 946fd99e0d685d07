"""One upload: create or resume a container, fill it, and keep or delete the container after a failure.

==============================================  =================  ===========================
how the upload ended                            can be resumed     the container
==============================================  =================  ===========================
finished                                        (any)              is the video
the service refuses this source                 (any)              is deleted
the source has changed                          (any)              is deleted
another program writes to the container         (any)              is left unchanged
the container no longer exists                  (any)              is removed from the journal
cancelled, or any other failure                 yes                is kept
cancelled, or any other failure                 no                 is deleted
==============================================  =================  ===========================

:func:`._outcome.container_fate` maps errors to these rows. An upload can be resumed if ``resume`` is on and a
later run can find the container: by the journal or its marks (:attr:`._resume.session.ResumeSession.can_resume`).

A container that the caller named (``video_id``) is never deleted. An upload token cannot delete any.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from async_uploader._errors import ConflictError, UploaderError, UploadFailed
from async_uploader._models import Video
from async_uploader._outcome import Fate, container_fate
from async_uploader._plan import fit_to_allowance
from async_uploader.events import (
    ContainerState,
    Operation,
    RequestKind,
    UploadBegan,
    UploadEnded,
    UploadOutcome,
)

from . import errors
from .container import Container
from .job import Context, Job
from .sidecar_delivery import SidecarDelivery
from .source_checksum import record_sha256, sha256_of
from .state import TransferState
from .transfer import Transfer

if TYPE_CHECKING:
    from async_uploader._resume.points import ResumePoint

    from .measurement import Measurement

log: Final = logging.getLogger("async_uploader")

# Another process may delete the container because there is an older one. After this many, there is another cause.
_MAX_CONTAINERS: Final = 4


class Upload:
    """One upload, from its container to its verified video."""

    def __init__(self, job: Job, context: Context) -> None:
        self._job = job
        self._context = context
        self._container = Container(context)
        # What happened to the container of an upload that failed or was cancelled, and a sentence about it.
        self._container_state: ContainerState | None = None
        self._advice = ""
        # An earlier run, or another process, has uploaded the video.
        self._was_complete = False
        # Of the bytes that this run has sent, with `checksum`.
        self._sha256: str | None = None
        self._measurement = _measurement(job) if context.events.is_measured else None

    async def run(self) -> Video:
        """Upload the source, and emit the first and the last event.

        :raises ApiError: the container could not be created
        :raises TransportError: the container could not be created
        :raises UploadFailed: the container exists, but filling it failed
        """
        plan, slots, events = self._job.plan, self._job.slots, self._context.events
        if self._measurement is not None:
            self._measurement.begin(events)
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
            self._report_measurement()
            events.emit(self._ended_by(exc))
            raise
        self._report_measurement()
        is_recorded = self._context.resume is not None and self._context.resume.is_recorded
        events.emit(
            UploadEnded(video_id=video.video_id, outcome=UploadOutcome.FINISHED, error=None, resumable=is_recorded)
        )
        return video

    def _report_measurement(self) -> None:
        if self._measurement is not None:
            self._context.events.emit(self._measurement.end())

    async def _upload_or_resume(self) -> Video:
        resume = self._context.resume
        video = await self._find_or_fill()
        if self._job.options.checksum:
            video = await self._with_checksum(video)
        finished = await resume.finish(video) if resume else video
        if sidecars := self._job.options.sidecars:
            await SidecarDelivery(
                sidecars, self._context, video_id=video.video_id, is_new=not self._was_complete
            ).run()
        if self._job.options.on_video is not None:
            returned = self._job.options.on_video(finished)
            if isawaitable(returned):
                await returned
        # This is the last step: after an earlier crash, the next run finds the finished video.
        return await resume.deliver(video) if resume else video

    async def _with_checksum(self, video: Video) -> Video:
        """The video with the SHA-256 of the source in its metadata."""
        if self._sha256 is None and video.sha256 is None:
            # An earlier run has sent everything, but it was interrupted, or did not compute the checksum.
            video = await self._get_video(video.video_id)
        if self._sha256 is None and video.sha256 is not None:
            return video
        return await record_sha256(video, self._sha256 or await sha256_of(self._job, self._context), self._context)

    async def _find_or_fill(self) -> Video:
        """The video. Starts again with another container if this one is deleted because there is an older one."""
        resume = self._context.resume
        for _ in range(_MAX_CONTAINERS - 1):
            try:
                return await self._fill(await resume.find_resume_point() if resume else None)
            except UploadFailed as exc:
                is_replaced = self._is_shared and self._job.options.video_id is None
                if not is_replaced or self._container_state is not ContainerState.MISSING:
                    raise
                log.info("%s: video %s was deleted; looking for another one.", self._job.source.name, exc.video_id)
        return await self._fill(await resume.find_resume_point() if resume else None)

    @property
    def _is_shared(self) -> bool:
        return self._context.resume is not None and self._context.resume.is_shared

    async def _fill(self, point: ResumePoint | None) -> Video:
        if point is not None:
            return await self._continue(point)
        job, video_id = await self._create()
        state = TransferState(job, video_id=video_id, is_shared=self._is_shared)
        winner: ResumePoint | None = None
        async with self._cleaning_up(state):
            if self._context.resume and video_id is not None:
                winner = await self._settle(video_id, state)
            if winner is None:
                return await self._transfer(job, state)
        return await self._continue(winner)

    async def _settle(self, video_id: str, state: TransferState) -> ResumePoint | None:
        assert self._context.resume is not None
        try:
            return await self._context.resume.settle(video_id)
        except ConflictError:  # the key belongs to another source: this upload has no container
            raise
        except UploaderError as exc:
            raise errors.upload_failed(exc, state) from exc

    async def _continue(self, point: ResumePoint) -> Video:
        if point.is_complete:
            self._was_complete = True
            return point.video or await self._get_video(point.video_id)
        job = _resumed(self._job, point, is_shared=self._is_shared)
        state = TransferState(
            job, video_id=point.video_id, received=point.received, is_resumed=True, is_shared=self._is_shared
        )
        async with self._cleaning_up(state):
            return await self._transfer(job, state)

    async def _get_video(self, video_id: str) -> Video:
        request = partial(self._context.service.get_video, video_id)
        return await self._context.retries.run(RequestKind.READ, request, operation=Operation.VIDEO)

    @asynccontextmanager
    async def _cleaning_up(self, state: TransferState) -> AsyncIterator[None]:
        """Keep or delete the container if the block fails, and tell the caller."""
        try:
            yield
        except UploadFailed as exc:
            await self._clean_up(state.video_id, container_fate(exc.__cause__ or exc), is_failed=True)
            exc.resumable, exc.advice = self._is_resumable, self._advice
            raise
        except ConflictError:  # by `_settle`
            raise
        except BaseException as exc:
            await self._clean_up(state.video_id, Fate.KEEP)
            exc.add_note(self._advice)
            if self._context.resume and not self._is_resumable and state.video_id:
                log.warning("%s: %s", self._job.source.name, self._advice)
            raise

    async def _transfer(self, job: Job, state: TransferState) -> Video:
        if self._context.resume and state.video_id:
            await self._context.resume.record_container(
                state.video_id,
                ranges=job.options.ranges,
                part_bytes=job.plan.part_bytes,
                received=state.received,
            )
        if self._measurement is not None:
            self._measurement.follow(state)
        video = await Transfer(job, self._context, state).run()
        self._sha256 = state.sha256
        return video

    async def _create(self) -> tuple[Job, str | None]:
        """A container, and a plan that fits the account's rate limit. An upload token creates no container yet."""
        job = self._fitted(self._job)
        video_id = self._job.options.video_id
        if video_id is None and not self._context.service.delegated:
            video_id = await self._container.create(job.payload, job.plan)
        # The response to the creation contains the rate limit, so the plan is fitted again, unless the container's
        # metadata already contains it.
        return (job if self._is_shared else self._fitted(job)), video_id

    def _fitted(self, job: Job) -> Job:
        if job.plan.parts_total == 1:
            return job
        allowance = self._context.retries.limiter.allowance()
        return replace(job, plan=fit_to_allowance(job.plan, allowance, files=job.slots.active_uploads))

    async def _clean_up(self, video_id: str | None, fate: Fate, *, is_failed: bool = False) -> None:
        """Keep or delete the container of an upload that ended without a video."""
        is_kept = fate is Fate.KEEP and self._context.resume is not None
        if is_kept and self._context.can_resume:
            self._container_state = ContainerState.KEPT
        else:
            if self._context.resume:
                await self._context.resume.forget()
            if video_id is not None:
                self._container_state = await self._discard(video_id, fate, is_failed=is_failed)
        if self._container_state is not None:
            self._advice = errors.ADVICE[self._container_state]
            if is_kept and not self._is_resumable:
                self._advice = errors.NO_JOURNAL + self._advice

    async def _discard(self, video_id: str, fate: Fate, *, is_failed: bool) -> ContainerState:
        """Delete a container that can no longer be used, if that is allowed."""
        if fate is Fate.GONE:
            return ContainerState.MISSING
        if fate is Fate.LEAVE or self._context.service.delegated or self._job.options.video_id is not None:
            return ContainerState.UNCHANGED
        is_deleted = await self._container.discard(video_id, is_failed=is_failed)
        return ContainerState.DELETED if is_deleted else ContainerState.NOT_DELETED

    @property
    def _is_resumable(self) -> bool:
        return self._container_state is ContainerState.KEPT

    def _ended_by(self, exc: BaseException) -> UploadEnded:
        """The last event of an upload that failed or was cancelled."""
        error = exc if isinstance(exc, Exception) else None
        return UploadEnded(
            video_id=getattr(exc, "video_id", None),
            outcome=UploadOutcome.FAILED if error else UploadOutcome.CANCELLED,
            error=error,
            resumable=self._is_resumable or bool(getattr(exc, "resumable", False)),
            container=self._container_state,
            advice=self._advice,
        )


def _measurement(job: Job) -> Measurement:
    from .measurement import Measurement  # noqa: PLC0415 - few uploads are measured

    return Measurement(job)


def _resumed(job: Job, point: ResumePoint, *, is_shared: bool) -> Job:
    """The job with the part size and the ranges that the earlier run used.

    :param is_shared: another process may be sending the parts in order at the same time
    """
    plan = replace(job.plan, part_bytes=point.part_bytes, is_shuffled=is_shared)
    return replace(job, plan=plan, options=replace(job.options, ranges=point.ranges))
