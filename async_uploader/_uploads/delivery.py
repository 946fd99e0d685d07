"""Delivers one part: sends it until the service has stored it, and records that.

After an attempt with an unknown outcome, the video's status is read first, so that no byte is sent twice. A retry
is sent with ``Expect: 100-continue``, so that the service can refuse it before the body is sent. :mod:`._outcome`
defines what each response means.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

import anyio

from async_uploader._api.part_request import PartRequest
from async_uploader._api.responses import PartResponse
from async_uploader._api.service import byte_range, part_range
from async_uploader._errors import ApiError, SlowConnectionError, UploaderError
from async_uploader._flow.throughput import BodyInTransit
from async_uploader._options import MAX_CONCURRENCY
from async_uploader._outcome import ALREADY_COMPLETE, Outcome, classify, is_complete, received_parts
from async_uploader._sources.protocol import PartSource
from async_uploader.events import Bound, Operation, RequestKind

from . import errors
from .attempt import PartAttempt
from .job import Context, Job
from .state import TransferState

log: Final = logging.getLogger("async_uploader")

# Waits before each status request, while the service may still be storing the part.
_STORING_SECONDS: Final = (0.0, 0.1, 0.4, 1.5)


class PartDelivery:
    """Delivers one part. Call :meth:`acquire_slot`, then :meth:`run`.

    A part is in flight while it holds an upload slot. It gives the slot back during the backoff before a retry.
    """

    def __init__(self, source: PartSource, *, job: Job, context: Context, state: TransferState) -> None:
        self._source = source
        self._part = source.part
        self._job = job
        self._context = context
        self._state = state
        self._has_slot = False
        self._attempts = 0
        self._attempt_in_progress: PartAttempt | None = None
        #: What it waits for, unless a body is in transit.
        self.waits_for: Bound = Bound.OTHER_UPLOADS
        # An earlier attempt may have stored the part: a refusal as a duplicate then means success.
        self._maybe_received = state.is_resumed
        # An attempt of this delivery ended with an unknown outcome.
        self._is_unknown = False

    @property
    def body(self) -> BodyInTransit | None:
        """The body that is being sent."""
        return self._attempt_in_progress.body if self._attempt_in_progress is not None else None

    async def acquire_slot(self) -> None:
        """Wait until the upload is not paused, and one more part may be in flight."""
        if (control := self._job.options.control) is not None:
            self.waits_for = Bound.PAUSE
            await control.wait_until_resumed()
        self.waits_for = Bound.OTHER_UPLOADS
        await self._job.slots.acquire(self)
        self._has_slot = True
        self.waits_for = Bound.SERVICE

    def _release_slot(self) -> None:
        if self._has_slot:
            self._has_slot = False
            self._job.slots.release(self)

    async def run(self) -> None:
        """Send the part until it is stored, record it, and release the slot.

        :raises UploaderError: the part cannot be delivered
        """
        self._state.deliveries.add(self)
        try:
            await self._record(await self._send_with_retries())
        finally:
            self._state.deliveries.discard(self)
            self._release_slot()

    async def _send_with_retries(self) -> PartResponse | None:
        try:
            return await self._context.retries.retry(
                self._attempt,
                operation=Operation.PART,
                part_number=self._part.number,
                progress=lambda: self._state.progress.acknowledged_bytes,
                sleep=self._back_off,
            )
        except Exception:
            self._state.failed_part = self._state.failed_part or self._part
            raise

    async def _back_off(self, seconds: float) -> None:
        """Wait before a retry. Other parts, or other uploads, can use the slot meanwhile."""
        self._release_slot()
        self.waits_for = Bound.BACKOFF
        await anyio.sleep(seconds)
        await self.acquire_slot()

    async def _wait_while_paused(self) -> None:
        """Wait while the upload is paused. Other uploads can use the slot meanwhile."""
        if (control := self._job.options.control) is not None and control.is_paused:
            self._release_slot()
            await self.acquire_slot()

    async def _attempt(self) -> PartResponse | None:
        """Make one attempt; returns None if the service already has the part."""
        await self._wait_while_paused()
        if (self._is_unknown or self._state.has_other_senders) and await self._is_received():
            log.info("%s was already stored.", self._name)
            return None
        self._attempts += 1
        attempt = PartAttempt(
            self._part,
            self._attempts,
            events=self._context.events,
            progress=self._state.progress,
            meter=self._job.slots.meter,
            # Without a video id, an interrupted request may have created a video.
            can_be_replaced=self._state.video_id is not None,
        )
        send = partial(self._send, attempt)
        rate_limited = self._job.slots.rate_limited.incremented()
        try:
            self.waits_for = Bound.SOURCE
            async with self._source.prefetch():  # a slow source does not hold a turn in the rate limit
                self.waits_for = Bound.RATE_LIMIT
                response = await self._context.retries.run_once(RequestKind.UPLOAD, send, waiting=rate_limited)
        except UploaderError as exc:
            if await self._is_stored_despite(exc, attempt):
                return None
            raise
        except BaseException:
            attempt.end(None)
            raise
        attempt.end(Outcome.STORED)
        return response

    async def _send(self, attempt: PartAttempt) -> PartResponse:
        attempt.begin()
        self.waits_for, self._attempt_in_progress = Bound.SERVICE, attempt
        request = PartRequest(
            source=self._source,
            content_range=self._content_range(),
            filename=self._job.source.name,
            video_id=self._state.video_id,
            expect_continue=self._attempts > 1 or self._may_have_been_sent(),
            wait_while_paused=self._wait_while_paused if self._job.options.control is not None else None,
        )
        with self._state.sending.incremented():
            return await self._context.service.send_part(request, attempt)

    def _content_range(self) -> str:
        if self._job.options.ranges == "part":
            return part_range(self._part)
        total_bytes = self._job.plan.total_bytes
        assert total_bytes is not None, "the client refuses byte ranges of a stream of unknown size"
        return byte_range(self._part, total_bytes)

    def _may_have_been_sent(self) -> bool:
        """Whether an earlier process may have sent the part, and the upload token cannot read the status.

        A process sends parts in order, so it cannot have sent parts beyond the last received one plus its
        concurrency.
        """
        state = self._state
        if not (state.is_resumed and self._context.service.delegated):
            return False
        return not state.received or self._part.number <= max(state.received) + MAX_CONCURRENCY

    async def _is_received(self) -> bool:
        """Whether the service has the part, by its status; False with an upload token, which cannot read it."""
        service, video_id = self._context.service, self._state.video_id
        if service.delegated or video_id is None:
            return False
        status = await self._context.retries.run_once(RequestKind.READ, partial(service.get_status, video_id))
        return bool(
            is_complete(status, total_bytes=self._state.progress.total_bytes)
            or received_parts(status, [self._part], ranges=self._job.options.ranges)
        )

    async def _is_sent_by_others(self) -> bool:
        """Whether another process has sent the part, which the service has just refused as a duplicate.

        The service may refuse a part that it is still storing, and list it a moment later.
        """
        for seconds in _STORING_SECONDS:
            await anyio.sleep(seconds)
            if await self._is_received():
                return True
        return False

    async def _is_stored_despite(self, error: UploaderError, attempt: PartAttempt) -> bool:
        """Classify the error of an attempt. Returns True if it means that the part is already stored.

        :raises ConflictError: another program writes to the video, or a retry could create a second video
        """
        self._state.progress.discard_sent(self._part.number)
        outcome = classify(error, maybe_received=self._maybe_received)
        if outcome is Outcome.CONFLICT and self._state.is_shared and await self._is_sent_by_others():
            outcome = Outcome.STORED
        attempt.end(outcome, error)
        match outcome:
            case Outcome.STORED:
                log.info("%s was already stored.", self._name)
                self._state.has_other_senders |= self._state.is_shared
                self._state.is_reported_complete |= isinstance(error, ApiError) and error.slug == ALREADY_COMPLETE
                return True
            case Outcome.CONFLICT:
                raise errors.foreign_writer(error) from error
            case Outcome.UNKNOWN if self._state.video_id is None and self._part.last:
                raise errors.possible_second_video(error) from error
        if not isinstance(error, SlowConnectionError):
            self._job.slots.connection_failed()
        self._is_unknown |= outcome is Outcome.UNKNOWN
        self._maybe_received |= self._is_unknown
        return False

    async def _record(self, response: PartResponse | None) -> None:
        state, part = self._state, self._part
        state.progress.acknowledge(part.number, part.size_bytes)
        self._context.retries.limiter.part_stored(part.size_bytes)
        parts_done, parts_total = state.progress.parts_done, state.progress.parts_total
        log.info("%s: stored (%s of %s).", self._name, parts_done, parts_total or "?")
        self._source.release()
        # Only the response to the request that completes the video contains it. Any part can be in that request.
        video = response.video if response is not None else None
        state.video = video or state.video
        if response is not None and state.video_id is None:
            await self._record_container(response)
        elif self._context.resume:
            await self._context.resume.record_part(part.number, video)

    async def _record_container(self, response: PartResponse) -> None:
        """The first part of an upload token has created the container."""
        if response.video_id is None:
            raise errors.no_video_id()
        self._state.video_id = response.video_id
        if self._context.resume:
            await self._context.resume.record_container(
                response.video_id,
                ranges=self._job.options.ranges,
                part_bytes=self._job.plan.part_bytes,
                received=frozenset({self._part.number}),
                video=response.video,
            )
        self._context.events.emit(self._state.container_ready(can_resume=self._context.can_resume))

    @property
    def _name(self) -> str:
        return f"{self._job.source.name}, part {self._part.number}"
