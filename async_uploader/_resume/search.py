"""Finds the upload to resume: in the journal or, if it is not there, by marks."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from async_uploader._errors import SourceError
from async_uploader._models import Video
from async_uploader._options import TransferOptions
from async_uploader._sources.file import FileSource
from async_uploader._sources.read_parts import ContentsChanged
from async_uploader._units import format_size

from .containers import RemoteContainers
from .entry import Account, Entry, Fingerprint
from .marks import Marks, has_resume_metadata
from .points import ResumePoint, is_incomplete
from .record import JournalRecord

#: Its messages are for users, INFO included.
log: Final = logging.getLogger("async_uploader.resume")


class ResumePointSearch:
    """Finds the resume point of one source, and logs why there is none.

    :param fingerprint: of the current file
    :param containers: None with an upload token, which can neither read nor delete containers
    :param marks: None if marks are not used
    """

    def __init__(
        self,
        source: FileSource,
        *,
        account: Account,
        options: TransferOptions,
        fingerprint: Fingerprint,
        record: JournalRecord,
        containers: RemoteContainers | None,
        marks: Marks | None,
    ) -> None:
        self._source = source
        self._account = account
        self._options = options
        self._fingerprint = fingerprint
        self._record = record
        self._containers = containers
        self._marks = marks
        self._abandoned: set[str] = set()

    async def find(self, entries: Iterable[Entry]) -> ResumePoint | None:
        """Find the resume point.

        :param entries: the journal's entries for the source's path or inode
        """
        point = await self._from_entries(list(entries))
        if point is None:
            point = await self._find_shared()
        if point is not None:
            self._announce(point)
        return point

    async def find_marked(self) -> ResumePoint | None:
        """Find a resume point by marks alone."""
        if self._marks is None or self._options.video_id is not None:
            return None
        return await self._marks.find(ignored=frozenset(self._abandoned))

    async def _find_shared(self) -> ResumePoint | None:
        """Find an upload that another machine has started."""
        if self._marks is None:
            return None
        if self._options.video_id is None:
            return await self.find_marked()
        return await self._marks.point_in(
            self._options.video_id, ranges=self._options.ranges, part_bytes=self._options.part_size
        )

    async def settle(self, video_id: str, *, is_own: bool) -> ResumePoint | None:
        """The resume point of a container that another machine has created; None to use the given one."""
        if self._marks is None or self._options.video_id is not None:
            return None
        return await self._marks.settle(video_id, is_own=is_own)

    async def _from_entries(self, entries: list[Entry]) -> ResumePoint | None:
        own = [entry for entry in entries if entry.account == self._account]
        if entries and not own:
            log.info(
                "%s: starting a new upload; an unfinished one belongs to another account or service.",
                self._source.name,
            )
        wanted = [entry for entry in own if self._options.video_id in (None, entry.video_id)]
        same = [entry for entry in wanted if entry.fingerprint == self._fingerprint]
        for entry in wanted:
            # An entry found by the inode alone belongs to another file, which may still exist.
            if entry not in same and entry.path == self._source.real_path:
                await self._abandon(entry)
        for entry in sorted(same, key=lambda entry: entry.path != self._source.real_path):
            if (point := await self._from_entry(entry)) is not None:
                return point
        return None

    async def _from_entry(self, entry: Entry) -> ResumePoint | None:
        self._record.use(entry)
        video = _recorded_video(entry)
        if self._containers is None:
            point: ResumePoint | None = ResumePoint.from_entry(entry, video)
        else:
            point = await self._from_status(entry, self._containers)
        if point is None or not await self._is_unchanged(entry, point):
            return None
        return replace(point, video=video) if point.is_complete else point

    async def _from_status(self, entry: Entry, containers: RemoteContainers) -> ResumePoint | None:
        status = await containers.status(entry.video_id)
        if status is None:
            await self._forget(entry, "no longer exists")
            return None
        point = ResumePoint.from_status(
            status,
            video_id=entry.video_id,
            ranges=entry.ranges,
            part_bytes=entry.part_bytes,
            total_bytes=self._source.size_bytes,
        )
        if point is None:
            await self._forget(entry, "contains something else")
        return point

    async def _forget(self, entry: Entry, reason: str) -> None:
        log.warning("%s: video %s %s; starting a new upload.", self._source.name, entry.video_id, reason)
        await self._record.forget()

    async def _is_unchanged(self, entry: Entry, point: ResumePoint) -> bool:
        """Whether the file still has the bytes of the parts that the service has. If not, abandon the upload."""
        parts = point.stored_parts(self._source.size_bytes)
        is_recent = entry.ctime_ns is not None
        try:
            await self._source.verifier.restore_parts(
                parts, entry.checksums, ctime_ns=entry.ctime_ns, compute_missing=is_recent
            )
        except SourceError as exc:
            if not isinstance(exc.__cause__, ContentsChanged):
                raise  # unreadable now, or being written to: the stored parts may still be usable
            log.debug("%s", exc)
            self._source.verifier.forget_parts()
            await self._abandon(entry)
            return False
        return True

    async def _abandon(self, entry: Entry) -> None:
        """Forget an upload whose file has changed. Delete its container, unless it is or may become a video."""
        self._record.use(entry)
        self._abandoned.add(entry.video_id)
        name = self._source.name
        if entry.video is not None:
            log.info("%s has changed since it was uploaded; starting a new upload.", name)
            await self._record.forget()
            return
        log.warning("%s has changed since its upload began; starting a new upload.", name)
        await self._record.forget()
        if self._containers is not None and self._options.video_id is None:
            status = await self._containers.status(entry.video_id)
            if status is not None and is_incomplete(status, entry):
                await self._containers.delete(entry.video_id)

    def _announce(self, point: ResumePoint) -> None:
        name = self._source.name
        if point.is_complete:
            log.info("%s: video %s is already complete.", name, point.video_id)
            return
        parts_total = point.plan(self._source.size_bytes).parts_total
        log.info(
            "%s: resuming video %s; %d of %s parts are stored.",
            *(name, point.video_id, len(point.received), parts_total),
        )
        if self._options.part_size not in (None, point.part_bytes) or self._options.ranges != point.ranges:
            log.warning(
                "%s: ignoring the requested part size and ranges; the upload continues in %s of %s.",
                *(name, "parts" if point.ranges == "part" else "byte ranges", format_size(point.part_bytes)),
            )


def _recorded_video(entry: Entry) -> Video | None:
    """The finished Video of an entry; None if it still has marks, because removing them needs the current one."""
    if entry.video is None:
        return None
    video = Video.from_response(entry.video)
    return None if has_resume_metadata(video) else video
