"""Marks: two metadata entries of a container with which any machine can resume its upload.

One is the sample of the source, the other its plan. There are two, because the service finds a container only by
the exact value of an entry, and a machine that looks for the source does not know the plan.
"""

from __future__ import annotations

import re
import secrets
from typing import Final

from async_uploader._models import MARK_INTENT, MARK_PLAN, MARK_SOURCE, Video, VideoStatus
from async_uploader._outcome import is_empty
from async_uploader._plan import plan_parts
from async_uploader._sources.protocol import ResumableSource
from async_uploader._types import Ranges

from .containers import RemoteContainers, entries_without, entry_of
from .points import ResumePoint
from .shared_containers import SharedContainers, age

_RESUME_KEYS: Final = (MARK_SOURCE, MARK_PLAN, MARK_INTENT)
_INTENT_BYTES: Final = 16
_PLAN: Final = re.compile(r"(part|bytes)-(\d{7,9})")


class Marks:
    """The marks of one source.

    :param sample: the hash of its content
    """

    def __init__(self, source: ResumableSource, *, sample: str, containers: RemoteContainers) -> None:
        self._source = source
        self._sample = sample
        self._containers = containers

    def metadata(self, *, ranges: Ranges, part_bytes: int) -> list[dict[str, str]]:
        """The marks as metadata of a new container."""
        return [
            {"key": MARK_SOURCE, "value": self._sample},
            {"key": MARK_PLAN, "value": format_plan(ranges, part_bytes)},
        ]

    async def find(self, *, ignored: frozenset[str]) -> ResumePoint | None:
        """Find a marked container that can be resumed.

        :param ignored: ids of containers that cannot
        """
        videos = await self._containers.find(key=MARK_SOURCE, value=self._sample)
        for video in sorted(videos, key=age):
            if video.video_id in ignored:
                continue
            has_plan = parse_plan(entry_of(video, MARK_PLAN)) is not None
            status = await self._containers.status(video.video_id) if has_plan else None
            if (point := await self._resume_point(video, status)) is not None:
                is_new = not (point.received or point.is_complete)
                # Its creator may be about to replace it by another one.
                return await self.settle(video.video_id, is_own=False) if is_new else point
        return None

    async def point_in(self, video_id: str, *, ranges: Ranges, part_bytes: int | None) -> ResumePoint | None:
        """The resume point in a container that the caller named; None if it contains something else or is missing.

        An empty container gets marks. For parts without marks, the part size follows from the size of the file
        alone, so that it is the same on all machines.

        :param part_bytes: part size that the caller requested
        """
        video = await self._containers.get(video_id)
        status = await self._containers.status(video_id) if video else None
        if video is None or status is None:
            return None
        if entry_of(video, MARK_SOURCE) == self._sample:
            return await self._resume_point(video, status)
        plan = plan_parts(self._source.size_bytes, part_bytes=part_bytes)
        if is_empty(status):
            marks = self.metadata(ranges=ranges, part_bytes=plan.part_bytes)
            await self._containers.update(video_id, {"metadata": [*entries_without(video, _RESUME_KEYS), *marks]})
        return ResumePoint.from_status(
            status,
            video_id=video_id,
            ranges=ranges,
            part_bytes=plan.part_bytes,
            total_bytes=self._source.size_bytes,
        )

    async def remove(self, video: Video) -> Video:
        """Remove marks and intents from the metadata of a finished video.

        :returns: the changed video; the given one if that fails
        """
        if not has_resume_metadata(video):
            return video
        return await self._containers.remove_entries(video, _RESUME_KEYS)

    async def settle(self, video_id: str, *, is_own: bool) -> ResumePoint | None:
        """Choose between a new container and those that other machines created at the same time.

        :param is_own: this upload has created the container
        :returns: the resume point of the winner; None to use the own container, which is empty
        """
        shared = SharedContainers(
            self._containers, key=MARK_SOURCE, value=self._sample, total_bytes=self._source.size_bytes
        )
        found = await shared.settle(video_id)
        # Another machine may have found the new container, and begun to fill it.
        if found is None or (is_own and found.video.video_id == video_id and is_empty(found.status)):
            return None
        return await self._resume_point(found.video, found.status)

    async def _resume_point(self, video: Video, status: VideoStatus | None) -> ResumePoint | None:
        plan = parse_plan(entry_of(video, MARK_PLAN))
        if plan is None or status is None:
            return None
        ranges, part_bytes = plan
        point = ResumePoint.from_status(
            status,
            video_id=video.video_id,
            ranges=ranges,
            part_bytes=part_bytes,
            total_bytes=self._source.size_bytes,
        )
        if point is not None:
            await self._source.adopt_parts(point.stored_parts(self._source.size_bytes))
        return point


def new_intent() -> str:
    """A random id, unique in an account."""
    return secrets.token_hex(_INTENT_BYTES)


def format_plan(ranges: Ranges, part_bytes: int) -> str:
    """The text of a plan in metadata."""
    return f"{ranges}-{part_bytes}"


def parse_plan(text: str | None) -> tuple[Ranges, int] | None:
    """The kind of ranges and the part size in the text of :func:`format_plan`; None if it is another text."""
    match = _PLAN.fullmatch(text or "")
    return ("part" if match[1] == "part" else "bytes", int(match[2])) if match else None


def has_resume_metadata(video: Video) -> bool:
    """Whether a video has marks or an intent."""
    return any(entry.key in _RESUME_KEYS for entry in video.metadata)


def without_resume_metadata(video: Video) -> Video:
    """The video as it is without marks and intent."""
    return Video.from_response({**video.raw, "metadata": entries_without(video, _RESUME_KEYS)})
