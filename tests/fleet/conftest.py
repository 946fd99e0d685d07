"""Fixtures of the fleet tests: catalogues, and clusters of real processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.cluster import Cluster, Nursery, running_cluster
from harness.forking import Forks
from harness.service import KEY

# Re-exported: fixtures of the command line's tests.
from tests.cli.conftest import cli, make_file, online, portal, service, start_cli, start_online, start_service

__all__ = ("cli", "make_file", "online", "portal", "service", "start_cli", "start_online", "start_service")


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Starts commands that need Dask quickly."""
    with Forks("distributed", "async_uploader.fleet._cluster") as forks:
        yield forks


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


@pytest.fixture(scope="session")
def cluster(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler and three workers with different state directories, for tests that kill none of them."""
    with running_cluster(nursery, tmp_path_factory.mktemp("cluster"), workers=3) as cluster:
        yield cluster


@pytest.fixture
def own_cluster(nursery: Nursery, tmp_path: Path) -> Iterator[Cluster]:
    """The same with two workers, to be killed."""
    with running_cluster(nursery, tmp_path, workers=2) as cluster:
        yield cluster


@pytest.fixture
def make_catalogue(tmp_path: Path) -> Callable[..., list[str]]:
    """Create files, and a manifest ``m.csv`` that lists them."""

    def make(count: int = 12, size_bytes: int = 200_000) -> list[str]:
        names = [f"{number:02}.mp4" for number in range(count)]
        for name in names:
            (tmp_path / name).write_bytes(os.urandom(size_bytes))
        (tmp_path / "m.csv").write_text("\n".join(["source", *names]) + "\n")
        return names

    return make


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API key of this process, and of the clusters that it starts."""
    monkeypatch.setenv("APIVIDEO_API_KEY", KEY)
