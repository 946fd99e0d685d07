"""The threads for blocking work, and the tasks that outlive their requests.

Three executors keep the event loop free: one thread for small files, so that two writes of the same file keep
their order; several for request bodies; and one of low priority for joining and hashing, so that these never delay
bodies.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

T = TypeVar("T")

_JOIN_NICENESS: Final = 10


class Workers:
    """The executors and tasks of one store. `stop` is set when blocking work should end."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._small_files = ThreadPoolExecutor(1, "emulator-small")
        self._bodies = ThreadPoolExecutor(4, "emulator-body")
        self._joins = ThreadPoolExecutor(1, "emulator-join", _lower_priority)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._background: set[asyncio.Task[Any]] = set()

    async def run_small(self, function: Callable[..., T], *arguments: object) -> T:
        """Run work on small files, one call after the other."""
        return await self._run(self._small_files, function, *arguments)

    async def run_body(self, function: Callable[..., T], *arguments: object) -> T:
        """Run work on request bodies and downloads."""
        return await self._run(self._bodies, function, *arguments)

    async def run_join(self, function: Callable[..., T], *arguments: object) -> T:
        """Run joining or hashing, at low priority."""
        return await self._run(self._joins, function, *arguments)

    def submit_body(self, function: Callable[[], object]) -> None:
        """Run work on bodies that nobody waits for."""
        self._bodies.submit(function)

    def start_task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task that runs to its end, also while the store closes."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def start_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task that no request waits for. It is cancelled when the store closes."""
        task = self.start_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def cancel_background(self) -> None:
        """Cancel the background tasks."""
        tasks = list(self._background)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def wait_for_tasks(self) -> None:
        """Wait for all tasks that are running now."""
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    async def finish_tasks(self) -> None:
        """Stop the blocking work, cancel the background tasks and wait for all tasks."""
        self.stop.set()
        for task in self._background:
            task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def shut_down(self, last: Iterable[Callable[[], object]]) -> None:
        """Wait for all threads, and run the last work on small files."""
        await self.run_small(self._shut_down, *last)
        self._small_files.shutdown()  # its thread is idle

    def _shut_down(self, *last: Callable[[], object]) -> None:
        self._bodies.shutdown()
        self._joins.shutdown()
        for function in last:
            function()

    async def _run(self, executor: ThreadPoolExecutor, function: Callable[..., T], *arguments: object) -> T:
        """Call a function in a thread. If the caller is cancelled, the call still runs, and may fail unnoticed."""
        work = asyncio.get_running_loop().run_in_executor(executor, function, *arguments)
        work.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(work)


def _lower_priority() -> None:
    """Give the processor to the requests first. On Linux, every thread has its own niceness."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _JOIN_NICENESS)
