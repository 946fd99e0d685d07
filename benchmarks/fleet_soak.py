"""Measures a fleet at full size: reliability under kills, cost of the coordinator, and scaling.

    python -m benchmarks.fleet_soak kills      2,000 files of 6 MB and 3 workers; a worker is killed every 5 s, the
                                               coordinator twice
    python -m benchmarks.fleet_soak cost       CPU time and memory of the coordinator for 100,000 items; workers
                                               upload nothing, and report a video at once
    python -m benchmarks.fleet_soak scaling    throughput of 1 and of 3 workers, each limited to the same rate

The exit code is 1 unless each source has exactly one video and all goals are met.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil
from anyio.from_thread import start_blocking_portal

from async_uploader import UploadItem, UploadOptions
from async_uploader.emulator import Emulator
from async_uploader.fleet import Fleet
from harness.cluster import Cluster, Nursery, running_cluster
from harness.fleet_run import FleetRun
from harness.forking import Forks
from harness.service import KEY, running_service

_MB: Final = 1_000_000
_MIB: Final = 1 << 20
_WORKERS: Final = 3
_KILL_SECONDS: Final = 5.0
_MAX_CPU_MS: Final = 2.0
_MAX_MEMORY_MIB: Final = 300
_LINE_RATE: Final = 4 * _MB
_MIN_SCALING: Final = 2.7


def main() -> int:
    """Run one of the measurements.

    :returns: the exit code
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "cost", "scaling"])
    parser.add_argument("--items", type=int, help="number of items (default: 2,000 for kills, 100,000 for cost)")
    parser.add_argument("--megabytes", type=float, default=6.0, help="size of a file for kills (default: 6)")
    arguments = parser.parse_args()
    # The sources and the emulator's files may need several gigabytes.
    with tempfile.TemporaryDirectory() as folder, Nursery() as nursery:
        match arguments.what:
            case "kills":
                return _kill(nursery, Path(folder), arguments.items or 2_000, round(arguments.megabytes * _MB))
            case "cost":
                return _cost(nursery, Path(folder), arguments.items or 100_000)
            case _:
                return _scale(nursery, Path(folder))


def _kill(nursery: Nursery, folder: Path, items: int, size_bytes: int) -> int:
    run = FleetRun(folder, count=items, size_bytes=size_bytes, kill_seconds=_KILL_SECONDS)
    with (
        Forks() as forks,
        start_blocking_portal() as portal,
        running_service(portal, rate_limit=100, rate_window=5.0) as service,
        running_cluster(nursery, folder, workers=_WORKERS) as cluster,
    ):
        counts = run.run(forks, service, cluster)
    print(counts)
    return 0 if counts.is_good and counts.videos == items else 1


def _cost(nursery: Nursery, folder: Path, items: int) -> int:
    """Measure the coordinator alone: the workers report a video, events and progress at once."""
    os.environ.update(APIVIDEO_API_KEY=KEY, APIVIDEO_BASE_URL="https://127.0.0.1:1")
    with running_cluster(nursery, folder, workers=_WORKERS) as cluster:
        for name in [name for name in cluster.processes if name != "scheduler"]:
            cluster.kill(name)
        for number in range(_WORKERS):
            cluster.start_worker(f"instant {number}", instant=True, threads=8)
        return asyncio.run(_coordinate(cluster, folder, items))


async def _coordinate(cluster: Cluster, folder: Path, items: int) -> int:
    source = folder / "tiny.mp4"
    source.write_bytes(b"tiny")
    seen = [0]

    def count(_: object) -> None:
        seen[0] += 1

    def catalogue() -> Iterator[UploadItem]:
        options = UploadOptions(on_event=count, on_progress=count)
        for number in range(items):
            yield UploadItem(source=source, idempotency_key=str(number), options=options)

    async with Fleet(cluster.address, results=folder / "results.jsonl") as fleet:
        cpu, began, done = time.process_time(), time.monotonic(), 0
        async for result in fleet.upload_many(catalogue()):
            assert result.error is None, result.error
            done += 1
            if done % (items // 5) == 0:
                print(f"{done:>9,} items, {_memory_mib()} MiB", flush=True)
        cpu, seconds = time.process_time() - cpu, time.monotonic() - began
    times = psutil.Process(cluster.processes["scheduler"]).cpu_times()
    milliseconds, memory = cpu / done * 1000, _memory_mib()
    print(f"scheduler: {(times.user + times.system) / done * 1000:.2f} ms of CPU an item")
    print(
        f"{done:,} items, {seen[0]:,} callbacks: {milliseconds:.2f} ms of CPU an item, "
        f"{done / seconds:.0f} items/s, {memory} MiB"
    )
    return 0 if done == items and milliseconds < _MAX_CPU_MS and memory < _MAX_MEMORY_MIB else 1


def _memory_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def _scale(nursery: Nursery, folder: Path) -> int:
    """Compare the throughput of one and of three workers, each limited to the same rate."""
    paths = [folder / f"{number}.mp4" for number in range(24)]
    for path in paths:
        path.write_bytes(path.name.encode())
        os.truncate(path, 6 * _MB)
    os.environ["APIVIDEO_API_KEY"] = KEY
    rates = {}
    for workers in (1, _WORKERS):
        with running_cluster(nursery, folder, workers=workers) as cluster:
            rates[workers] = asyncio.run(_throughput(cluster, paths))
        print(
            f"{workers} workers: {rates[workers] / _MB:.2f} MB/s of {workers * _LINE_RATE / _MB:.0f}", flush=True
        )
    scaling = rates[_WORKERS] / _LINE_RATE
    print(f"{_WORKERS} workers reach {scaling:.2f} times the rate of one worker")
    return 0 if scaling >= _MIN_SCALING else 1


async def _throughput(cluster: Cluster, paths: list[Path]) -> float:
    """Bytes per second between a quarter and three quarters of the bytes: when all workers are busy."""
    total = sum(path.stat().st_size for path in paths)
    async with Emulator(api_key=KEY) as emulator:
        marks: list[tuple[float, int]] = []

        async def observe() -> None:
            while True:
                marks.append((time.monotonic(), emulator.statistics().bytes_received))
                await asyncio.sleep(0.05)

        observer = asyncio.create_task(observe())
        async with Fleet(cluster.address, base_url=emulator.url, limit_rate=_LINE_RATE) as fleet:
            errors = [result.error async for result in fleet.upload_many(paths)]
        observer.cancel()
    assert not any(errors), errors
    busy = [(at, count) for at, count in marks if total / 4 <= count <= total * 3 / 4]
    return (busy[-1][1] - busy[0][1]) / (busy[-1][0] - busy[0][0])


if __name__ == "__main__":
    sys.exit(main())
