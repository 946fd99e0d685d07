"""Tags, discarded videos, and containers that expire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from async_uploader.emulator import Emulator

from .conftest import PART, Api, basic, content
from .test_conformance import CheckedApi

pytestmark = pytest.mark.anyio

DAY = 86_400


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(video_restore=True) as emulator:
        yield emulator


@pytest.fixture
def api(api: Api) -> Api:
    """Every response is checked against the OpenAPI description."""
    return CheckedApi(api.session, api.url, api.authorization)


async def test_tags(api: Api) -> None:
    """Tags are counted, filtered without accents and case, sorted and paged."""
    for tags in (["Été", "sea"], ["sea", "sea"], []):
        await api.create(tags=tags)

    async def tags_of(**query: str) -> list[tuple[str, int]]:
        data = (await api.get("/tags", params=query, expect=200)).json["data"]
        return [(tag["value"], tag["videoCount"]) for tag in data]

    assert await tags_of() == [("sea", 2), ("Été", 1)]
    assert await tags_of(value="ETE") == [("Été", 1)]
    assert await tags_of(sortBy="videoCount", sortOrder="asc") == [("Été", 1), ("sea", 2)]
    assert await tags_of(pageSize="1", currentPage="2") == [("Été", 1)]


# Discarded videos


async def test_restore(api: Api, emulator: Emulator) -> None:
    """A deleted video is discarded, and can be restored with everything."""
    video_id = await api.create("kept")
    await api.send(video_id, b"bytes", expect=201)
    sha256 = (await emulator.finished(video_id)).sha256
    await api.delete(f"/videos/{video_id}", expect=204)
    await api.get(f"/videos/{video_id}", expect=404)
    assert (await api.get("/videos", expect=200)).json["data"] == []
    [listed] = (await api.get("/discarded/videos", params={"title": "kep"}, expect=200)).json["data"]
    discarded = (await api.get(f"/discarded/videos/{video_id}", expect=200)).json
    assert discarded == listed
    assert discarded["discarded"] is True
    assert discarded["discardedAt"] < discarded["deletesAt"]
    for payload in ({"discarded": True}, {"title": "x"}):
        await api.patch(f"/discarded/videos/{video_id}", json=payload, expect=400)
    restored = (await api.patch(f"/discarded/videos/{video_id}", json={"discarded": False}, expect=200)).json
    assert (restored["discarded"], restored["deletesAt"]) == (False, None)
    assert emulator.videos[video_id].sha256 == sha256
    await api.patch(f"/discarded/videos/{video_id}", json={"discarded": False}, expect=404)


async def test_discarded_videos_are_deleted_after_90_days(emulator: Emulator, api: Api) -> None:
    """Their files are deleted, too."""
    video_id = await api.create()
    path = emulator._store.videos[video_id].source.directory
    await api.delete(f"/videos/{video_id}", expect=204)
    await emulator.advance_clock(89 * DAY)
    assert path.exists()
    await emulator.advance_clock(2 * DAY)
    await api.get(f"/discarded/videos/{video_id}", expect=404)
    assert not path.exists()


async def test_discarded_videos_are_kept(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    """The next emulator with the same data can restore them."""
    async with Emulator(data=tmp_path, video_restore=True) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        video_id = await api.create()
        await api.delete(f"/videos/{video_id}", expect=204)
    async with Emulator(data=tmp_path) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        assert not emulator.videos
        await api.patch(f"/discarded/videos/{video_id}", json={"discarded": False}, expect=200)
    async with Emulator(data=tmp_path) as emulator:
        assert list(emulator.videos) == [video_id]


async def test_without_restore(session: aiohttp.ClientSession) -> None:
    """Without the option, deleted videos are gone, as on the service without this feature."""
    async with Emulator() as emulator:
        api = CheckedApi(session, emulator.url, basic("local-key"))
        video_id = await api.create()
        await api.delete(f"/videos/{video_id}", expect=204)
        assert (await api.get("/discarded/videos", expect=200)).json["data"] == []
        await api.get(f"/discarded/videos/{video_id}", expect=404)


# Expiry


async def test_unfinished_containers_expire(emulator: Emulator, api: Api) -> None:
    """Containers that are empty or incomplete are deleted after seven days; finished ones are not."""
    empty, partial, finished = [await api.create() for _ in range(3)]
    await api.send(partial, content(PART), "part 1/2", expect=201)
    await api.send(finished, b"bytes", expect=201)
    await emulator.finished(finished)
    await emulator.advance_clock(6 * DAY)
    later = await api.create()
    assert set(emulator.videos) == {empty, partial, finished, later}
    await emulator.advance_clock(1.5 * DAY)
    assert set(emulator.videos) == {finished, later}
    await api.get(f"/videos/{partial}", expect=404)
    await emulator.advance_clock(7 * DAY)
    assert set(emulator.videos) == {finished}


async def test_the_clock_over_http(api: Api) -> None:
    """Test suites in other languages move the clock, too; a reset returns it."""
    control = Api(api.session, api.url + "/_emulator", None)
    video_id = await api.create()
    token = await api.token(ttl=60)
    await control.post("/clock", json={"advance_seconds": 61}, expect=204)
    await api.get(f"/upload-tokens/{token}", expect=404)
    await control.post("/clock", json={"advance_seconds": 7 * DAY}, expect=204)
    await api.get(f"/videos/{video_id}", expect=404)
    refused: list[Any] = [
        {},
        {"advance_seconds": "1"},
        {"advance_seconds": -1},
        {"advance_seconds": True},
        [],
        None,
    ]
    for payload in refused:
        await control.post("/clock", json=payload, expect=400)
    moved = (await api.get(f"/videos/{await api.create()}", expect=200)).json["createdAt"]
    await control.post("/reset", expect=204)
    assert (await api.get(f"/videos/{await api.create()}", expect=200)).json["createdAt"] < moved


async def test_a_request_deletes_expired_containers(emulator: Emulator, api: Api) -> None:
    """Nobody has to ask for it: the next request does it, once."""
    video_id = await api.create()
    emulator._clock.advance(8 * DAY)
    await asyncio.gather(*(api.get(f"/videos/{video_id}", expect=404) for _ in range(5)))
    assert not emulator.videos
