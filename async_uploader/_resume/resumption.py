"""The interface of all ways to resume an upload."""

# ruff: noqa: B027 - the empty methods are the default

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

from async_uploader._models import Video
from async_uploader._plan import Plan
from async_uploader._types import Ranges

from .points import ResumePoint


class Resumption(ABC):
    """Finds the container of an earlier run, and keeps the records by which a later run finds this one.

    Use it as an async context manager. A class that records nothing in some step inherits a method that does
    nothing.
    """

    @property
    @abstractmethod
    def is_shared(self) -> bool:
        """Whether other processes may send parts of the same source into the same container.

        So the container's metadata has the plan, which must not change.
        """

    @property
    @abstractmethod
    def can_resume(self) -> bool:
        """Whether a later run can find the container."""

    @property
    @abstractmethod
    def is_recorded(self) -> bool:
        """Whether a later run finds the finished video."""

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    @abstractmethod
    async def find_resume_point(self) -> ResumePoint | None:
        """The point from which the upload continues; None for a new upload."""

    async def find_unused_container(self) -> str | None:
        """The id of an empty container that an earlier run created for this source but did not record."""
        return None

    @abstractmethod
    async def prepare_container(self, plan: Plan) -> list[dict[str, str]]:
        """Record that a container is about to be created.

        :returns: metadata by which a later run can find it
        """

    @abstractmethod
    async def find_created_container(self) -> str | None:
        """The id of the container if the service has created it, although the response was lost."""

    async def withdraw_intent(self) -> None:
        """Remove the record of :meth:`prepare_container`: no container was created, or it is deleted."""

    async def settle(self, video_id: str) -> ResumePoint | None:  # noqa: ARG002
        """Choose between the new container and those that other processes created at the same time.

        :returns: the resume point; None if the new container is used, and empty
        """
        return None

    async def record_container(
        self,
        video_id: str,
        *,
        ranges: Ranges,
        part_bytes: int,
        received: frozenset[int],
        video: Video | None = None,
    ) -> None:
        """Record the container, and how the source is split. A cancellation waits for this.

        :param received: numbers of the parts that the service has
        :param video: the finished Video, if the first part was the only one
        """

    async def record_part(self, part_number: int, video: Video | None) -> None:
        """Record that the service has stored a part.

        :param video: the finished Video, if this part completed it
        """

    async def forget_parts(self) -> None:
        """Remove the recorded acknowledgements, because some of them are wrong."""

    async def finish(self, video: Video) -> Video:
        """Record the finished Video.

        :returns: the Video for the caller
        """
        return video

    @property
    def has_thumbnail(self) -> bool:
        """Whether an earlier run has added the thumbnail to the finished video."""
        return False

    async def record_thumbnail(self) -> None:
        """Record that the thumbnail is added to the finished video."""

    async def deliver(self, video: Video) -> Video:
        """Clean up: the caller has received the Video.

        :param video: as the service has it
        :returns: the Video after that
        """
        return video

    async def forget(self) -> None:
        """Remove all records: the upload cannot be resumed."""
