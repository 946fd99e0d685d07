"""`Fleet` in Python."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from async_uploader import ConfigurationError, Uploaded, UploadItem
from async_uploader.emulator import Emulator
from async_uploader.fleet import Fleet
from harness.world import KEY

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def emulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Emulator]:
    async with Emulator(api_key=KEY) as emulator:
        monkeypatch.setenv("APIVIDEO_API_KEY", KEY)
        monkeypatch.setenv("APIVIDEO_BASE_URL", emulator.url)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        yield emulator


async def test_results_are_recorded_and_finished_items_are_skipped(emulator: Emulator, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.mp4" for number in range(3)]
    for path in paths:
        path.write_bytes(path.name.encode())
    delivered: list[str] = []
    items = [
        UploadItem(source=path, options={"on_video": lambda video: delivered.append(video.video_id)})
        for path in paths
    ]
    for _ in range(2):
        async with Fleet(workers=1, results=tmp_path / "r.jsonl") as fleet:
            results = [result async for result in fleet.upload_many([*items, tmp_path / "missing.mp4", b"bytes"])]
        videos = [result.video.video_id for result in results if isinstance(result, Uploaded)]
        assert sorted(videos) == sorted(emulator.videos)
        errors = sorted(str(result.error) for result in results if result.error is not None)
        assert "missing.mp4 does not exist" in errors[0]
        assert errors[1] == "A fleet uploads paths and URLs, not bytes."
    assert sorted(delivered) == sorted(emulator.videos)
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert sum("video" in line for line in lines) == 3


async def test_one_key_results_in_one_video(emulator: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "movie.mp4"
    path.write_bytes(b"movie")
    async with Fleet(workers=2) as fleet:
        items = [UploadItem(source=path, idempotency_key=key) for key in ("a", "a", "b")]
        results = [result async for result in fleet.upload_many(items)]
    assert all(isinstance(result, Uploaded) for result in results)
    assert len(emulator.videos) == 2


@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": 1, "scheduler": "tcp://127.0.0.1:1"}])
async def test_wrong_parameters(options: dict[str, object], emulator: Emulator) -> None:
    with pytest.raises(ConfigurationError):
        Fleet(**options)  # type: ignore[arg-type]
