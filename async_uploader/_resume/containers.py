"""Requests about containers of earlier runs."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Container, Mapping
from typing import Any, Final, TypeVar

from msgspec import Struct

from async_uploader._api.service import Service
from async_uploader._errors import ApiError, UploaderError
from async_uploader._flow.retries import RetryRunner
from async_uploader._limits import MAX_PAGE_SIZE
from async_uploader._models import Video, VideoStatus
from async_uploader._outcome import is_not_found
from async_uploader.events import Operation, RequestKind

#: Its messages are for users, INFO included.
log: Final = logging.getLogger("async_uploader.resume")

T = TypeVar("T")


class SettlingPolicy(Struct, frozen=True, kw_only=True):
    """How long a new container waits for older ones.

    :param creation_seconds: resolution of the times of creation that the service states
    :param max_lag_seconds: longest delay of a listing
    :param poll_seconds: time between two listings
    """

    creation_seconds: float = 1.0
    max_lag_seconds: float = 10.0
    poll_seconds: float = 0.5


class RemoteContainers:
    """Finds, reads, updates and deletes containers, with retries.

    :ivar settling: how long a new container waits for older ones
    """

    def __init__(self, service: Service, retries: RetryRunner, settling: SettlingPolicy) -> None:
        self._service = service
        self._retries = retries
        self.settling = settling

    async def find(self, *, key: str, value: str) -> list[Video]:
        """The containers with a metadata entry, the 100 oldest."""
        query: Mapping[str, str | list[str]] = {
            f"metadata[{key}]": value,
            # Otherwise, only the 25 newest.
            "sortBy": "createdAt",
            "sortOrder": "asc",
            "pageSize": str(MAX_PAGE_SIZE),
        }
        videos, _ = await self._run(RequestKind.READ, Operation.FIND, lambda: self._service.list_videos(query))
        # A service that ignores the filter would return all videos.
        return [video for video in videos if entry_of(video, key) == value and not _is_discarded(video)]

    async def get(self, video_id: str) -> Video | None:
        """A container; None if it does not exist."""
        try:
            video = await self._run(RequestKind.READ, Operation.VIDEO, lambda: self._service.get_video(video_id))
            return None if _is_discarded(video) else video
        except ApiError as exc:
            if is_not_found(exc):
                return None
            raise

    async def status(self, video_id: str) -> VideoStatus | None:
        """The status of a container; None if it does not exist."""
        try:
            return await self._run(RequestKind.READ, Operation.STATUS, lambda: self._service.get_status(video_id))
        except ApiError as exc:
            if is_not_found(exc):
                return None
            raise

    async def update(self, video_id: str, payload: Mapping[str, Any]) -> Video:
        """Change details of a container."""
        return await self._run(
            RequestKind.WRITE, Operation.UPDATE, lambda: self._service.update_video(video_id, payload)
        )

    async def remove_entries(self, video: Video, keys: Container[str]) -> Video:
        """Remove entries from the metadata of a video that is finished, or imported.

        :returns: the changed video; the given one if that fails, because the video exists nevertheless
        """
        try:
            return await self.update(video.video_id, {"metadata": entries_without(video, keys)})
        except UploaderError as exc:
            log.warning("Cannot remove entries from the metadata of video %s: %s", video.video_id, exc)
            return video

    async def delete(self, video_id: str) -> None:
        """Delete a container."""
        await self._run(RequestKind.WRITE, Operation.DELETE, lambda: self._service.delete_video(video_id))

    async def _run(self, kind: RequestKind, operation: Operation, request: Callable[[], Awaitable[T]]) -> T:
        return await self._retries.run(kind, request, operation=operation)


def entry_of(video: Video, key: str) -> str | None:
    """The value of a metadata entry; None if there is none."""
    return {entry.key: entry.value for entry in video.metadata}.get(key)


def entries_without(video: Video, keys: Container[str]) -> list[object]:
    """The metadata of a video without some entries, as the service returned it.

    Entries are taken from the JSON, because another program may have added values that the model cannot hold.
    """
    metadata = video.raw.get("metadata", ())
    # PHP writes a list with gaps as an object.
    entries = metadata.values() if isinstance(metadata, Mapping) else metadata
    return [entry for entry in entries if not (isinstance(entry, Mapping) and entry.get("key") in keys)]


def _is_discarded(video: Video) -> bool:
    """Whether a video was deleted, and can be restored for 90 days (contract: ``discarded``)."""
    return video.raw.get("discarded") is True
