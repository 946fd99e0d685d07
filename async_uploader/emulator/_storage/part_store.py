"""Stores request bodies as the parts of videos."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from async_uploader.emulator._problems import Problem
from async_uploader.emulator._rules import ContentRange, ReceivedPart, WholeFile, check_content_range, check_size

from .data_directory import link_or_copy
from .part_file import PartFile
from .source_file import part_file_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .data_directory import DataDirectory
    from .joiner import Joiner
    from .part_file import Buffer
    from .shortage_reporter import ShortageReporter
    from .video import Video
    from .workers import Workers


class PartStore:
    """Writes part files, and adds them to uploads."""

    def __init__(
        self,
        directory: DataDirectory,
        workers: Workers,
        joiner: Joiner,
        shortages: ShortageReporter,
        on_change: Callable[[], None],
    ) -> None:
        self._directory = directory
        self._workers = workers
        self._joiner = joiner
        self._shortages = shortages
        self._on_change = on_change

    def create_file(self, expected_bytes: int | None = None) -> PartFile:
        """Create a file for a body of at most `expected_bytes`; None if its length is unknown."""
        return PartFile(self._directory.incoming, self._directory.space, expected_bytes)

    async def write(self, file: PartFile, buffers: list[Buffer]) -> None:
        await self._workers.run_body(file.write, buffers)

    def discard(self, file: PartFile) -> None:
        self._workers.submit_body(file.discard)

    def add(
        self,
        video: Video,
        content_range: ContentRange,
        file: PartFile,
        size_bytes: int,
        *,
        waits_for_join: bool = False,
    ) -> Awaitable[bool]:
        """Check a received body again, and add it to the video as a part.

        Other requests may have stored parts while the body was received. The check and the reservation happen in
        the same step of the event loop. From then on, the store owns the file, and cancelling the caller has no
        effect: the part is either received or refused.

        :param waits_for_join: the caller calls `Joiner.wait` if this completes the upload; if joining fails until
            then, the part is not kept
        :returns: whether this part completed the upload
        :raises Problem: the upload does not accept the part
        """
        check_content_range(video.upload, content_range)
        check_size(video.upload, content_range, size_bytes)
        return self.add_unchecked(video, content_range, file, size_bytes, waits_for_join=waits_for_join)

    def add_unchecked(
        self,
        video: Video,
        content_range: ContentRange,
        file: PartFile,
        size_bytes: int,
        *,
        waits_for_join: bool = False,
    ) -> Awaitable[bool]:
        """`add` without the check, for sources that the emulator downloaded."""
        if video.is_deleted:
            raise Problem("resource-not-found", name="videoId")
        part = ReceivedPart(content_range, size_bytes)
        video.upload.reserve(part)
        storing = self._workers.start_task(self._store(video, part, file, waits_for_join=waits_for_join))
        # Retrieves the exception: the caller may be gone when it fails.
        storing.add_done_callback(lambda done: done.cancelled() or done.exception())
        return asyncio.shield(storing)

    async def _store(self, video: Video, part: ReceivedPart, file: PartFile, *, waits_for_join: bool) -> bool:
        try:
            await self._workers.run_body(file.move_to, video.source.directory / part_file_name(part.range))
        except OSError as error:
            video.upload.release(part)
            self.discard(file)
            if not isinstance(error, FileNotFoundError):
                raise
            raise Problem("resource-not-found", name="videoId") from error
        if video.is_deleted:
            raise Problem("resource-not-found", name="videoId")
        video.upload.mark_stored(part)
        if not video.upload.is_complete:  # otherwise the join shows whether there is space
            self._shortages.clear()
        if waits_for_join and video.upload.is_complete:
            video.completing = part
        self._joiner.start(video)
        self._on_change()
        return video.upload.is_complete

    async def copy_source(self, original: Video, video: Video) -> bool:
        """Clone a finished source; False if the original was deleted in the meantime."""
        target = video.source.directory / part_file_name(WholeFile())
        try:
            await self._workers.run_body(link_or_copy, original.source.path, target)
        except OSError:
            return False
        part = ReceivedPart(WholeFile(), original.container.size_bytes or 0)
        video.upload.reserve(part)
        video.upload.mark_stored(part)
        self._joiner.start(video)
        return True
