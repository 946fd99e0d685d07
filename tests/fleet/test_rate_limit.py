"""One rate limit for workers that share no file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from async_uploader.emulator import Emulator
from async_uploader.fleet import Fleet
from harness.cluster import Cluster
from harness.service import KEY

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("credentials")]


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(api_key=KEY, rate_limit=8, rate_window=2.0) as emulator:
        yield emulator


async def test_no_request_of_three_machines_is_refused(
    emulator: Emulator, cluster: Cluster, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{number}.mp4" for number in range(18)]
    for path in paths:
        path.write_bytes(path.name.encode())
    async with Fleet(cluster.address, base_url=emulator.url) as fleet:
        results = [result async for result in fleet.upload_many(paths)]
    assert [result.error for result in results] == [None] * len(paths)
    assert len(emulator.videos) == len(paths)
    assert [record.status for record in emulator.requests if record.endpoint == "upload"] == [201] * len(paths)
    assert not [record for record in emulator.requests if record.status == 429]
