"""Creates and deletes the container of one upload.

Which failures delete it is decided in :mod:`.lifecycle`.

``POST /videos`` is not idempotent, and its response can be lost to a broken connection, to cancellation or to
kill -9. An upload with ``resume`` therefore puts marks, or an intent that is in the journal, into the container's
metadata, and finds the container by them (:mod:`._resume.session`). Without ``resume``, only cancellation is
handled: the container is deleted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import anyio

from async_uploader._errors import TransportError, UploaderError
from async_uploader._models import Video
from async_uploader._outcome import is_not_found, may_have_succeeded
from async_uploader._plan import Plan
from async_uploader.events import Operation, RequestKind

from .job import Context

log: Final = logging.getLogger("async_uploader")

# A cancelled upload must end within a second, its last request included.
_DISCARD_SECONDS: Final = 0.5
# A failed upload has more time: just connecting to a distant service can take half a second.
_FAILED_DISCARD_SECONDS: Final = 3.0
# Time for two requests: to wait for the response to the creation, and to delete the container.
_UNDO_SECONDS: Final = 0.9
# A cancelled request ends immediately; a loaded machine may need a moment.
_CANCEL_SECONDS: Final = 0.1


class Container:
    """Creates and deletes the container of one upload."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._was_requested = False
        self._maybe_created = False

    async def create(self, payload: Mapping[str, Any], plan: Plan) -> str:
        """Create the container, or find the one that an earlier attempt or process created.

        :returns: its videoId
        :raises ApiError: the service refused
        :raises TransportError: there was no response
        """
        resume = self._context.resume
        if resume is not None:
            if (adopted := await resume.find_unused_container()) is not None:
                return adopted
            metadata = [*payload.get("metadata", []), *await resume.prepare_container(plan)]
            payload = {**payload, "metadata": metadata} if metadata else payload
        try:
            attempt = partial(self._find_or_create, payload)
            return await self._context.retries.run(RequestKind.WRITE, attempt, operation=Operation.CREATE)
        except UploaderError:
            if resume and not self._maybe_created:
                await resume.withdraw_intent()
            raise

    async def _find_or_create(self, payload: Mapping[str, Any]) -> str:
        """One attempt. A retry first looks for the container, because only the response may have been lost."""
        resume = self._context.resume
        if self._was_requested and resume and (video_id := await resume.find_created_container()) is not None:
            return video_id
        self._was_requested = True
        try:
            return await self._request(payload)
        except UploaderError as exc:
            self._maybe_created |= may_have_succeeded(exc)
            # Nothing was sent, and looking for a container would only double the time until the upload fails.
            self._was_requested = not (isinstance(exc, TransportError) and exc.unreachable)
            raise

    async def _request(self, payload: Mapping[str, Any]) -> str:
        """Send one request in its own task. If cancelled, wait for its response, and delete the new container."""
        is_sent = False

        def on_sending() -> None:
            nonlocal is_sent
            is_sent = True

        creating = asyncio.ensure_future(self._context.service.create_video(payload, on_sending=on_sending))
        try:
            return (await asyncio.shield(creating)).video_id
        except asyncio.CancelledError:
            try:
                if is_sent:
                    await self._undo(creating)
            finally:
                await _cancelled(creating)
            raise

    async def _undo(self, creating: asyncio.Future[Video]) -> None:
        """Delete the container that a request creates. If this takes too long, the next run finds the intent."""
        with anyio.move_on_after(_UNDO_SECONDS, shield=True):
            await asyncio.wait([creating])
            try:
                await self._delete(creating.result().video_id)
            except UploaderError as exc:
                log.info("The video that was just created could not be deleted: %s", exc)
            else:
                if self._context.resume:
                    await self._context.resume.withdraw_intent()

    async def discard(self, video_id: str, *, is_failed: bool) -> bool:
        """Delete the container within a few seconds; within half a second once the upload is cancelled.

        :param is_failed: the upload has failed, and was not cancelled
        :returns: whether it was deleted
        """
        deleting = asyncio.ensure_future(self._delete(video_id))
        try:
            if is_failed:
                await asyncio.wait([deleting], timeout=_FAILED_DISCARD_SECONDS)
        finally:
            with anyio.CancelScope(shield=True):
                await asyncio.wait([deleting], timeout=_DISCARD_SECONDS)
            await _cancelled(deleting)
        if deleting.cancelled():
            return False
        try:
            deleting.result()
        except UploaderError as exc:
            log.info("Video %s could not be deleted: %s", video_id, exc)
            return False
        return True

    async def _delete(self, video_id: str) -> None:
        # Without events: an exception raised by a listener must not replace the error that ended the upload.
        retries = self._context.retries.without_events()
        request = partial(self._context.service.delete_video, video_id)
        try:
            await retries.run(RequestKind.WRITE, request, operation=Operation.DELETE)
        except UploaderError as exc:
            if not is_not_found(exc):  # an earlier attempt deleted it, and its response was lost
                raise


async def _cancelled(request: asyncio.Future[Any]) -> None:
    """Cancel a request and wait for its end, so that it does not outlive the upload."""
    request.cancel()
    with anyio.CancelScope(shield=True):
        await asyncio.wait([request], timeout=_CANCEL_SECONDS)
    if request.done() and not request.cancelled():
        request.exception()  # retrieved, because asyncio would log it otherwise
