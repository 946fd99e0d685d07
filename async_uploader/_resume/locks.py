"""File locks in the state directory. They are released when their process ends, however it ends."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import filelock

from async_uploader._private_directory import make_private_directory

from .state_directory import state_directory


def acquire(name: str) -> filelock.FileLock:
    """Acquire a lock in the state directory. Blocks for the disk, but not for another process.

    :raises filelock.Timeout: another process holds the lock
    :raises OSError: the lock file cannot be created
    """
    path = state_directory() / "locks" / f"{name}.lock"
    make_private_directory(path.parent)
    lock = filelock.FileLock(path, mode=0o600, thread_local=False)
    lock.acquire(blocking=False)
    return lock


def release(locks: Iterable[filelock.FileLock]) -> None:
    """Release locks and delete their files. A file that cannot be deleted stays, and locks nothing."""
    for lock in locks:
        # Deleted while the lock is held: a process that has opened the file notices that it is deleted.
        with suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()
