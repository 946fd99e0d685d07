"""A taskiq task that uploads a file and reports its progress.

The broker runs in this process, so the example needs nothing else::

    APIVIDEO_API_KEY=… python examples/taskiq_task.py movie.mp4

The task works unchanged with another broker (Redis, RabbitMQ, NATS …). Because of ``resume="local"``, a retry of
the task on the same machine resumes the upload of a worker that was killed.
"""
# ruff: noqa: T201 - prints its result

from __future__ import annotations

import asyncio
import sys
from typing import Any

from taskiq import Context, InMemoryBroker, TaskiqDepends, TaskiqEvents, TaskiqState
from taskiq.depends.progress_tracker import ProgressTracker, TaskState

from async_uploader import Client, Progress

broker = InMemoryBroker()


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def open_client(state: TaskiqState) -> None:
    """Open one client for all tasks of a worker: they share its connections, bearer token and rate limiter."""
    state.client = await Client().__aenter__()


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def close_client(state: TaskiqState) -> None:
    """Close the client after the last task."""
    await state.client.__aexit__(None, None, None)


@broker.task
async def upload_file(
    path: str,
    title: str,
    context: Context = TaskiqDepends(),  # noqa: B008 - as in the documentation of taskiq
    tracker: ProgressTracker[Any] = TaskiqDepends(),  # noqa: B008
) -> str:
    """Upload a file.

    :returns: the new video's id
    """

    async def on_progress(progress: Progress) -> None:
        meta = {"acknowledged": progress.acknowledged_bytes, "total": progress.total_bytes}
        await tracker.set_progress(TaskState.STARTED, meta)

    client: Client = context.state.client
    video = await client.upload(path, title=title, resume="local", on_progress=on_progress)
    return video.video_id


async def main(path: str) -> None:
    """Queue the upload, poll its progress, and print its result."""
    await broker.startup()
    try:
        task = await upload_file.kiq(path, "From a queue")
        while not await task.is_ready():
            if progress := await task.get_progress():
                print(progress.meta)
            await asyncio.sleep(0.1)
        result = await task.wait_result()
        result.raise_for_error()
        print(result.return_value)
    finally:
        await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
