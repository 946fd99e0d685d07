"""Creates what makes the uploads of one client resumable."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import anyio

from async_uploader._api.service import Service
from async_uploader._flow.retries import RetryRunner
from async_uploader._options import TransferOptions
from async_uploader._sources.file import FileSource

from .containers import RemoteContainers, SettlingPolicy
from .entry import Account
from .keyed_session import KeyedSession
from .resumption import Resumption

if TYPE_CHECKING:
    from .worker import JournalWorker


class Resumptions:
    """What makes the uploads of one client resumable. They share the journal's thread, and the locks of the keys.

    :param account: the account and the service
    :param policy: how long a new container waits for older ones
    """

    def __init__(self, account: Account, *, policy: SettlingPolicy) -> None:
        self._account = account
        self._policy = policy
        self._worker: JournalWorker | None = None
        self._key_locks: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()

    def close(self) -> None:
        """Close the journal."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def containers(self, service: Service, retries: RetryRunner) -> RemoteContainers:
        """The requests about containers of earlier runs."""
        return RemoteContainers(service, retries, self._policy)

    def key_lock(self, key: str) -> anyio.Lock:
        """The lock of an idempotency key.

        Uploads of one client with the same key run one after another. Otherwise, each would create a container,
        and all but one would delete it again. The rate limit allows few such requests.
        """
        lock = self._key_locks.get(key)
        if lock is None:
            lock = self._key_locks[key] = anyio.Lock()
        return lock

    def of(
        self, source: FileSource, *, options: TransferOptions, service: Service, retries: RetryRunner
    ) -> Resumption | None:
        """What makes one upload resumable; None if it is not to be resumed."""
        containers = self.containers(service, retries)
        key = options.idempotency_key
        if key is not None:
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
            is_delegated=service.delegated,
        )
