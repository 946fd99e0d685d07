"""Makes the upload of a file with an idempotency key resumable, by the metadata of its container alone.

It needs neither the journal nor locks. Any process with the key and the file can resume, even several at a time.
"""

from __future__ import annotations

import logging
from typing import Final, Self

import anyio

from async_uploader._errors import ConflictError
from async_uploader._models import MARK_CONTENT, MARK_KEY
from async_uploader._outcome import is_empty
from async_uploader._plan import Plan
from async_uploader._sources.protocol import ResumableSource
from async_uploader._types import Ranges

from .containers import RemoteContainers, entry_of
from .marks import format_plan, parse_plan
from .points import ResumePoint
from .resumption import Resumption
from .shared_containers import SharedContainer, SharedContainers, key_of_another_source

#: Its messages are for users, INFO included.
log: Final = logging.getLogger("async_uploader.resume")


class KeyedSession(Resumption):
    """Resumes one file by its idempotency key.

    :param key: the idempotency key
    :param ranges: the kind of ranges of a new container
    :param lock: of the key, held while the session is used
    """

    can_resume = True
    is_recorded = True
    is_shared = True

    def __init__(
        self, source: ResumableSource, *, key: str, ranges: Ranges, containers: RemoteContainers, lock: anyio.Lock
    ) -> None:
        self._source = source
        self._key = key
        self._ranges = ranges
        self._lock = lock
        # Found after the response to a creation was lost: another process may have created it.
        self._found_id: str | None = None
        self._shared = SharedContainers(containers, key=MARK_KEY, value=key, total_bytes=source.size_bytes)

    async def __aenter__(self) -> Self:
        await self._lock.acquire()
        try:
            self._sample = await self._source.identify()
        except BaseException:
            self._lock.release()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._lock.release()

    async def find_resume_point(self) -> ResumePoint | None:
        """Find the video of the key.

        :raises ConflictError: the key belongs to another source
        """
        found = await self._shared.find()
        return await self._resume_point(found) if found else None

    async def prepare_container(self, plan: Plan) -> list[dict[str, str]]:
        """The metadata of a new container."""
        content = f"{self._sample} {format_plan(self._ranges, plan.part_bytes)}"
        return [{"key": MARK_KEY, "value": self._key}, {"key": MARK_CONTENT, "value": content}]

    async def find_created_container(self) -> str | None:
        """The container of the key, after the response to its creation was lost."""
        found = await self._shared.find()
        self._found_id = found.video.video_id if found else None
        return self._found_id

    async def settle(self, video_id: str) -> ResumePoint | None:
        """Choose between the new container and those of other processes.

        :returns: the resume point; None if the new container is used, and empty
        :raises ConflictError: the other container has another source; the new one is deleted
        """
        found = await self._shared.settle(video_id)
        # Another process may have found the new container, and begun to fill it.
        if found is None or (self._found_id != found.video.video_id == video_id and is_empty(found.status)):
            return None
        return await self._resume_point(found)

    async def _resume_point(self, found: SharedContainer) -> ResumePoint:
        video = found.video
        sample, _, text = (entry_of(video, MARK_CONTENT) or "").partition(" ")
        plan = parse_plan(text)
        if sample != self._sample or plan is None:
            raise key_of_another_source(self._key, video, self._source.display_name)
        ranges, part_bytes = plan
        point = ResumePoint.from_status(
            found.status,
            video_id=video.video_id,
            ranges=ranges,
            part_bytes=part_bytes,
            total_bytes=self._source.size_bytes,
        )
        if point is None:
            raise ConflictError(
                f"Video {video.video_id} has the idempotency key {self._key!r}, but another program has uploaded "
                "something else into it."
            )
        await self._source.adopt_parts(point.stored_parts(self._source.size_bytes))
        if not point.is_complete:
            log.info("%s: continuing video %s, which has this idempotency key.", self._source.name, video.video_id)
        return point
