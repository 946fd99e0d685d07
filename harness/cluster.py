"""Dask clusters of real processes, started in a fraction of the time that the commands of Dask take.

One process imports everything once, and forks a scheduler or a worker for each line on its standard input. Each
worker has its own state directory, like a worker on another machine.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

from .service import KEY

_PR_SET_PDEATHSIG: Final = 1


class Nursery:
    """The process that forks. Use it as a context manager."""

    def __enter__(self) -> Self:
        self._lock = threading.Lock()
        variables = {name: value for name, value in os.environ.items() if not name.startswith("APIVIDEO_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.cluster"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
            env=variables | {"APIVIDEO_API_KEY": KEY},
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def start(self, request: Mapping[str, Any]) -> tuple[int, str]:
        """Fork a process, and return its id and its address."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(f"{json.dumps(request)}\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline())
        return answer["pid"], answer["address"]


class Cluster:
    """A scheduler and its workers. Made by :func:`running_cluster`.

    :ivar address: of the scheduler
    :ivar processes: ids of the processes, by name; the scheduler's is ``scheduler``
    :ivar addresses: their addresses
    """

    def __init__(self, nursery: Nursery, directory: Path, ttl_seconds: float | None) -> None:
        self._nursery = nursery
        self._directory = directory
        self.processes: dict[str, int] = {}
        self.addresses: dict[str, str] = {}
        self.address = self._start("scheduler", {"ttl": ttl_seconds})

    def start_worker(
        self,
        name: str,
        *,
        threads: int = 4,
        resources: Mapping[str, float] | None = None,
        poison: str | None = None,
        instant: bool = False,
        **environment: str,
    ) -> str:
        """Start a worker, and return its address. The same name has the same state directory again.

        :param threads: uploads at the same time
        :param poison: name of a source that kills the worker; default: none
        :param instant: upload nothing, and report a video, events and progress at once
        :param environment: in addition to the API key and the state directory
        """
        settings = {
            "name": name, "threads": threads, "resources": resources, "scheduler": self.address, "poison": poison,
            "instant": instant,
        }  # fmt: skip
        state = str(self._directory / f"state of {name}")
        return self._start(name, {**settings, "environment": {"XDG_STATE_HOME": state, **environment}})

    def kill(self, name: str) -> None:
        """Kill a process, as if its machine had failed."""
        with suppress(ProcessLookupError):
            self.signal(name, signal.SIGKILL)
        del self.processes[name]

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process."""
        os.kill(self.processes[name], number)

    def logs(self) -> list[Path]:
        """The logs of all processes."""
        return list(self._directory.glob("*.log"))

    def _start(self, name: str, settings: dict[str, Any]) -> str:
        request = {"log": str(self._directory / f"{name}.log"), **settings}
        self.processes[name], self.addresses[name] = self._nursery.start(request)
        return self.addresses[name]


@contextmanager
def running_cluster(
    nursery: Nursery, directory: Path, *, workers: int, ttl_seconds: float | None = None
) -> Iterator[Cluster]:
    """Run a cluster whose workers are named ``worker 0``, ``worker 1`` …

    :param directory: for the state directories, and the log of each process
    :param ttl_seconds: after which a silent worker counts as dead; default: 300
    """
    cluster = Cluster(nursery, directory, ttl_seconds)
    try:
        for number in range(workers):
            cluster.start_worker(f"worker {number}")
        yield cluster
    finally:
        for name in list(cluster.processes):
            cluster.kill(name)


async def _run_scheduler(settings: Mapping[str, Any], report: Any) -> None:
    from distributed import Scheduler

    async with Scheduler(
        host="127.0.0.1", port=0, dashboard=False, worker_ttl=settings["ttl"] or 300
    ) as scheduler:
        report(scheduler.address)
        await scheduler.finished()


async def _run_worker(settings: Mapping[str, Any], report: Any) -> None:
    from distributed import Worker

    if settings["poison"] is not None:
        _poison(settings["poison"])
    if settings["instant"]:
        _replace_uploads()
    async with Worker(
        settings["scheduler"],
        nthreads=settings["threads"],
        name=settings["name"],
        resources=settings["resources"],
        dashboard=False,
        local_directory=os.path.dirname(settings["log"]),
    ) as worker:
        report(worker.address)
        await worker.finished()


def _poison(name: str) -> None:
    """Kill this process when it opens a source with this name, as a bug in a parser would."""
    from async_uploader._uploads.opening import SourceOpener

    original = SourceOpener.open

    async def open_source(self: SourceOpener, source: Any, options: Any) -> Any:
        if os.path.basename(source) == name:
            os.kill(os.getpid(), signal.SIGKILL)
        return await original(self, source, options)

    SourceOpener.open = open_source  # type: ignore[method-assign]


def _replace_uploads() -> None:
    """Let uploads end at once, with the events of an upload of one part."""
    from async_uploader import Client, Progress, Video, events

    async def upload(_: Client, source: str, **options: Any) -> Video:
        video = {"videoId": f"vi{options['idempotency_key']}", "title": os.path.basename(source)}
        plan: dict[str, Any] = {"parts_total": 1, "part_bytes": 1}
        outcome: dict[str, Any] = {"connection": 1, "outcome": events.PartOutcome.STORED, "error": None}
        for event in (
            events.UploadBegan(total_bytes=4, concurrency=4, adapts=True, **plan),
            events.ContainerReady(video_id=video["videoId"], parts_done=0, acknowledged_bytes=0, **plan),
            events.ConcurrencyChanged(concurrency=4),
            events.PartBegan(part_number=1, size_bytes=4, attempt=1),
            events.PartEnded(part_number=1, size_bytes=4, attempt=1, began_at_seconds=1.0, **outcome),
            events.UploadEnded(video_id=video["videoId"], outcome=events.UploadOutcome.FINISHED, error=None),
        ):
            options["on_event"](event)
        progress = {"sent_bytes": 4, "acknowledged_bytes": 4, "total_bytes": 4, "parts_done": 1, "parts_total": 1}
        options["on_progress"](Progress(**progress))
        return Video.from_response(video)

    Client.upload = upload  # type: ignore[method-assign, assignment]


def _run_child(settings: Mapping[str, Any], writer: int) -> None:
    """Run a scheduler or a worker in a fork, to its end."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.update(settings.get("environment", {}))
    log = os.open(settings["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(log, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    run = _run_worker if "scheduler" in settings else _run_scheduler
    asyncio.run(run(settings, lambda address: os.write(writer, address.encode())))


def main() -> None:
    """Fork for each line. The forks end with this process."""
    import distributed  # noqa: F401 - forks need it

    import async_uploader.fleet._cluster  # noqa: F401 - likewise

    logging.basicConfig(level=logging.INFO)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended forks leave no zombies
    for line in sys.stdin:
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reader)
            try:
                _run_child(json.loads(line), writer)
            finally:
                os._exit(0)
        os.close(writer)
        answer = json.dumps({"pid": pid, "address": os.read(reader, 256).decode()})
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()
        os.close(reader)


if __name__ == "__main__":
    main()
