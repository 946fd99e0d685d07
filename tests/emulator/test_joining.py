"""What the status says and what works agree while the parts of a source are being joined."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from async_uploader.emulator import Emulator

from .conftest import PART, Api, content

pytestmark = pytest.mark.anyio

SOURCE = content(PART) + b"end"


@pytest.fixture
def gate(emulator: Emulator) -> Iterator[threading.Event]:
    """No join starts until this is set."""
    event = threading.Event()
    emulator._store.workers._joins.submit(event.wait)
    yield event
    event.set()


async def upload(api: Api, emulator: Emulator) -> dict[str, Any]:
    """Upload a source; returns its assets as paths."""
    emulator._store.joiner.max_response_delay_seconds = 0
    video_id = await api.create()
    await api.send(video_id, content(PART), "part 1/2", expect=201)
    video = (await api.send(video_id, b"end", "part 2/2", expect=201)).json
    return {name: url.removeprefix(emulator.url) for name, url in video["assets"].items()} | {"id": video_id}


async def test_assets_wait(api: Api, emulator: Emulator, gate: threading.Event) -> None:
    """A video that is `uploaded` has assets: their responses wait for the join. `hls` is 202 until then."""
    assets = await upload(api, emulator)
    status = (await api.get(f"/videos/{assets['id']}/status")).json
    assert (status["ingest"]["status"], status["encoding"]["playable"]) == ("uploaded", False)
    page = f"/_emulator/videos/{assets['id']}"
    urls = [assets["mp4"], assets["player"], assets["thumbnail"], f"{page}/source", f"{page}/thumbnail"]
    waiting = [asyncio.create_task(api.get(url, expect=200)) for url in urls]
    assert (await api.get(assets["hls"], expect=202)).body == b""
    assert not any(task.done() for task in waiting)
    gate.set()
    mp4, *_, source, _ = await asyncio.gather(*waiting)
    assert mp4.body == source.body == SOURCE


async def test_clones_wait(api: Api, emulator: Emulator, gate: threading.Event) -> None:
    """A clone is accepted at once, and finished after its original."""
    original = await upload(api, emulator)
    clone = await api.create(source=original["id"])
    assert emulator.videos[clone].state == "importing"
    assert (await api.get(f"/videos/{clone}/status")).json["ingest"]["status"] == "ingesting"
    gate.set()
    assert (await emulator.finished(clone)).sha256 == emulator.sha256(original["id"])


async def test_a_deleted_original(api: Api, emulator: Emulator, gate: threading.Event) -> None:
    """A clone of a video that is deleted before it is joined fails; its assets get 404."""
    original = await upload(api, emulator)
    clone = await api.create(source=original["id"])
    waiting = asyncio.create_task(api.get(original["mp4"], expect=404))
    deleting = asyncio.create_task(api.delete(f"/videos/{original['id']}", expect=204))
    await emulator.wait_for(lambda e: original["id"] not in e.videos)
    gate.set()
    await asyncio.gather(deleting, waiting)
    await emulator.wait_for(lambda e: e.videos[clone].state == "failed")


async def test_an_original_that_is_not_uploaded(api: Api) -> None:
    """An incomplete upload cannot be cloned."""
    video_id = await api.create()
    await api.send(video_id, content(PART), "part 1/2", expect=201)
    reply = await api.post("/videos", json={"title": "x", "source": video_id}, expect=400)
    assert reply.slug == "invalid-attribute"
