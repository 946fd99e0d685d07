"""Uploads one catalogue with a fleet whose workers and coordinator are repeatedly killed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from async_uploader.emulator import Emulator

from .cluster import Cluster
from .forking import Forks
from .service import KEY, Service

_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetCounts:
    """The result. Everything from ``missing`` on must be 0.

    :ivar worker_kills: how often a worker was killed
    :ivar bodies_into_429: parts that were refused after they were sent
    """

    videos: int
    seconds: float
    worker_kills: int
    coordinator_kills: int
    missing: int
    duplicates: int
    orphans: int
    wrong_sizes: int
    bodies_into_429: int

    @property
    def is_good(self) -> bool:
        """Whether each source has exactly one finished video, and nothing was refused."""
        return not any((self.missing, self.duplicates, self.orphans, self.wrong_sizes, self.bodies_into_429))


class FleetRun:
    """Runs the command ``fleet`` until it has uploaded everything.

    :param folder: for the catalogue
    :param count: number of files, whose content is a hole after a few bytes
    :param kill_seconds: seconds between the ends of workers; the first one is killed after the first part
    :param kill_results: number of results between them. On a busy machine, this is sure to make progress
    :param coordinator_kills: how often the command is killed; evenly distributed over the catalogue
    """

    def __init__(
        self,
        folder: Path,
        *,
        count: int,
        size_bytes: int,
        kill_seconds: float | None = None,
        kill_results: int | None = None,
        coordinator_kills: int = 2,
        seed: int = 0,
    ) -> None:
        self._folder = folder
        self._size_bytes = size_bytes
        self._kill_seconds = kill_seconds
        self._kill_results = kill_results
        self._coordinator_kills = coordinator_kills
        self._random = random.Random(seed)
        self._names = [f"{number:05}.mp4" for number in range(count)]
        for name in self._names:
            path = folder / name
            path.write_bytes(name.encode())
            os.truncate(path, size_bytes)
        (folder / "m.csv").write_text("\n".join(["source", *self._names]) + "\n")

    def run(self, forks: Forks, service: Service, cluster: Cluster) -> FleetCounts:
        """Upload the catalogue, and check the videos."""
        began = time.monotonic()
        is_done = threading.Event()
        kills: list[str] = []
        killer = threading.Thread(target=self._kill_workers, args=(service, cluster, kills, is_done))
        killer.start()
        try:
            for number in range(self._coordinator_kills):
                process = self._start(forks, service, cluster)
                finished = len(self._names) * (number + 1) // (self._coordinator_kills + 1)
                self._wait_for_results(process, finished)
                process.kill()
                process.communicate()
            process = self._start(forks, service, cluster)
            _, errors = process.communicate()
        finally:
            is_done.set()
            killer.join()
        if process.returncode:
            raise RuntimeError(f"the last command ended with {process.returncode}: {errors[-2000:]}")
        return self._check(service, seconds=time.monotonic() - began, worker_kills=len(kills))

    def _start(self, forks: Forks, service: Service, cluster: Cluster) -> subprocess.Popen[Any]:
        command = ["fleet", "--manifest=m.csv", "--results=r.jsonl", "--quiet", f"--scheduler={cluster.address}"]
        environment = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        return forks.command(
            command, self._folder, environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def _count_results(self) -> int:
        path = self._folder / "r.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def _wait_for_results(self, process: subprocess.Popen[Any], count: int) -> None:
        while self._count_results() < count:
            if process.poll() is not None:
                _, errors = process.communicate()
                raise RuntimeError(f"a command ended early with {process.returncode}: {errors[-2000:]}")
            time.sleep(_POLL_SECONDS)

    def _kill_workers(
        self, service: Service, cluster: Cluster, kills: list[str], is_done: threading.Event
    ) -> None:
        """Kill a worker, and start it again, as the manager of a cluster does."""
        while not service.emulator.statistics().bytes_received and not is_done.wait(_POLL_SECONDS):
            pass
        while self._wait_for_kill(is_done):
            name = self._random.choice([name for name in cluster.processes if name != "scheduler"])
            cluster.kill(name)
            kills.append(name)
            cluster.start_worker(name)

    def _wait_for_kill(self, is_done: threading.Event) -> bool:
        """Wait until the next worker is to be killed; False at the end."""
        if self._kill_results is None:
            return not is_done.wait(self._kill_seconds)
        results = self._count_results() + self._kill_results
        while self._count_results() < results:
            if is_done.wait(_POLL_SECONDS):
                return False
        return True

    def _check(self, service: Service, *, seconds: float, worker_kills: int) -> FleetCounts:
        lines = map(json.loads, (self._folder / "r.jsonl").read_text().splitlines())
        ids = {Path(line["path"]).name: line["video"]["videoId"] for line in lines if "video" in line}
        videos = service.emulator.videos
        titles = Counter(video.title for video in videos.values())
        return FleetCounts(
            videos=len(videos),
            seconds=seconds,
            worker_kills=worker_kills,
            coordinator_kills=self._coordinator_kills,
            missing=sum(ids.get(name) not in videos for name in self._names),
            duplicates=sum(count - 1 for count in titles.values()),
            orphans=len(videos.keys() - ids.values()),
            wrong_sizes=sum(self._has_wrong_size(service, video_id) for video_id in ids.values()),
            bodies_into_429=service.emulator.statistics().bodies_into_429,
        )

    def _has_wrong_size(self, service: Service, video_id: str) -> bool:
        def is_known(emulator: Emulator) -> bool:
            return video_id in emulator.videos

        return not is_known(service.emulator) or service.finished(video_id).size_bytes != self._size_bytes
