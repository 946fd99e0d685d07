"""Resume points: where an interrupted upload continues. Pure."""

from __future__ import annotations

from typing import Self

from msgspec import Struct

from async_uploader._models import Video, VideoStatus
from async_uploader._outcome import is_complete, received_parts
from async_uploader._plan import Part, Plan
from async_uploader._types import Ranges

from .entry import Entry


class ResumePoint(Struct, frozen=True, kw_only=True):
    """An interrupted upload.

    :param ranges: the kind of ranges with which it was started
    :param part_bytes: the part size with which it was started
    :param received: numbers of the parts that the service has
    :param is_complete: the service has all parts
    :param video: the finished Video, if it is known without a request
    """

    video_id: str
    ranges: Ranges
    part_bytes: int
    received: frozenset[int]
    is_complete: bool
    video: Video | None = None

    @classmethod
    def from_status(
        cls, status: VideoStatus, *, video_id: str, ranges: Ranges, part_bytes: int, total_bytes: int
    ) -> Self | None:
        """The resume point that a status shows; None if the container has something else."""
        complete = is_complete(status, total_bytes=total_bytes)
        if complete is False:
            return None
        plan = Plan(total_bytes=total_bytes, part_bytes=part_bytes, concurrency=1)
        received = received_parts(status, plan.parts(), ranges=ranges)
        listed = status.ingest.received_parts
        if ranges == "part" and listed and len(received) != len(listed.parts):
            return None
        return cls(
            video_id=video_id,
            ranges=ranges,
            part_bytes=part_bytes,
            received=received,
            is_complete=complete is True,
        )

    @classmethod
    def from_entry(cls, entry: Entry, video: Video | None) -> Self:
        """The resume point in the journal, for an upload token, which cannot request the status."""
        numbers = frozenset(part.number for part in entry.plan.parts())
        received = entry.parts_done & numbers
        if video is None and received == numbers:
            # The response to the last part contained the Video, but was not recorded: send that part again.
            received -= {max(numbers)}
        return cls(
            video_id=entry.video_id,
            ranges=entry.ranges,
            part_bytes=entry.part_bytes,
            received=received,
            is_complete=video is not None,
            video=video,
        )

    def plan(self, total_bytes: int) -> Plan:
        """How a source is split into the parts of this upload."""
        return Plan(total_bytes=total_bytes, part_bytes=self.part_bytes, concurrency=1)

    def stored_parts(self, total_bytes: int) -> list[Part]:
        """The parts of a source that the service has."""
        parts = self.plan(total_bytes).parts()
        return [part for part in parts if self.is_complete or part.number in self.received]


def is_incomplete(status: VideoStatus, entry: Entry) -> bool:
    """Whether parts of a recorded upload are missing, so that its container cannot become a video."""
    point = ResumePoint.from_status(
        status,
        video_id=entry.video_id,
        ranges=entry.ranges,
        part_bytes=entry.part_bytes,
        total_bytes=entry.fingerprint.identity.size_bytes,
    )
    return point is not None and not point.is_complete and len(point.received) < (entry.plan.parts_total or 0)
