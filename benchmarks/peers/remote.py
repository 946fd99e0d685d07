"""This library, with an object in a store or on the web."""

from __future__ import annotations

import asyncio
import time

from async_uploader import Client, UploadOptions

from .task import Task, read_task, report


async def upload(task: Task) -> None:
    """Upload the object."""
    assert task.remote is not None
    options: UploadOptions = {} if task.remote.startswith("s3:") else {"fetch": "here"}
    if task.part_bytes is not None:
        options["part_size"] = task.part_bytes
    if task.connections is not None:
        options["concurrency"] = task.connections
    async with Client(api_key="local-key", base_url=task.url) as client:
        await client.upload(task.remote, **options)


async def main() -> None:
    """Do the task."""
    started = time.perf_counter()
    await upload(read_task())
    report(seconds=time.perf_counter() - started)


if __name__ == "__main__":
    asyncio.run(main())
