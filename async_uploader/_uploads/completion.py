"""Waits until the service has assembled the video, and verifies it.

Every part can be accepted, and yet no video result (contract: "Where the sources are silent"). So the status of a
video of several parts is read. For a single part, the response that contains the video is sufficient.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

import anyio

from async_uploader._models import Video
from async_uploader._outcome import is_complete
from async_uploader.events import Operation, RequestKind

from . import errors
from .job import Context, Job
from .state import TransferState

T = TypeVar("T")

# The first status request is early, because most videos are assembled immediately. The interval then doubles.
_FIRST_INTERVAL_SECONDS: Final = 0.1
_MAX_INTERVAL_SECONDS: Final = 5.0


class Completion:
    """The last step of a transfer, after every part was accepted."""

    def __init__(self, job: Job, context: Context, state: TransferState) -> None:
        self._job = job
        self._context = context
        self._state = state

    async def run(self) -> Video:
        """Wait until the service has assembled the video, check its size if in doubt, and return it.

        :raises ConflictError: the service assembled a video of another size
        :raises UploaderError: the video was not assembled within ``stall_timeout``
        """
        if self._context.service.delegated:
            return await self._from_responses()
        if self._state.video is not None and self._state.progress.parts_total == 1:
            return self._state.video
        video_id = self._state.video_id
        assert video_id is not None
        await self._wait_until_assembled(video_id)
        if self._state.video is not None:
            return self._state.video
        return await self._read(Operation.VIDEO, partial(self._context.service.get_video, video_id))

    async def _from_responses(self) -> Video:
        """With an upload token, the status cannot be read: a response must have reported completion."""
        if self._state.video is not None:
            return self._state.video
        if self._state.is_reported_complete:
            return Video.from_response({"videoId": self._state.video_id})
        if self._state.is_resumed and self._context.resume:
            # A part is missing that the journal lists as acknowledged. The next run sends every part again.
            await self._context.resume.forget_parts()
        raise errors.no_finished_video()

    async def _wait_until_assembled(self, video_id: str) -> None:
        interval_seconds = _FIRST_INTERVAL_SECONDS
        # Not a point in time: the process may have been stopped (Ctrl-Z).
        waited_seconds = 0.0
        total_bytes = self._state.progress.total_bytes
        while True:
            status = await self._read(Operation.STATUS, partial(self._context.service.get_status, video_id))
            is_assembled = is_complete(status, total_bytes=total_bytes)
            if is_assembled:
                return
            if is_assembled is False:
                raise errors.wrong_size(status, total_bytes)
            if waited_seconds >= self._job.options.stall_timeout:
                raise errors.incomplete(status)
            await anyio.sleep(interval_seconds)
            waited_seconds += interval_seconds
            interval_seconds = min(interval_seconds * 2, _MAX_INTERVAL_SECONDS)

    async def _read(self, operation: Operation, request: Callable[[], Awaitable[T]]) -> T:
        return await self._context.retries.run(RequestKind.READ, request, operation=operation)
