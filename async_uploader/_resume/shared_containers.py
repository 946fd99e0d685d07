"""Containers that share a metadata entry, such as an idempotency key: only one of them becomes a video.

Problem
    Two processes may look for a container with a key at the same moment, find none, and create one each. The
    service cannot create a container on condition that there is none, and its listings may show it with a delay.

Approach
    1. Look the key up. A complete video is the result, an incomplete one is continued.
    2. If there is none, create a container with the key and the source's identity in its metadata.
    3. Wait until the listing shows this container. All older ones have been listed by then, but not those that
       others create later in the same second, because times of creation have a resolution of a second. So wait for
       another second and list again. The oldest container wins, and of those created in the same second, the one
       with the smallest id. So all processes choose the same container without asking each other. Should one have
       parts already, the service has listed an older one too late, and the one with parts wins.
    4. Delete the others, unless they are complete. A process that uploads into one of them gets a 404, looks the
       key up again and joins the upload into the winner.

    A process that finds an empty container does step 3, too: another one may be about to replace it.

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
from msgspec import Struct

from async_uploader._clock import current_time
from async_uploader._errors import ConflictError, UploaderError
from async_uploader._models import Video, VideoStatus
from async_uploader._outcome import is_closed, is_complete, is_empty, is_not_found

from .containers import RemoteContainers

#: Its messages are for users, INFO included.
log: Final = logging.getLogger("async_uploader.resume")

# Sorts after every time of creation.
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


class SharedContainer(Struct, frozen=True):
    """A container that exists, and its status."""

    video: Video
    status: VideoStatus


class SharedContainers:
    """The containers with a metadata entry.

    :param key: of the entry
    :param value: of the entry
    :param total_bytes: size of the source. Complete containers are never deleted. None for an import, which the
        service may complete before the choice: all containers count as incomplete
    """

    def __init__(self, containers: RemoteContainers, *, key: str, value: str, total_bytes: int | None) -> None:
        self._containers = containers
        self._policy = containers.settling
        self._key = key
        self._value = value
        self._total_bytes = total_bytes

    async def find(self) -> SharedContainer | None:
        """The container to use; None if there is none."""
        found = await self._choose(await self._list())
        if found is None or not is_empty(found.status):
            return found
        return await self.settle(found.video.video_id)

    async def settle(self, video_id: str) -> SharedContainer | None:
        """Choose between a new container and those that others created at the same time.

        :returns: the winner; None if there is none any more
        """
        await self._wait_until_listed(video_id)
        await anyio.sleep(self._policy.creation_seconds)
        videos = await self._list()
        if not _contains(videos, video_id) and (unlisted := await self._containers.get(video_id)) is not None:
            videos.append(unlisted)
        return await self._choose(videos, own=video_id)

    async def _wait_until_listed(self, video_id: str) -> None:
        deadline = current_time() + self._policy.max_lag_seconds
        while not _contains(await self._list(), video_id):
            if await self._containers.get(video_id) is None:
                return  # another process has deleted it in favour of an older one
            if current_time() > deadline:
                log.warning(
                    "The service does not list video %s %.0f s after its creation. If another upload of this "
                    "source started at the same time, there may be two videos.",
                    *(video_id, self._policy.max_lag_seconds),
                )
                return
            await anyio.sleep(self._policy.poll_seconds)

    async def _list(self) -> list[Video]:
        return await self._containers.find(key=self._key, value=self._value)

    async def _choose(self, videos: list[Video], *, own: str | None = None) -> SharedContainer | None:
        """Choose the winner, and delete the losers.

        :param own: a container that the caller settles. If it has lost, the other losers are left to their
            creators and to the winner's, unless they are being filled: otherwise, N processes would need N² writes
        """
        found = [
            SharedContainer(video, status)
            for video in sorted(videos, key=age)
            # A listing may still show a container that was deleted.
            if (status := await self._containers.status(video.video_id)) is not None
        ]
        if not found:
            return None
        winner = self._winner(found)
        for each in found:
            video_id = each.video.video_id
            is_deleted_by_others = own not in (None, winner.video.video_id, video_id) and is_empty(each.status)
            if each is not winner and not self._is_complete(each.status) and not is_deleted_by_others:
                await self._delete(video_id)
        return winner

    def _winner(self, found: list[SharedContainer]) -> SharedContainer:
        """The container to use, of those that exist, oldest first."""
        if self._total_bytes is None:
            return found[0]
        complete = [each for each in found if self._is_complete(each.status)]
        # If the service was slow to store an older container, another process has chosen without it.
        used = [each for each in found if not is_empty(each.status)]
        return (complete or used or found)[0]

    def _is_complete(self, status: VideoStatus) -> bool:
        if self._total_bytes is None:
            return False
        # The container may belong to another source, of another size.
        return is_closed(status) or is_complete(status, total_bytes=self._total_bytes) is True

    async def _delete(self, video_id: str) -> None:
        log.info("Deleting video %s: another one was created at the same time, and is used.", video_id)
        try:
            await self._containers.delete(video_id)
        except UploaderError as exc:
            if not is_not_found(exc):  # another process deleted it
                log.warning(
                    "Video %s could not be deleted: %s The next upload of the same source deletes it.",
                    video_id,
                    exc,
                )


def key_of_another_source(key: str, video: Video, source: str) -> ConflictError:
    """The error for an idempotency key that is in use.

    :param video: the video that has it
    :param source: the source of this upload, as messages name it
    """
    return ConflictError(
        f"The idempotency key {key!r} belongs to another source, whose video is {video.video_id}. "
        f"Use a new key for {source}."
    )


def _contains(videos: list[Video], video_id: str) -> bool:
    return any(video.video_id == video_id for video in videos)


def age(video: Video) -> tuple[datetime, str]:
    """Sorts videos: the oldest first, and those of the same second by their ids."""
    return video.created_at or _NEVER, video.video_id
