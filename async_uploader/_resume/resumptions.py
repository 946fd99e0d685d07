"""Chooses the way to resume each upload of a client."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


class Resumptions:
    """Creates the :class:`.Resumption` of each upload of a client. They share the journal's thread.

    :param is_delegated: the client has only an upload token
    """

    def __init__(self, account: Account, *, is_delegated: bool) -> None:
        self._account = account
        self._is_delegated = is_delegated
        self._worker: JournalWorker | None = None

    def create(
        self, source: UploadSource, options: TransferOptions, containers: RemoteContainers
    ) -> Resumption | None:
        """The resumption of an upload; None if it cannot be resumed."""
        if not isinstance(source, FileSource | RemoteSource):
            return None
        if options.idempotency_key is not None:
            return KeyedSession(source, key=options.idempotency_key, ranges=options.ranges, containers=containers)
        if options.resume == "off":
            return None
        if isinstance(source, RemoteSource):
            return MarkedSession(source, options=options, containers=containers)
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
