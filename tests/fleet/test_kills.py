"""A small version of `python -m benchmarks.fleet_soak`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from harness.cluster import Cluster
from harness.fleet_run import FleetRun
from harness.forking import Forks
from harness.service import Service


@pytest.mark.timeout(150)
def test_everything_is_killed_and_each_source_has_one_video(
    forks: Forks,
    start_service: Callable[..., AbstractContextManager[Service]],
    own_cluster: Cluster,
    tmp_path: Path,
) -> None:
    run = FleetRun(tmp_path, count=24, size_bytes=300_000, kill_results=5)
    with start_service(rate_limit=20, rate_window=2.0) as service:
        counts = run.run(forks, service, own_cluster)
    assert counts.is_good, counts
    assert counts.videos == 24
    assert counts.worker_kills
