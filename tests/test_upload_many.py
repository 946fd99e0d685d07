"""Batches of uploads, and imports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from async_uploader import (
    Client,
    ConfigurationError,
    Uploaded,
    UploaderError,
    UploadItem,
    UploadOptions,
    UploadResult,
)
from async_uploader.emulator import Emulator

from .conftest import MIB, sha256

# Batches


async def test_upload_many(emulator: Emulator, client: Client, make_file: Callable[..., Path]) -> None:
    paths = [make_file(100 + number, f"{number}.mp4") for number in range(30)]
    items: list[Any] = [*paths, "missing.mp4", UploadItem(source=iter([b"stream"]), options={"title": "Live"})]
    results: list[UploadResult] = [result async for result in client.upload_many(items, concurrency=4)]
    assert len(results) == len(items)
    assert [str(one.error) for one in results if one.error] == ["missing.mp4 does not exist."]
    for one in results:
        if one.video and isinstance(one.item.source, Path):
            assert (await emulator.finished(one.video.video_id)).sha256 == sha256(one.item.source)
    assert "Live" in {view.title for view in emulator.videos.values()}
    assert emulator.statistics().peak_uploads_in_flight <= 4


async def test_results_are_in_the_order_in_which_uploads_end(make_file: Callable[..., Path]) -> None:
    big, small = make_file(30 * MIB, "big.mp4"), make_file(1, "small.mp4")
    async with (
        Emulator(connection_rate=20_000_000) as emulator,
        Client(api_key="local-key", base_url=emulator.url) as client,
        client.upload_many([big, small], concurrency=2) as results,
    ):
        order = [one.item.source async for one in results]
    assert order == [small, big]


async def test_leaving_upload_many_early_cancels_the_rest(
    emulator: Emulator, client: Client, make_file: Callable[..., Path]
) -> None:
    paths = [make_file(100, f"{number}.mp4") for number in range(20)]
    async with client.upload_many(paths, concurrency=2) as results:
        async for _ in results:
            break
    await emulator.wait_for(lambda emulator: emulator.statistics().uploads_in_flight == 0)
    assert len(emulator.videos) < 10
    assert not [task for task in asyncio.all_tasks() if "many uploads" in task.get_name()]


async def test_closing_the_client_cancels_its_batches(emulator: Emulator, make_file: Callable[..., Path]) -> None:
    paths = [make_file(100, f"{number}.mp4") for number in range(20)]
    async with Client(api_key="local-key", base_url=emulator.url) as client:
        results = client.upload_many(paths, concurrency=2)
        async for _ in results:
            break
    assert not [task for task in asyncio.all_tasks() if "many uploads" in task.get_name()]


@pytest.mark.parametrize("items", ["a.mp4", [7]])
async def test_misuse_of_upload_many_raises(client: Client, items: Any) -> None:
    with pytest.raises(TypeError):
        _ = [one async for one in client.upload_many(items)]


@pytest.mark.parametrize(
    "options", [{"resume": "local"}, {"part_size": 5 * MIB}, {"on_video": print, "title": "x"}], ids=str
)
async def test_an_option_that_does_not_apply_to_a_url(client: Client, emulator: Emulator, options: Any) -> None:
    """It is refused, and not ignored."""
    item = UploadItem(source="https://example.org/movie.mp4", options=options)
    (result,) = [one async for one in client.upload_many([item])]
    assert isinstance(result.error, ConfigurationError)
    name = min(options)
    assert str(result.error) == (
        f"{name} does not apply to a URL, which the service imports itself; remove {name}."
    )
    assert not emulator.videos


async def test_default_options_of_a_url(client: Client) -> None:
    options: UploadOptions = {"resume": "off", "part_size": None, "title": "Copy"}
    item = UploadItem(source="https://example.org/movie.mp4", options=options)
    (result,) = [one async for one in client.upload_many([item])]
    assert isinstance(result, Uploaded)
    assert result.video.title == "Copy"


# Imports


async def test_import_video_clones_a_video(
    emulator: Emulator, client: Client, make_file: Callable[..., Path]
) -> None:
    path = make_file(1000)
    original = await client.upload(path)
    states: list[bool | None] = []
    clone = await client.import_video(original.video_id, title="Clone")
    status = await client.wait_until_playable(
        clone.video_id, timeout=20, on_status=lambda status: states.append(status.encoding.playable)
    )
    assert status.encoding.playable
    assert states[-1] is True
    copy = await emulator.finished(clone.video_id)
    assert (copy.sha256, copy.title) == (sha256(path), "Clone")


@pytest.mark.parametrize("ranges", ["part", "bytes"])
async def test_wait_until_playable_times_out(
    client: Client, emulator: Emulator, ranges: Literal["part", "bytes"]
) -> None:
    empty = await client.create_video(title="Empty")
    with pytest.raises(UploaderError, match=r"was not playable within 0\.05 s"):
        await client.wait_until_playable(empty.video_id, timeout=0.05)
