"""Workers that are retired, suspended and continued while they upload."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
from distributed import Client as DaskClient

from async_uploader import UploaderError, UploadResult
from async_uploader.emulator import Emulator
from async_uploader.fleet import Fleet
from async_uploader.fleet._messages import ClientOptions, UploadTask
from async_uploader.fleet._worker import UploadPlugin
from harness.cluster import Cluster, Nursery, running_cluster
from harness.service import KEY

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("credentials")]


async def until(predicate: Callable[[], object]) -> None:
    while not predicate():  # noqa: ASYNC110 - reports of workers set no event
        await asyncio.sleep(0.02)


class Upload:
    """A fleet that uploads files in the background.

    :ivar results: the results
    """

    def __init__(self, cluster: Cluster, emulator: Emulator, tmp_path: Path, *, size_bytes: int) -> None:
        self.emulator = emulator
        self.fleet = Fleet(cluster.address, base_url=emulator.url)
        self.results: list[UploadResult] = []
        self.paths = [tmp_path / f"{number}.mp4" for number in range(6)]
        for path in self.paths:
            path.write_bytes(path.name.encode())
            os.truncate(path, size_bytes)

    async def run(self) -> None:
        self.results = [result async for result in self.fleet.upload_many(self.paths)]

    async def check(self) -> None:
        assert [result.error for result in self.results] == [None] * len(self.paths)
        assert len(self.emulator.videos) == len(self.paths)
        for result in self.results:
            assert result.video is not None
            assert (await self.emulator.finished(result.video.video_id)).state == "finished"


async def test_a_worker_is_retired(own_cluster: Cluster, tmp_path: Path) -> None:
    async with Emulator(api_key=KEY, link_rate=600_000) as emulator:
        upload = Upload(own_cluster, emulator, tmp_path, size_bytes=200_000)
        async with upload.fleet, anyio.create_task_group() as group:
            group.start_soon(upload.run)
            await emulator.wait_for(lambda each: each.statistics().bytes_received)
            async with DaskClient(  # type: ignore[no-untyped-call]
                own_cluster.address, asynchronous=True, set_as_default=False
            ) as dask:
                await dask.retire_workers([own_cluster.addresses["worker 0"]])
            with anyio.fail_after(20):
                await until(lambda: len(upload.fleet.workers) == 1)
        await upload.check()


async def test_a_worker_without_credentials_leaves(own_cluster: Cluster, tmp_path: Path) -> None:
    """It would otherwise fail one item after another, faster than others upload them."""
    async with Emulator(api_key=KEY) as emulator:
        upload = Upload(own_cluster, emulator, tmp_path, size_bytes=1000)
        async with upload.fleet:
            own_cluster.start_worker("no key", APIVIDEO_API_KEY="")
            await upload.run()
            with anyio.fail_after(20):
                await until(lambda: len(upload.fleet.workers) == 2)
        await upload.check()
        address = own_cluster.start_worker("no key either", APIVIDEO_API_KEY="")
        with pytest.raises(UploaderError, match=f"The worker {address} cannot upload: No credentials"):
            await Fleet(own_cluster.address, base_url=emulator.url).__aenter__()


@pytest.mark.soak
@pytest.mark.timeout(120)
async def test_a_worker_is_stopped_for_longer_than_its_time_to_live(nursery: Nursery, tmp_path: Path) -> None:
    """When it continues, it sends into the containers that others have filled meanwhile."""
    with running_cluster(nursery, tmp_path, workers=2, ttl_seconds=5) as cluster:
        async with Emulator(api_key=KEY, link_rate=4_000_000) as emulator:
            upload = Upload(cluster, emulator, tmp_path, size_bytes=12_000_000)
            async with upload.fleet, anyio.create_task_group() as group:
                group.start_soon(upload.run)
                await emulator.wait_for(lambda each: each.statistics().bytes_received)
                cluster.signal("worker 0", signal.SIGSTOP)
                with anyio.fail_after(60):
                    await until(lambda: len(upload.fleet.workers) == 1)
                cluster.signal("worker 0", signal.SIGCONT)
            await upload.check()


@pytest.mark.soak
@pytest.mark.timeout(120)
async def test_the_scheduler_is_silent(own_cluster: Cluster, tmp_path: Path) -> None:
    """Requests wait for 10 s, and then workers use their shares until it answers again."""
    async with Emulator(api_key=KEY, rate_limit=60, rate_window=10.0, link_rate=8_000_000) as emulator:
        upload = Upload(own_cluster, emulator, tmp_path, size_bytes=20_000_000)
        async with upload.fleet, anyio.create_task_group() as group:
            group.start_soon(upload.run)
            await emulator.wait_for(lambda each: each.statistics().bytes_received)
            own_cluster.signal("scheduler", signal.SIGSTOP)
            asked_before = len(emulator.requests)
            with anyio.fail_after(60):
                await until(lambda: len(emulator.requests) > asked_before + 8)
            own_cluster.signal("scheduler", signal.SIGCONT)
        await upload.check()
        assert emulator.statistics().bodies_into_429 == 0


async def test_tasks_must_run_in_the_event_loop_of_the_worker() -> None:
    plugin = UploadPlugin()
    await plugin.setup(SimpleNamespace(thread_id=-1))  # type: ignore[arg-type]
    options = ClientOptions(base_url="", allow_plain_http=False, limit_rate=None, concurrency=None)
    task = UploadTask(
        fleet="",
        number=1,
        source="movie.mp4?signature=x",
        options={},
        is_import=False,
        client=options,
        is_remote=True,
        has_listeners=True,
    )
    assert "signature" not in repr(task)
    with pytest.raises(AssertionError, match="in the event loop"):
        await plugin.run(task)
