"""Containers that share a metadata entry, such as an idempotency key: only one of them becomes a video.

Problem
    Two processes may look for a container with a key at the same moment, find none, and create one each. The
    service cannot create a container on condition that there is none, and its listings may show it with a delay.

Approach
    1. Look the key up. A complete video is the result, an incomplete one is continued.
    2. If there is none, create a container with the key and the source's identity in its metadata.
    3. Wait until the listing shows this container, and until the second of its creation is over. From then on, it
       shows all older ones, too. The oldest container wins, and of those created in the same second, the one with
       the smallest id. So all processes choose the same container without asking each other.
    4. Delete the others, unless they are complete. A process that uploads into one of them gets a 404, looks the
       key up again and joins the upload into the winner.

    Processes that fill the same container cut the source into the same parts and begin with different ones. A part
    that the service refuses as a duplicate is stored.

Rejected
    - A lease in the metadata: each renewal is a write, which the rate limit counts, and after a crash all others
      would have to wait for the lease to expire.
    - Upload during step 3: the losers would send their first parts twice.

What remains possible is in docs/resume.md: a listing may show a container later than the policy expects.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Final

import anyio

from async_uploader._errors import UploaderError
from async_uploader._models import Video
from async_uploader._outcome import is_complete, is_not_found

from .containers import RemoteContainers

#: Its messages are for users, INFO included.
log: Final = logging.getLogger("async_uploader.resume")

# Sorts after every time of creation.
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


class SharedContainers:
    """The containers with a metadata entry.

    :param key: of the entry
    :param value: of the entry
    :param total_bytes: size of the source: a container that holds all of it is never deleted. None for an import,
        whose progress is that of the service
    """

    def __init__(self, containers: RemoteContainers, *, key: str, value: str, total_bytes: int | None) -> None:
        self._containers = containers
        self._policy = containers.settling
        self._key = key
        self._value = value
        self._total_bytes = total_bytes

    async def find(self) -> Video | None:
        """The container to use; None if there is none."""
        return await self._choose(await self._list())

    async def settle(self, video_id: str) -> Video | None:
        """Choose between the container that was just created and those that others created at the same time.

        :returns: the winner; None if there is none any more
        """
        await anyio.sleep(self._policy.creation_seconds)
        deadline = anyio.current_time() + self._policy.max_lag_seconds
        while True:
            videos = await self._list()
            if any(video.video_id == video_id for video in videos):
                return await self._choose(videos)
            own = await self._containers.get(video_id)
            if own is None or anyio.current_time() > deadline:
                break
            await anyio.sleep(self._policy.poll_seconds)
        if own is not None:  # otherwise, another process has deleted it in favour of an older one
            log.warning(
                "The service does not list video %s %.0f s after its creation. If another upload of this source "
                "started at the same time, there may be two videos.",
                *(video_id, self._policy.max_lag_seconds),
            )
            videos.append(own)
        return await self._choose(videos)

    async def _list(self) -> list[Video]:
        videos = await self._containers.find(key=self._key, value=self._value)
        entry = (self._key, self._value)
        return [video for video in videos if entry in ((each.key, each.value) for each in video.metadata)]

    async def _choose(self, videos: list[Video]) -> Video | None:
        videos.sort(key=age)
        if len(videos) < 2:
            return videos[0] if videos else None
        complete = [video for video in videos if await self._is_complete(video.video_id)]
        winner = (complete or videos)[0]
        for video in videos:
            if video is not winner and video not in complete:
                await self._delete(video.video_id)
        return winner

    async def _is_complete(self, video_id: str) -> bool:
        status = await self._containers.status(video_id)
        return status is not None and is_complete(status, total_bytes=self._total_bytes) is True

    async def _delete(self, video_id: str) -> None:
        log.info("Deleting video %s: an older one belongs to the same source.", video_id)
        try:
            await self._containers.delete(video_id)
        except UploaderError as exc:
            if not is_not_found(exc):  # another process deleted it
                log.info("Video %s could not be deleted: %s", video_id, exc)


def age(video: Video) -> tuple[datetime, str]:
    """Sorts videos: the oldest first, and those of the same second by their ids."""
    return video.created_at or _NEVER, video.video_id
