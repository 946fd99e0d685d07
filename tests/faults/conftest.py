"""Fixtures of the fault tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .world import Source, make_source, quickened


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def state(tmp_path: Path) -> Iterator[Path]:
    """Where the journal is; retries are quick."""
    with quickened(tmp_path / "state"):
        yield tmp_path / "state"


@pytest.fixture(scope="session")
def source_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Source]:
    """Sources by their size, made once. Whoever changes one makes a copy."""
    folder = tmp_path_factory.mktemp("sources")
    made: dict[int, Source] = {}

    def source_of(size_bytes: int) -> Source:
        if size_bytes not in made:
            made[size_bytes] = make_source(folder / f"{size_bytes}.mp4", size_bytes)
        return made[size_bytes]

    return source_of
