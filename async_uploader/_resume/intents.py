"""Intents: random ids that find a container whose creation was not recorded.

Creating a container is not idempotent, and its response can be lost. So the journal records an intent before the
request, and the container carries it in its metadata until it is finished.
"""

from __future__ import annotations

import logging
from typing import Final

from async_uploader._errors import UploaderError
from async_uploader._models import MARK_INTENT, Video
from async_uploader._outcome import is_empty
from async_uploader._sources.file import FileSource

from .containers import RemoteContainers
from .entry import Account
from .journal import Journal
from .marks import new_intent
from .worker import JournalWorker

log: Final = logging.getLogger("async_uploader.resume")


class Intents:
    """The intents of one source.

    :ivar current: the intent of the container that this upload creates; None once the container is recorded
    :ivar unresolved: intents that are looked up again after the upload, because a request may have been in transit
        during the first lookup: its process was killed, or its response was lost
    """

    def __init__(
        self, source: FileSource, *, account: Account, worker: JournalWorker, containers: RemoteContainers
    ) -> None:
        self._source = source
        self._account = account
        self._worker = worker
        self._containers = containers
        self.current: str | None = None
        self.unresolved: list[str] = []

    @property
    def removable(self) -> str | None:
        """The current intent, if no other container can have it."""
        return None if self.current in self.unresolved else self.current

    async def create(self) -> str | None:
        """Record a new intent; returns None if the journal cannot be used."""
        intent = new_intent()

        def add(journal: Journal) -> None:
            journal.add_intent(intent, path=self._source.real_path, account=self._account)
            self.current = intent

        await self._worker.run(add)
        return self.current

    async def withdraw(self) -> None:
        """Remove the current intent: its container was not created, or is deleted."""
        if (intent := self.current) is not None:
            self.current = None
            await self._worker.run_shielded(lambda journal: journal.remove_intents([intent]))

    async def find_unused(self) -> str | None:
        """The id of an empty container that an earlier run created but did not record."""
        for intent in self.unresolved:
            for video in await self._containers_of(intent):
                status = await self._containers.status(video.video_id)
                if status is not None and is_empty(status):
                    name = self._source.name
                    log.info("%s: using the empty video %s of an earlier run.", name, video.video_id)
                    self.current = intent
                    return video.video_id
        return None

    async def find_created(self) -> str | None:
        """The id of the current intent's container, if the service has it."""
        if self.current is None:
            return None
        if self.current not in self.unresolved:
            self.unresolved.append(self.current)
        videos = await self._containers_of(self.current)
        return videos[0].video_id if videos else None

    async def delete_unused(self, result_id: str) -> None:
        """Delete the empty containers of all unresolved intents, except for the result of the upload."""
        if not (intents := self.unresolved):
            return
        try:
            for intent in intents:
                for video in await self._containers_of(intent):
                    if video.video_id != result_id:
                        await self._delete_if_empty(video.video_id)
        except UploaderError as exc:
            log.warning("%s: cannot delete empty videos of earlier runs: %s", self._source.name, exc)
            return
        await self._worker.run(lambda journal: journal.remove_intents(intents))

    async def _delete_if_empty(self, video_id: str) -> None:
        status = await self._containers.status(video_id)
        if status is None:
            return
        if is_empty(status):
            await self._containers.delete(video_id)
        else:
            log.warning(
                "%s: cannot resume video %s of an earlier run. Delete it, or the service deletes it after 7 days.",
                *(self._source.name, video_id),
            )

    async def _containers_of(self, intent: str) -> list[Video]:
        return await self._containers.find(key=MARK_INTENT, value=intent)
