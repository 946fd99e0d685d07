"""Chooses the way to resume each upload of a client."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import anyio

from async_uploader._options import TransferOptions
from async_uploader._sources.file import FileSource
from async_uploader._sources.protocol import UploadSource

from .containers import RemoteContainers
from .entry import Account
from .keyed_session import KeyedSession
from .resumption import Resumption

if TYPE_CHECKING:
    from .worker import JournalWorker


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
        """The resumption of an upload; None if it cannot be resumed."""
        if not isinstance(source, FileSource):
            return None
        if (key := options.idempotency_key) is not None:
            return KeyedSession(
                source, key=key, ranges=options.ranges, containers=containers, lock=self.key_lock(key)
            )
        if options.resume == "off":
            return None
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

    def close(self) -> None:
        """End the thread of the journal."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None
