"""The mutable state of one transfer, shared by its workers."""

from __future__ import annotations

from typing import Protocol

from async_uploader._counter import Counter
from async_uploader._flow.throughput import BodyInTransit
from async_uploader._models import Video
from async_uploader._plan import Part
from async_uploader._progress import ProgressTracker
from async_uploader.events import Bound, ContainerReady

from .job import Job


class PartInFlight(Protocol):
    """A part that is sent, or waits for its retry.

    :ivar waits_for: what it waits for, unless a body is in transit
    """

    waits_for: Bound

    @property
    def body(self) -> BodyInTransit | None:
        """The body that is being sent."""
        ...


class TransferState:
    """What is known about the container while it is filled.

    :param video_id: the container; None with an upload token, whose first part creates it
    :param received: the numbers of the parts that the service already has
    :param is_resumed: an earlier process started this upload. It may have sent more parts than ``received``
    :param is_shared: other processes may send parts of the same source into this container now

    :ivar video: the finished Video, once a response contained it
    :ivar is_reported_complete: the service refused a part because the video is already complete
    :ivar has_other_senders: another process has sent parts. The status is requested before each part is sent
    :ivar sha256: of the source, in hexadecimal, once all parts are sent; None without ``checksum``
    :ivar failed_part: the first part that failed
    :ivar sending: the number of part requests in progress
    :ivar deliveries: the parts in flight, and those that wait for a retry
    :ivar next_part_waits_for: what the next part waits for; None if no part waits
    """

    def __init__(
        self,
        job: Job,
        *,
        video_id: str | None,
        received: frozenset[int] = frozenset(),
        is_resumed: bool = False,
        is_shared: bool = False,
    ) -> None:
        self.video_id = video_id
        self.received = received
        self.is_resumed = is_resumed
        self.is_shared = is_shared
        self.has_other_senders = is_resumed and is_shared
        self.video: Video | None = None
        self.is_reported_complete = False
        self.sha256: str | None = None
        self.failed_part: Part | None = None
        self.sending = Counter()
        self.deliveries: set[PartInFlight] = set()
        self.next_part_waits_for: Bound | None = None
        self._part_bytes = job.plan.part_bytes
        self.progress = ProgressTracker(total_bytes=job.plan.total_bytes, parts_total=job.plan.parts_total)
        for part in job.plan.parts() if received else ():
            if part.number in received:
                self.progress.acknowledge(part.number, part.size_bytes)

    @property
    def parts_left(self) -> int:
        """The number of parts that are not stored yet; 0 while the total is unknown."""
        total = self.progress.parts_total
        return 0 if total is None else total - self.progress.parts_done

    @property
    def parts_waiting(self) -> int:
        """The number of parts that are neither stored nor being sent."""
        return max(0, self.parts_left - self.sending.count)

    def container_ready(self, *, can_resume: bool) -> ContainerReady:
        """The event that reports the container, which must be known."""
        assert self.video_id is not None
        return ContainerReady(
            video_id=self.video_id,
            parts_total=self.progress.parts_total,
            part_bytes=self._part_bytes,
            parts_done=self.progress.parts_done,
            acknowledged_bytes=self.progress.acknowledged_bytes,
            resumable=can_resume,
        )
