"""Everything that the emulator stores: containers here, parts and tokens in `PartStore` and `TokenStore`.

Requests are served from memory. The data directory has the same state, for the next start. The state changes on
the event loop only, between two awaits; threads only work on files.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Final

import msgspec

from async_uploader.emulator._limits import DISCARDED_SECONDS, UNFINISHED_SECONDS
from async_uploader.emulator._problems import Problem

from .data_directory import DataDirectory, remove_tree, replace_file
from .entities import Watermark, Webhook
from .entity_store import EntityStore
from .ids import new_id
from .joiner import Joiner
from .part_store import PartStore
from .shortage_reporter import ShortageReporter
from .token_store import TokenStore
from .video import Container, Origin, Video
from .workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from async_uploader.emulator._clock import Clock

    from .file_reader import FileReader

# How long closing waits for a join if the directory is kept; the next start does the rest. Shorter than the time
# that the command line gives an interrupted command.
JOIN_ON_CLOSE_SECONDS: Final = 0.5
logger = logging.getLogger("async_uploader.emulator")


class Store:
    """The state of one emulator.

    :param root: the data directory; None for a temporary one
    :param on_change: called after every change
    :param on_finished: called with each video whose source is complete

    `discarded` has the videos that were deleted and can be restored.
    """

    def __init__(
        self,
        root: Path | None,
        clock: Clock,
        on_change: Callable[[], None],
        on_finished: Callable[[Video], None],
    ) -> None:
        self.workers = Workers()
        self.directory = DataDirectory(root, self.workers.stop)
        self.videos: dict[str, Video] = {}
        self.discarded: dict[str, Video] = {}
        self.clock = clock
        self.shortages = ShortageReporter(self.directory, self.workers, on_change)
        self.joiner = Joiner(self.workers, self.shortages, self.save, on_change, on_finished)
        self.parts = PartStore(self.directory, self.workers, self.joiner, self.shortages, on_change)
        self.tokens = TokenStore(self.directory, self.workers, clock)
        self.webhooks = EntityStore("webhooks", Webhook, self.directory, self.workers)
        self.watermarks = EntityStore("watermarks", Watermark, self.directory, self.workers)
        self._next_expiry_s = 0.0
        self._on_change = on_change

    # Opening and closing

    async def open(self) -> None:
        """Lock the data directory and read it.

        :raises ValueError: it cannot be used
        :raises OSError: a temporary directory cannot be created
        """
        await self.workers.run_small(self.directory.open)
        bearers, upload_tokens, videos = await self.workers.run_small(self.directory.load)
        self.tokens.load(bearers, upload_tokens)
        await self.webhooks.load()
        await self.watermarks.load()
        for video in videos:
            home = self.videos if video.container.discarded_s is None else self.discarded
            home[video.container.video_id] = video
            self.joiner.start(video)

    async def close(self) -> None:
        """Finish storing the parts that have arrived, stop long joins, and release the directory."""
        joins = [video.join_task for video in self.videos.values() if video.join_task and video.upload.is_complete]
        if joins and not self.directory.is_temporary:
            await asyncio.wait(joins, timeout=JOIN_ON_CLOSE_SECONDS)
        await self.workers.finish_tasks()
        await self.workers.shut_down([self.directory.close])

    def abandon(self) -> None:
        """Remove a temporary directory now, even if threads still write to it. Does nothing after `close`."""
        self.workers.stop.set()
        self.directory.remove_temporary()

    # Containers

    def video(self, video_id: str) -> Video:
        """:raises Problem: there is no such video"""
        video = self.videos.get(video_id)
        if video is None:
            raise Problem("resource-not-found", name="videoId")
        return video

    async def create(self, details: dict[str, object], origin: Origin = "upload") -> Video:
        """Create a container. If the caller is cancelled, the container is still created completely."""
        return await asyncio.shield(self.workers.start_task(self._create(details, origin)))

    async def _create(self, details: dict[str, object], origin: Origin) -> Video:
        now = self.clock.now()
        container = Container(new_id("vi"), now, now, details, origin)
        video = Video(container, self.directory.source_file(container.video_id))
        await self.workers.run_small(video.source.directory.mkdir)
        try:
            await self.save(video)
        except OSError:
            await self.workers.run_small(remove_tree, video.source.directory)
            raise
        self.videos[container.video_id] = video
        self._next_expiry_s = min(self._next_expiry_s, now + UNFINISHED_SECONDS)
        self._on_change()
        return video

    async def update(self, video: Video, details: dict[str, object]) -> None:
        container = video.container
        previous = container.details, container.updated_s
        container.details, container.updated_s = {**container.details, **details}, self.clock.now()
        try:
            await self.save(video)
        except OSError:
            container.details, container.updated_s = previous
            raise
        self._on_change()

    async def delete(self, video: Video) -> None:
        """Delete a video at once; its files follow when no thread works on them."""
        video.is_deleted = True
        self.videos.pop(video.container.video_id, None)
        self.discarded.pop(video.container.video_id, None)
        self._on_change()
        await asyncio.shield(self.workers.start_task(self._delete(video)))

    async def _delete(self, video: Video) -> None:
        if video.join_task is not None:
            await asyncio.wait([video.join_task])
        # Renamed first: a part that is still being stored finds no directory.
        renamed = self.directory.incoming / video.container.video_id
        await self.workers.run_small(video.source.directory.rename, renamed)
        await self.workers.run_body(remove_tree, renamed)
        for other in self.videos.values():
            self.joiner.retry(other)  # the deletion freed space

    async def discard(self, video: Video) -> None:
        """Remove a video, so that it can be restored."""
        video.container.discarded_s = self.clock.now()
        await self.save(video)
        self.discarded[video.container.video_id] = self.videos.pop(video.container.video_id)
        self._next_expiry_s = min(self._next_expiry_s, video.container.discarded_s + DISCARDED_SECONDS)
        self._on_change()

    async def restore(self, video: Video) -> None:
        """Undo `discard`."""
        video.container.discarded_s = None
        await self.save(video)
        self.videos[video.container.video_id] = self.discarded.pop(video.container.video_id)
        self._on_change()

    async def delete_expired(self) -> None:
        """Delete containers that were not filled in time, and videos that were discarded long ago."""
        now = self.clock.now()
        if now < self._next_expiry_s:
            return
        expiries = {video: _expiry_s(video) for video in (*self.videos.values(), *self.discarded.values())}
        self._next_expiry_s = min((at for at in expiries.values() if at > now), default=math.inf)
        for video, expires_s in expiries.items():
            if expires_s <= now and not video.is_deleted:
                logger.info("Deleting video %s, which has expired.", video.container.video_id)
                await self.delete(video)

    async def clear(self) -> None:
        """Delete all videos and tokens, and cancel all imports."""
        await self.workers.cancel_background()
        self._start_deleting_all()
        await self.workers.wait_for_tasks()
        self._start_deleting_all()  # those that cancelled requests were still creating
        await self.workers.wait_for_tasks()
        await self.tokens.clear()
        await self.webhooks.clear()
        await self.watermarks.clear()
        self.shortages.reset()

    def _start_deleting_all(self) -> None:
        for video in (*self.videos.values(), *self.discarded.values()):
            video.is_deleted = True
            self.workers.start_task(self._delete(video))
        self.videos.clear()
        self.discarded.clear()
        self._on_change()

    async def mark_failed(self, video: Video) -> None:
        """Record that an import failed."""
        video.container.failed = True
        self._on_change()
        try:
            await self.save(video)
        except OSError as error:
            logger.warning("Cannot save that the import of video %s failed: %s", video.container.video_id, error)

    async def save(self, video: Video) -> None:
        """Write a container to the data directory.

        :raises OSError: it cannot be written
        """
        path, content = video.source.directory / "video.json", msgspec.json.encode(video.container)
        try:
            await self.workers.run_small(replace_file, path, content)
        except FileNotFoundError:
            if not video.is_deleted:
                raise

    # Files

    async def write_file(self, path: Path, content: bytes) -> None:
        """Write a small file of a video.

        :raises Problem: the video was deleted in the meantime
        """
        try:
            await self.workers.run_small(replace_file, path, content)
        except FileNotFoundError:
            raise Problem("resource-not-found", name="videoId") from None

    async def read(self, reader: FileReader, offset: int, count: int) -> bytes:
        return await self.workers.run_body(reader.read, offset, count)

    async def read_text(self, path: Path) -> str:
        return await self.workers.run_body(path.read_text, "utf-8")

    def close_reader(self, reader: FileReader) -> None:
        self.workers.submit_body(reader.close)


def _expiry_s(video: Video) -> float:
    """When a video expires; infinity for finished videos, and for those being imported."""
    container = video.container
    if container.discarded_s is not None:
        return container.discarded_s + DISCARDED_SECONDS
    if container.origin == "upload" and not video.upload.is_complete:
        return container.created_s + UNFINISHED_SECONDS
    return math.inf
