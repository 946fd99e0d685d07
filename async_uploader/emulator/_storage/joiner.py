"""Joins the parts of videos to sources, in the background."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from .source_file import JoiningStopped

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .shortage_reporter import ShortageReporter
    from .video import Video
    from .workers import Workers

# A response must not take longer than clients wait for it. Joining continues after this time.
MAX_RESPONSE_DELAY_SECONDS: Final = 5.0
logger = logging.getLogger("async_uploader.emulator")


class Joiner:
    """Starts at most one join per video.

    :param save: writes a video's container to the data directory
    :param on_finished: called with each video whose source is complete
    :ivar max_response_delay_seconds: how long the response to the last part waits for its join
    """

    def __init__(
        self,
        workers: Workers,
        shortages: ShortageReporter,
        save: Callable[[Video], Awaitable[None]],
        on_change: Callable[[], None],
        on_finished: Callable[[Video], None],
    ) -> None:
        self.max_response_delay_seconds = MAX_RESPONSE_DELAY_SECONDS
        self._on_finished = on_finished
        self._workers = workers
        self._shortages = shortages
        self._save = save
        self._on_change = on_change

    def start(self, video: Video) -> None:
        """Join the parts that can be joined, unless this is running or done."""
        if not video.is_finished and (video.join_task is None or video.join_task.done()):
            video.join_error = None
            video.join_task = self._workers.start_task(self._join(video))

    def retry(self, video: Video) -> None:
        """Join again if the last attempt failed."""
        if video.join_error is not None:
            self.start(video)

    async def wait(self, video: Video) -> None:
        """Wait until the source is one file, for at most `max_response_delay_seconds`.

        :raises OSError: joining failed. If possible, the completing part was deleted, so that it can be sent
            again.
        """
        try:
            if video.join_task is not None:
                await asyncio.wait([video.join_task], timeout=self.max_response_delay_seconds)
            if video.join_error is not None:
                raise video.join_error
        finally:
            video.completing = None

    async def wait_until_joined(self, video: Video) -> None:
        """Wait while the parts of a complete upload are being joined, however long that takes."""
        if video.upload.is_complete and video.join_task is not None:
            await asyncio.wait([video.join_task])

    async def _join(self, video: Video) -> None:
        try:
            await self._join_stored(video)
        except JoiningStopped:
            pass
        except OSError as error:
            if not video.is_deleted:
                await self._handle_failure(video, error)

    async def _join_stored(self, video: Video) -> None:
        upload = video.upload
        while not video.is_deleted and (part := upload.next_to_join()):
            await self._workers.run_join(video.source.append, part, upload.joined_bytes)
            upload.mark_joined(part)
        if not upload.is_complete or video.is_deleted:
            return
        await self._workers.run_join(video.source.hash_up_to, upload.joined_bytes)
        video.container.size_bytes = upload.joined_bytes
        video.container.sha256 = video.source.sha256()
        self._shortages.clear()
        self._on_change()
        self._on_finished(video)
        try:
            await self._save(video)
        except OSError as error:  # the parts are saved, so the next start hashes them again
            logger.warning("Cannot save that video %s is finished: %s", video.container.video_id, error)

    async def _handle_failure(self, video: Video, error: OSError) -> None:
        """Delete the completing part, then set `join_error`: until then, the video accepts no other part."""
        upload, part = video.upload, video.completing
        if upload.is_complete:
            if await self._shortages.report(error) is None:
                logger.warning("Cannot join the parts of video %s: %s", video.container.video_id, error)
            if part is not None:
                with suppress(OSError):
                    if await self._workers.run_join(video.source.remove_part, part, upload.joined_bytes):
                        upload.remove_stored(part)
        video.join_error = error
        self._on_change()
