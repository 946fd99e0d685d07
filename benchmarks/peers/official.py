"""The official Python client. It sends one part after another."""

from __future__ import annotations

import os
import sys
import time

from apivideo.api.videos_api import VideosApi
from apivideo.auth_api_client import AuthenticatedApiClient
from apivideo.configuration import Configuration
from apivideo.model.video_creation_payload import VideoCreationPayload

from .task import Task, read_task, report


def upload(task: Task) -> None:
    """Create a container for each file, and upload the file."""
    chunk = {} if task.part_bytes is None else {"chunk_size": task.part_bytes}
    configuration = Configuration(ssl_ca_cert=task.ca, **chunk)
    client = AuthenticatedApiClient("local-key", configuration=configuration)
    client.configuration.host = task.url
    client.connect()
    videos = VideosApi(client)
    for path in task.files:
        video = videos.create(VideoCreationPayload(title=path.name))
        with path.open("rb") as file:
            videos.upload(video["video_id"], file)


def main() -> None:
    """Do the task, and exit without waiting for the client's thread pool, which would take a second to stop."""
    task = read_task()
    started = time.perf_counter()
    upload(task)
    report(seconds=time.perf_counter() - started)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
