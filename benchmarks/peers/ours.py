"""This library, with the API that programs use. Directories are uploaded with ``upload_many``."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio

from async_uploader import Client, UploadOptions
from benchmarks.units import MIB

from .task import Task, read_task, report

_TICK_SECONDS: Final = 0.005


class StallMonitor:
    """Measures how late the event loop wakes a task, at most."""

    def __init__(self) -> None:
        self.worst_seconds = 0.0

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _TICK_SECONDS
            await asyncio.sleep(_TICK_SECONDS)
            self.worst_seconds = max(self.worst_seconds, loop.time() - due)


async def _blocks(path: Path) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        while block := await file.read(MIB):
            yield block


async def upload(task: Task) -> None:
    """Upload the file, or all files of the directory."""
    options: UploadOptions = {"checksum": True} if task.checksum else {}
    if task.part_bytes is not None:
        options["part_size"] = task.part_bytes
    if task.connections is not None:
        options["concurrency"] = task.connections
    async with Client(api_key="local-key", base_url=task.url, limit_rate=task.limit_rate) as client:
        if not task.source.is_dir():
            with anyio.move_on_after(task.max_seconds or math.inf):
                await client.upload(_blocks(task.source) if task.stream else task.source, **options)
            return
        async for result in client.upload_many(task.files, concurrency=task.connections):
            if result.error is not None:
                raise result.error


async def main() -> None:
    """Do the task, and measure stalls of the event loop."""
    monitor = StallMonitor()
    watching = asyncio.create_task(monitor.run())
    started = time.perf_counter()
    await upload(read_task())
    seconds = time.perf_counter() - started
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    report(seconds=seconds, stall_seconds=monitor.worst_seconds)


if __name__ == "__main__":
    asyncio.run(main())
