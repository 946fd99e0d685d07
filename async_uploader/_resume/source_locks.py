"""Allows one process at a time to upload a source."""

from __future__ import annotations

import hashlib

import filelock

from async_uploader._errors import SourceError
from async_uploader._sources.file import FileSource

from .entry import Account
from .worker import JournalWorker


class SourceLocks:
    """The locks of one source and account.

    There are two: one for the path, which stays the same if the file is replaced during the upload, and one for
    the inode, which is the same for all paths to the file.
    """

    def __init__(self, source: FileSource, *, account: Account, worker: JournalWorker) -> None:
        self._source = source
        self._account = account
        self._worker = worker
        self._held: list[filelock.FileLock] = []

    async def acquire(self) -> None:
        """Acquire both. Without a usable state directory, there are no locks.

        :raises SourceError: another process uploads the source
        """
        identity = self._source.identity
        try:
            for name in (bytes(self._source.real_path), f"{identity.device}:{identity.inode}".encode()):
                key = hashlib.blake2b(name + self._account.fingerprint.encode(), digest_size=16).hexdigest()
                if (lock := await self._worker.lock(key)) is not None:
                    self._held.append(lock)
        except filelock.Timeout as exc:
            raise SourceError(
                f"{self._source.display_name} is already being uploaded by another process."
            ) from exc

    async def release(self) -> None:
        """Release what was acquired."""
        if self._held:
            # In one call, so that a disk that hangs delays a cancellation only once.
            locks, self._held = self._held, []
            await self._worker.unlock(*locks)
