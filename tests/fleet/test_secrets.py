"""Credentials stay in the environment of each worker, and signatures of URLs out of logs and dashboards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest
from distributed import Client as DaskClient
from distributed import Scheduler

from async_uploader import Source, UploadItem
from async_uploader.emulator import Emulator
from async_uploader.fleet import Fleet
from harness.cluster import Cluster
from harness.service import KEY

pytestmark = pytest.mark.anyio

SIGNATURE = "c2lnbmF0dXJl"
PAGES = ("info/main/workers.html", "info/main/exceptions.html", "info/main/logs.html")


def observe(dask_scheduler: Scheduler) -> dict[str, Any]:
    """Everything that a scheduler shows or remembers."""
    return {
        "keys": [str(key) for key in dask_scheduler.tasks],
        "transitions": str(dask_scheduler.transition_log),
        "events": str(dask_scheduler.get_events()),
        "plugins": str(dask_scheduler.worker_plugins) + str(dask_scheduler.plugins),
        "identity": str(dask_scheduler.identity()),
        "port": dask_scheduler.identity()["services"]["dashboard"],
    }


async def test_no_secret_is_shown(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APIVIDEO_API_KEY", KEY)
    file = tmp_path / "movie-of-a-client.mp4"
    file.write_bytes(b"movie")
    signed = f"http://127.0.0.1:1/movie.mp4?signature={SIGNATURE}"
    items: list[Source | UploadItem] = [
        file,
        UploadItem(source=signed, options={"fetch": "here", "max_attempts": 1}),
    ]
    async with Emulator(api_key=KEY) as emulator, Fleet(cluster.address, base_url=emulator.url) as fleet:
        results = [result async for result in fleet.upload_many(items)]
        async with DaskClient(  # type: ignore[no-untyped-call]
            cluster.address, asynchronous=True, set_as_default=False
        ) as dask:
            shown = await dask.run_on_scheduler(observe)
    assert sorted(result.error is None for result in results) == [False, True]
    async with aiohttp.ClientSession() as session:
        for page in PAGES:
            async with session.get(f"http://127.0.0.1:{shown['port']}/{page}") as response:
                shown[page] = await response.text()
                assert response.status == 200, page
    for log in cluster.logs():
        shown[log.name] = log.read_text()
    assert len(shown) > len(PAGES) + 6
    shown["errors"] = str([result.error for result in results])
    for where, text in shown.items():
        assert KEY not in str(text), where
        assert SIGNATURE not in str(text), where
    # Dashboards show the keys of tasks.
    assert "movie" not in str([shown["keys"], shown["transitions"], *(shown[page] for page in PAGES)])
