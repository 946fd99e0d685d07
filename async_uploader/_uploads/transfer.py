"""Sends all parts into one container: runs the workers, and keeps the first error.

Everything that an upload does concurrently is in the one task group of this module. The first failure cancels the
rest, and exactly one error is raised, never an exception group.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial

import anyio

from async_uploader._cancelled import is_being_cancelled
from async_uploader._models import Video
from async_uploader._progress import ProgressReporter
from async_uploader._sources.protocol import PartSource
from async_uploader.events import Bound, ConcurrencyChanged

from . import errors
from .completion import Completion
from .delivery import PartDelivery
from .job import Context, Job
from .source_checksum import SourceChecksum
from .state import TransferState


class Transfer:
    """Sends all parts into one container, and returns the finished video."""

    def __init__(self, job: Job, context: Context, state: TransferState) -> None:
        self._job = job
        self._context = context
        self._state = state
        self._next_part = anyio.Lock(fast_acquire=True)
        self._scope = anyio.CancelScope()
        self._failure: Exception | None = None
        self._video: Video | None = None
        self._checksum = SourceChecksum(job, context, follows=True) if job.options.checksum else None

    async def run(self) -> Video:
        """Send every part, wait until the video is complete, and return it.

        :raises UploadFailed: the transfer failed; the cause is chained
        """
        reporter = ProgressReporter(self._state.progress, self._job.options.on_progress)
        if self._state.video_id is not None:
            self._context.events.emit(self._state.container_ready(can_resume=self._context.can_resume))
        limiter, slots = self._context.retries.limiter, self._job.slots
        with (
            self._scope,
            limiter.counting_demand(lambda: self._state.parts_waiting),
            slots.adapting(self._on_concurrency),
        ):
            async with anyio.create_task_group() as group:
                if self._job.options.on_progress is not None:
                    group.start_soon(self._guarded, reporter.run)
                if self._checksum is not None:
                    group.start_soon(self._guarded, self._checksum.run)
                await self._guarded(self._fill)
        await self._guarded(reporter.report)
        if self._failure is not None:
            raise errors.upload_failed(self._failure, self._state) from self._failure
        assert self._video is not None
        return self._video

    async def _guarded(self, step: Callable[[], Awaitable[None]]) -> None:
        """Run a step. An error becomes the transfer's failure, if it is the first one, and cancels everything."""
        try:
            await step()
        except asyncio.CancelledError as exc:
            if is_being_cancelled(exc):
                raise
            error = errors.cancelled_callback()
            error.__cause__ = exc
            self._fail(error)
        except Exception as exc:  # noqa: BLE001 - run() raises an error that is caused by it
            self._fail(exc)

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        self._scope.cancel()

    def _on_concurrency(self, concurrency: int) -> None:
        try:
            self._context.events.emit(ConcurrencyChanged(concurrency=concurrency))
        except Exception as exc:  # noqa: BLE001 - one upload's listener must not fail the upload that adapts for all
            self._fail(exc)

    async def _fill(self) -> None:
        await self._send_all()
        self._video = await Completion(self._job, self._context, self._state).run()
        if self._checksum is not None:
            self._checksum.allow(math.inf)
            self._state.sha256 = await self._checksum.hexdigest()
        self._scope.cancel()

    async def _send_all(self) -> None:
        async with aclosing(self._job.source.parts(self._job.plan, received=self._state.received)) as parts:
            if self._state.video_id is None:
                # Two first parts would create two videos: the first part goes alone and returns the videoId.
                await self._deliver_next(parts)
            # No more workers than parts: most files of a large batch have one part.
            concurrency = self._job.plan.concurrency
            count = min(concurrency, self._state.parts_left or concurrency)
            with self._job.slots.ready_workers.incremented(count):
                if count == 1:
                    await self._work(parts)
                    return
                async with anyio.create_task_group() as workers:
                    for _ in range(count - 1):
                        workers.start_soon(self._guarded, partial(self._work, parts))
                    await self._guarded(partial(self._work, parts))

    async def _work(self, parts: AsyncGenerator[PartSource, None]) -> None:
        with suppress(StopAsyncIteration):
            while True:
                await self._deliver_next(parts)

    async def _deliver_next(self, parts: AsyncGenerator[PartSource, None]) -> None:
        delivery = await self._next_delivery(parts)
        await delivery.run()

    async def _next_delivery(self, parts: AsyncGenerator[PartSource, None]) -> PartDelivery:
        """Wait for the next part and for an upload slot.

        The lock admits one worker at a time, so that parts are sent in order and at most one is read ahead.
        """
        async with self._next_part:
            self._state.next_part_waits_for = Bound.SOURCE
            try:
                source = await anext(parts)
            finally:
                self._state.next_part_waits_for = None
            part, progress = source.part, self._state.progress
            if self._checksum is not None:
                self._checksum.allow(part.number)
            if progress.parts_total is None and part.last:
                progress.set_totals(total_bytes=part.end, parts_total=part.number)
            delivery = PartDelivery(source, job=self._job, context=self._context, state=self._state)
            self._state.next_part_waits_for = Bound.OTHER_UPLOADS
            await delivery.acquire_slot()
            self._state.next_part_waits_for = None
            return delivery
