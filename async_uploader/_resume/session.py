"""Resumes one upload of a file with ``resume="local"`` or ``"anywhere"``.

A later run finds the container, and how the source is split into parts, by the entry in the journal, or by marks
in the container's metadata (``resume="anywhere"``). Until there is an entry, it finds the container by an intent.
The status lists the stored parts. File locks allow one process at a time to upload a source.

None of this may prevent an upload: if the journal cannot be used, the upload continues without it, with a warning.
"""

from __future__ import annotations

import logging
from typing import Final, Self

from async_uploader._models import MARK_INTENT, Video
from async_uploader._options import TransferOptions
from async_uploader._plan import Plan
from async_uploader._sources.file import FileSource
from async_uploader._types import Ranges

from .containers import RemoteContainers
from .entry import Account, Entry, Fingerprint, NewEntry
from .intents import Intents
from .journal import Journal
from .marks import Marks, without_resume_metadata
from .points import ResumePoint
from .record import JournalRecord
from .resumption import Resumption
from .search import ResumePointSearch
from .source_locks import SourceLocks
from .worker import JournalWorker

log: Final = logging.getLogger("async_uploader.resume")


class ResumeSession(Resumption):
    """Resumes one source, and keeps its records up to date.

    Use it as an async context manager, which holds the locks of the source.

    :raises SourceError: on entering, if another process uploads this source to this account
    """

    def __init__(
        self,
        source: FileSource,
        *,
        options: TransferOptions,
        account: Account,
        worker: JournalWorker,
        containers: RemoteContainers,
        is_delegated: bool,
    ) -> None:
        self._source = source
        self._options = options
        self._account = account
        self._worker = worker
        self._is_delegated = is_delegated
        self._containers = containers
        self._locks = SourceLocks(source, account=account, worker=worker)
        self._record = JournalRecord(worker)
        self._intents = Intents(source, account=account, worker=worker, containers=self._containers)
        # Found after the response to a creation was lost: another machine may have created it.
        self._found_id: str | None = None

    @property
    def is_shared(self) -> bool:
        """Whether a new container has marks, by which other machines may find it."""
        return self._options.resume == "anywhere" and not self._is_delegated

    @property
    def can_resume(self) -> bool:
        """Whether a later run can find the container."""
        is_marked = self.is_shared and self._options.video_id is None
        return is_marked or self.is_recorded or self._intents.current is not None

    @property
    def is_recorded(self) -> bool:
        """Whether the journal has an entry for the container."""
        return self._record.entry is not None

    async def __aenter__(self) -> Self:
        try:
            await self._locks.acquire()
            sample = await self._source.verifier.sample()
        except BaseException:
            await self._locks.release()
            raise
        self._fingerprint = Fingerprint(identity=self._source.identity, sample=sample)
        self._marks = Marks(self._source, sample=sample, containers=self._containers)
        self._search = ResumePointSearch(
            self._source,
            account=self._account,
            options=self._options,
            fingerprint=self._fingerprint,
            record=self._record,
            containers=None if self._is_delegated else self._containers,
            marks=self._marks if self.is_shared else None,
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._locks.release()

    async def find_resume_point(self) -> ResumePoint | None:
        """The point from which the upload continues; None for a new upload."""
        entries, self._intents.unresolved = await self._worker.run(self._read_journal) or ([], [])
        return await self._search.find(entries)

    def _read_journal(self, journal: Journal) -> tuple[list[Entry], list[str]]:
        path = self._source.real_path
        return journal.find(path, self._source.identity), journal.intents(path, self._account)

    async def find_unused_container(self) -> str | None:
        """The id of an empty container that an earlier run created for this source but did not record."""
        # It has no marks, so it could not be resumed on another machine.
        return None if self.is_shared else await self._intents.find_unused()

    async def prepare_container(self, plan: Plan) -> list[dict[str, str]]:
        """Record that a container is about to be created.

        :returns: metadata by which a later run can find it
        """
        if self.is_shared:
            return self._marks.metadata(ranges=self._options.ranges, part_bytes=plan.part_bytes)
        intent = await self._intents.create()
        return [{"key": MARK_INTENT, "value": intent}] if intent else []

    async def find_created_container(self) -> str | None:
        """The id of the container if the service has created it, although the response was lost."""
        if self.is_shared:
            point = await self._search.find_marked()
            self._found_id = point.video_id if point else None
            return self._found_id
        return await self._intents.find_created()

    async def settle(self, video_id: str) -> ResumePoint | None:
        """Choose between the new container and those of other machines, which they find by the marks, too."""
        if not self.is_shared:
            return None
        return await self._search.settle(video_id, is_own=video_id != self._found_id)

    async def withdraw_intent(self) -> None:
        """Remove the intent: no container was created, or it is deleted."""
        await self._intents.withdraw()

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
        verifier = self._source.verifier
        checksums = {number: verifier.checksum(number) for number in received}
        upload = NewEntry(
            path=self._source.real_path,
            account=self._account,
            video_id=video_id,
            fingerprint=self._fingerprint,
            ranges=ranges,
            part_bytes=part_bytes,
            parts_done=received,
            checksums={number: checksum for number, checksum in checksums.items() if checksum is not None},
            ctime_ns=verifier.ctime_ns,
            video=video.raw if video else None,
        )
        await self._record.begin(upload, intent=self._intents.removable)
        # From now on the container has parts, and the intent does not contain their size.
        self._intents.current = None

    async def record_part(self, part_number: int, video: Video | None) -> None:
        """Record that the service has stored a part.

        :param video: the finished Video, if this part completed it
        """
        verifier = self._source.verifier
        await self._record.acknowledge(
            part_number, video, checksum=verifier.checksum(part_number), ctime_ns=verifier.ctime_ns
        )

    async def forget_parts(self) -> None:
        """Remove the recorded acknowledgements, because some of them are wrong."""
        await self._record.forget_parts()

    async def finish(self, video: Video) -> Video:
        """Record the finished Video.

        :returns: the Video without our metadata entries
        """
        await self._record.finish(video, replace=False)
        return without_resume_metadata(video)

    @property
    def has_thumbnail(self) -> bool:
        """Whether an earlier run has added the thumbnail to the finished video."""
        return self._record.entry is not None and self._record.entry.has_thumbnail

    async def record_thumbnail(self) -> None:
        """Record that the thumbnail is added to the finished video."""
        await self._record.record_thumbnail()

    async def deliver(self, video: Video) -> Video:
        """Clean up at the service, then remove the entry of the journal, unless ``keep_finished`` is set.

        Before that, a later run finds the finished Video: on this machine by the journal, on others by the marks.
        """
        if not self._is_delegated:
            video = await self._marks.remove(video)
        await self._intents.delete_unused(video.video_id)
        if self._options.keep_finished:
            await self._record.finish(video, replace=True)
        else:
            await self.forget()
        return video

    async def forget(self) -> None:
        """Remove the entry from the journal: the upload cannot be resumed."""
        await self._record.forget()
