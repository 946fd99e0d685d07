"""The container of one upload: created once, and not left unknown, whatever happens meanwhile.

``POST /videos`` is not idempotent, and its response can be lost: to a broken connection, to cancellation, to
kill -9. So that the container is found all the same, an upload that resumes lets it carry marks, or an intent
that the journal knows (:mod:`._resume`). Without ``resume`` only cancellation is taken care of.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import anyio
from msgspec import Struct
from msgspec.structs import replace

from async_uploader._api.service import Service
from async_uploader._errors import UploaderError
from async_uploader._flow.rate_limit import RequestKind
from async_uploader._flow.retries import RetryRunner
from async_uploader._models import Video
from async_uploader._outcome import is_gone, may_have_acted
from async_uploader._plan import Plan

if TYPE_CHECKING:
    from async_uploader._resume.resume import Resume

log: Final = logging.getLogger("async_uploader")

# Cancellation must stop within a second, the last request included.
_DISCARD_SECONDS: Final = 0.5
# The same for two requests: the response to the creation is awaited, then the container is deleted.
_UNDO_SECONDS: Final = 0.9
# A cancelled request ends at once; a loaded machine may need a moment.
_END_SECONDS: Final = 0.1


class Container(Struct, frozen=True, kw_only=True):
    """Creates and deletes the container of one upload.

    :param resume: makes the container known to later runs; None if there are none
    """

    service: Service
    pacing: RetryRunner
    resume: Resume | None

    async def create(self, payload: Mapping[str, Any], plan: Plan) -> str:
        """Create the container, or find the one that an earlier attempt or process has created.

        :returns: its id
        :raises ApiError, TransportError: the service refused, or gave no response
        """
        if self.resume is None:
            return await self._created_with_retries(payload)
        if (adopted := await self.resume.adopt()) is not None:
            return adopted
        metadata = [*payload.get("metadata", []), *await self.resume.announce(plan)]
        return await self._created_with_retries({**payload, "metadata": metadata} if metadata else payload)

    async def _created_with_retries(self, payload: Mapping[str, Any]) -> str:
        was_tried = maybe_made = False

        async def attempt() -> str:
            nonlocal was_tried, maybe_made
            if was_tried and self.resume and (made := await self.resume.made()) is not None:
                return made  # the request succeeded; only its response was lost
            was_tried = True
            try:
                return await self._created(payload)
            except UploaderError as exc:
                maybe_made |= may_have_acted(exc)
                raise

        try:
            return await self.pacing.run(RequestKind.WRITE, attempt, what="create")
        except UploaderError:
            if self.resume and not maybe_made:
                await self.resume.withdraw()
            raise

    async def _created(self, payload: Mapping[str, Any]) -> str:
        """One request, in a task of its own: cancellation waits for its response, and deletes what it made."""
        is_sent = False

        def sending() -> None:
            nonlocal is_sent
            is_sent = True

        creating = asyncio.ensure_future(self.service.create_video(payload, on_sending=sending))
        try:
            return (await asyncio.shield(creating)).video_id
        except asyncio.CancelledError:
            try:
                if is_sent:
                    await self._undo(creating)
            finally:
                await _ended(creating)
            raise

    async def _undo(self, creating: asyncio.Future[Video]) -> None:
        """Delete what a request creates that is under way. If that takes too long, an intent finds it later."""
        with anyio.move_on_after(_UNDO_SECONDS, shield=True):
            await asyncio.wait([creating])
            try:
                await self._delete(creating.result().video_id)
            except UploaderError as exc:
                log.info("A video that was just created could not be deleted: %s", exc)
            else:
                if self.resume:
                    await self.resume.withdraw()

    async def discard(self, video_id: str) -> bool:
        """Delete the container within half a second, also when cancelled.

        :returns: whether it is gone
        """
        with anyio.move_on_after(_DISCARD_SECONDS, shield=True):
            try:
                await self._delete(video_id)
            except UploaderError as exc:
                log.info("Video %s could not be deleted: %s", video_id, exc)
                return False
            return True
        return False

    async def _delete(self, video_id: str) -> None:
        # Told to nobody: what a listener raises must not take the place of what ended the upload.
        pacing = replace(self.pacing, teller=None)
        try:
            await pacing.run(RequestKind.WRITE, lambda: self.service.delete_video(video_id), what="delete")
        except UploaderError as exc:
            if not is_gone(exc):  # only the response to an earlier attempt was lost
                raise


async def _ended(creating: asyncio.Future[Video]) -> None:
    """Cancel the request, if it is still under way, and see it end; nothing of it outlives the upload."""
    creating.cancel()
    with anyio.CancelScope(shield=True):
        await asyncio.wait([creating], timeout=_END_SECONDS)
    if creating.done() and not creating.cancelled():
        creating.exception()  # retrieved, or asyncio would complain
