"""The loop that tutorials show: read a part, post it with requests, repeat."""

from __future__ import annotations

import time

import requests

from .task import Task, read_task, report

_SECONDS = 300


def upload(task: Task) -> None:
    """Log in, create a container for each file, and post its parts."""
    verify = task.ca or True
    key = {"apiKey": "local-key"}
    login = requests.post(f"{task.url}/auth/api-key", json=key, verify=verify, timeout=_SECONDS)
    headers = {"Authorization": f"Bearer {login.json()['access_token']}"}
    for path in task.files:
        video = requests.post(
            f"{task.url}/videos", json={"title": path.name}, headers=headers, verify=verify, timeout=_SECONDS
        ).json()
        extents = task.extents(path)
        with path.open("rb") as file:
            for number, (_, size_bytes) in enumerate(extents, 1):
                response = requests.post(
                    f"{task.url}/videos/{video['videoId']}/source",
                    files={"file": (path.name, file.read(size_bytes))},
                    headers={**headers, "Content-Range": f"part {number}/{len(extents)}"},
                    verify=verify,
                    timeout=_SECONDS,
                )
                response.raise_for_status()


def main() -> None:
    """Do the task."""
    task = read_task()
    started = time.perf_counter()
    upload(task)
    report(seconds=time.perf_counter() - started)


if __name__ == "__main__":
    main()
