"""Makes the upload of an object in a store or on the web resumable: by marks alone, from any machine.

The journal could not add anything: the version of the object tells whether stored parts are those of this object.
"""

from __future__ import annotations

from typing import Self

from async_uploader._models import Video
from async_uploader._options import TransferOptions
from async_uploader._plan import Plan
from async_uploader._sources.protocol import ResumableSource

from .containers import RemoteContainers
from .marks import Marks, without_resume_metadata
from .points import ResumePoint
from .resumption import Resumption


class MarkedSession(Resumption):
    """Resumes one source by the marks of its container."""

    can_resume = True
    is_recorded = True
    is_shared = True

    def __init__(self, source: ResumableSource, *, options: TransferOptions, containers: RemoteContainers) -> None:
        self._source = source
        self._options = options
        self._containers = containers
        self._found_id: str | None = None

    async def __aenter__(self) -> Self:
        self._marks = Marks(self._source, sample=await self._source.identify(), containers=self._containers)
        return self

    async def find_resume_point(self) -> ResumePoint | None:
        """Find a container with the marks, or continue in the one that the caller named."""
        options = self._options
        if options.video_id is None:
            return await self._marks.find(ignored=frozenset())
        return await self._marks.point_in(options.video_id, ranges=options.ranges, part_bytes=options.part_size)

    async def prepare_container(self, plan: Plan) -> list[dict[str, str]]:
        """The marks of a new container."""
        return self._marks.metadata(ranges=self._options.ranges, part_bytes=plan.part_bytes)

    async def find_created_container(self) -> str | None:
        """The container with the marks, after the response to its creation was lost."""
        point = await self._marks.find(ignored=frozenset())
        self._found_id = point.video_id if point else None
        return self._found_id

    async def settle(self, video_id: str) -> ResumePoint | None:
        """Choose between the new container and those of other machines."""
        if self._options.video_id is not None:
            return None
        return await self._marks.settle(video_id, is_own=video_id != self._found_id)

    async def finish(self, video: Video) -> Video:
        """The Video without marks."""
        return without_resume_metadata(video)

    async def deliver(self, video: Video) -> Video:
        """Remove the marks."""
        return await self._marks.remove(video)
