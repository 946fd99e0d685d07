"""A task of a queue (taskiq) that uploads a file, and records its progress for who has ordered it.

The broker here lives in this process, so that the example runs by itself::

    APIVIDEO_API_KEY=… python examples/taskiq_task.py movie.mp4

With a broker of your own (Redis, RabbitMQ, NATS …) the task stays as it is: a worker that is killed in the middle
goes on where it stopped when the task is tried again on the same machine, since it says ``resume="local"``.
"""
# ruff: noqa: T201 - it talks

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
    """One client for all tasks of a worker: they share its connections, its token and its rate limiter."""
    state.client = await Client().__aenter__()


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def close_client(state: TaskiqState) -> None:
    """The tasks have ended."""
    await state.client.__aexit__(None, None, None)


@broker.task
async def upload_file(
    path: str,
    title: str,
    context: Context = TaskiqDepends(),  # noqa: B008 - as in taskiq's own documentation
    tracker: ProgressTracker[Any] = TaskiqDepends(),  # noqa: B008
) -> str:
    """Upload a file.

    :returns: the new video's id
    """

    async def on_progress(progress: Progress) -> None:
        meta = {"arrived": progress.acknowledged_bytes, "of": progress.total_bytes}
        await tracker.set_progress(TaskState.STARTED, meta)

    client: Client = context.state.client
    video = await client.upload(path, title=title, resume="local", on_progress=on_progress)
    return video.video_id


async def main(path: str) -> None:
    """Order the upload, look at it now and then, and have its result."""
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
