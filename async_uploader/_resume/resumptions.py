"""Chooses the way to resume each upload of a client."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import anyio

from async_uploader._errors import SourceError
from async_uploader._options import TransferOptions
from async_uploader._sources.file import FileSource
from async_uploader._sources.protocol import UploadSource
from async_uploader._sources.remote import RemoteSource

from .containers import RemoteContainers
from .entry import Account
from .keyed_session import KeyedSession
from .marked_session import MarkedSession
from .resumption import Resumption

if TYPE_CHECKING:
    from .worker import JournalWorker

log: Final = logging.getLogger("async_uploader.resume")


class Resumptions:
    """Creates the :class:`.Resumption` of each upload of a client. They share the journal's thread, and the
    locks of idempotency keys.

    :param is_delegated: the client has only an upload token
    """

    def __init__(self, account: Account, *, is_delegated: bool) -> None:
        self._account = account
        self._is_delegated = is_delegated
        self._worker: JournalWorker | None = None
        self._key_locks: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()

    def key_lock(self, key: str) -> anyio.Lock:
        """The lock of an idempotency key.

        Uploads of one client with the same key run one after another. Otherwise, each would create a container,
        and all but one would delete it again. The rate limit allows few such requests.
        """
        lock = self._key_locks.get(key)
        if lock is None:
            lock = self._key_locks[key] = anyio.Lock()
        return lock

    def create(
        self, source: UploadSource, options: TransferOptions, containers: RemoteContainers
    ) -> Resumption | None:
        """The resumption of an upload; None if it cannot be resumed.

        :raises SourceError: an idempotency key was given, but the object has no version
        """
        if not isinstance(source, FileSource | RemoteSource):
            return None
        if isinstance(source, RemoteSource) and not source.has_version:
            return self._without_version(source, options)
        if (key := options.idempotency_key) is not None:
            return KeyedSession(
                source, key=key, ranges=options.ranges, containers=containers, lock=self.key_lock(key)
            )
        if options.resume == "off":
            return None
        if isinstance(source, RemoteSource):
            return self._by_marks(source, options, containers)
        return self._by_journal(source, options, containers)

    def _by_marks(
        self, source: RemoteSource, options: TransferOptions, containers: RemoteContainers
    ) -> MarkedSession | None:
        if self._is_delegated:
            log.info("%s: with an upload token, this upload cannot be resumed.", source.display_name)
            return None
        return MarkedSession(source, options=options, containers=containers)

    def _by_journal(
        self, source: FileSource, options: TransferOptions, containers: RemoteContainers
    ) -> Resumption:
        # Imported late: only uploads with `resume` need SQLite and file locks.
        from .session import ResumeSession  # noqa: PLC0415
        from .worker import JournalWorker  # noqa: PLC0415

        self._worker = self._worker or JournalWorker()
        return ResumeSession(
            source,
            options=options,
            account=self._account,
            worker=self._worker,
            containers=containers,
            is_delegated=self._is_delegated,
        )

    @staticmethod
    def _without_version(source: RemoteSource, options: TransferOptions) -> None:
        """Parts of two versions of an object could meet in one video.

        :raises SourceError: a key was given, which promises that the upload is resumed
        """
        if options.idempotency_key is not None:
            raise SourceError(
                f"The server of {source.display_name} states neither an ETag nor a time of change, so an upload "
                "with an idempotency key could not be resumed; remove the key."
            )
        if options.resume != "off":
            log.warning(
                "%s: its server states neither an ETag nor a time of change, so this upload cannot be resumed.",
                source.display_name,
            )

    def close(self) -> None:
        """End the thread of the journal."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None
