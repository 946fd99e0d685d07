"""Runs the journal and the locks in a thread."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

import filelock
from anyio import move_on_after

from . import locks
from .journal import Journal, reason_of

T = TypeVar("T")

log: Final = logging.getLogger("async_uploader.resume")

# Cancellation must end within a second, even if the disk hangs.
_LAST_WRITE_SECONDS: Final = 0.5


class JournalWorker:
    """Runs calls of the journal and of locks, one at a time.

    A failing journal must not prevent an upload: the first error logs a warning, and later calls return None.
    """

    def __init__(self) -> None:
        self._journal = Journal()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="async_uploader-journal")
        self._is_broken = False

    async def run(self, call: Callable[[Journal], T]) -> T | None:
        """Call a function with the journal; returns None if the journal cannot be used."""
        return await self._run(partial(call, self._journal))

    async def run_shielded(self, call: Callable[[Journal], T]) -> T | None:
        """Like :meth:`run`, but a cancellation waits up to half a second for the call."""
        running = asyncio.ensure_future(self.run(call))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            with move_on_after(_LAST_WRITE_SECONDS, shield=True):
                await asyncio.wait([running])
            running.cancel()
            raise

    async def lock(self, name: str) -> filelock.FileLock | None:
        """Acquire a lock that is released when this process ends; returns None if locks cannot be used.

        :raises filelock.Timeout: another process holds the lock
        """
        return await self._run(partial(locks.acquire, name))

    async def unlock(self, *held: filelock.FileLock) -> None:
        """Release locks. When this returns, the next upload of the same source can start."""
        with move_on_after(_LAST_WRITE_SECONDS, shield=True):
            # wait() does not cancel the future at the timeout, so the locks are released in any case.
            await asyncio.wait([asyncio.wrap_future(self._thread.submit(locks.release, held))])

    def close(self) -> None:
        """Close the journal and end the thread, after the calls that are waiting."""
        self._thread.submit(self._journal.close)
        self._thread.shutdown(wait=False)

    async def _run(self, call: Callable[[], T]) -> T | None:
        if self._is_broken:
            return None
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except filelock.Timeout:
            raise
        except (sqlite3.Error, OSError) as exc:
            if not self._is_broken:  # calls that were already waiting fail, too
                log.warning(
                    "%s cannot be used: %s. Uploads continue without it, and may not be resumable.",
                    *(self._journal.display_name, reason_of(exc)),
                )
            self._is_broken = True
            return None
