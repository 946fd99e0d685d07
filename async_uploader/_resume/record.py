"""The journal's entry for the current upload."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from async_uploader._models import Video

from .entry import Entry, NewEntry
from .journal import Journal
from .worker import JournalWorker


class JournalRecord:
    """Reads and writes one entry. Without an entry, because the journal cannot be used, writes do nothing.

    :ivar entry: the entry; None if there is none
    """

    def __init__(self, worker: JournalWorker) -> None:
        self._worker = worker
        self.entry: Entry | None = None
        self._video: Mapping[str, Any] | None = None

    def use(self, entry: Entry) -> None:
        """Continue with the entry of an earlier run."""
        self.entry = entry
        self._video = entry.video

    async def begin(self, upload: NewEntry, *, intent: str | None) -> None:
        """Record a container. A cancellation waits for this, because the container exists.

        :param intent: the intent to remove in the same transaction
        """
        replaces = self.entry.id if self.entry else None

        def begin(journal: Journal) -> None:
            # Set by the thread, because a cancelled caller does not receive the result.
            self.entry = journal.begin(upload, intent=intent, replaces=replaces)

        await self._worker.run_shielded(begin)
        self._video = upload.video

    async def acknowledge(
        self, part_number: int, video: Video | None, *, checksum: bytes | None, ctime_ns: int | None
    ) -> None:
        """Record that the service has stored a part.

        :param video: the finished Video, if this part completed it
        """
        if (entry := self.entry) is not None:
            raw = video.raw if video else None
            await self._worker.run(
                lambda journal: journal.acknowledge(
                    entry.id, part_number, video=raw, checksum=checksum, ctime_ns=ctime_ns
                )
            )
            self._video = raw or self._video

    async def finish(self, video: Video, *, replace: bool) -> None:
        """Record the finished Video, unless one is recorded.

        :param replace: replace a recorded Video that differs
        """
        is_outdated = self._video is None or (replace and self._video != video.raw)
        if (entry := self.entry) is not None and is_outdated:
            await self._worker.run_shielded(lambda journal: journal.finish(entry.id, video.raw))

    async def record_thumbnail(self) -> None:
        """Record that the thumbnail is added."""
        if (entry := self.entry) is not None:
            await self._worker.run_shielded(lambda journal: journal.record_thumbnail(entry.id))

    async def forget_parts(self) -> None:
        """Remove the acknowledgements, because some of them are wrong."""
        if (entry := self.entry) is not None:
            await self._worker.run(lambda journal: journal.forget_parts(entry.id))

    async def forget(self) -> None:
        """Remove the entry."""
        if (entry := self.entry) is not None:
            self.entry = None
            await self._worker.run_shielded(lambda journal: journal.forget(entry.id))
