"""The control requests of the page: one request with its headers, one fault, and the deletion of a video."""

from __future__ import annotations

import aiohttp
import pytest

from async_uploader.emulator import Emulator
from async_uploader.emulator._records import MAX_RECORDS_WITH_HEADERS

from .conftest import PART, Api, basic, content

pytestmark = pytest.mark.anyio


@pytest.fixture
def control(api: Api) -> Api:
    """A client without a key."""
    return Api(api.session, api.url + "/_emulator", None)


async def test_one_request(session: aiohttp.ClientSession) -> None:
    """It has its range, all its faults and both headers, without secrets."""
    async with Emulator(api_key="a-secret-key") as emulator:
        api = Api(session, emulator.url, basic("a-secret-key"))
        control = Api(session, emulator.url + "/_emulator", None)
        video_id = await api.create()
        await control.post("/faults", json={"spec": ["upload:expire-tokens", "part=2:status=503"]}, expect=201)
        await api.send(video_id, content(PART), "part 2/3", expect=503)
        reply = await control.get("/requests/2", expect=200)
        assert (reply.json["range"], reply.json["part"], reply.json["problem"]) == ("part 2/3", 2, "server-error")
        assert reply.json["faults"] == ["upload:expire-tokens", "part=2:status=503"]
        assert ["Authorization", "Basic …"] in reply.json["request_headers"]
        assert ["Content-Type", "application/problem+json"] in reply.json["response_headers"]
        assert basic("a-secret-key").split()[1] not in reply.body.decode()
        assert "a-secret-key" not in reply.body.decode()


async def test_old_requests(api: Api, control: Api) -> None:
    """Only the latest requests are kept with their headers."""
    for _ in range(MAX_RECORDS_WITH_HEADERS + 1):
        await api.get("/videos", expect=200)
    await control.get("/requests/1", expect=404)
    await control.get("/requests/2", expect=200)
    await control.get("/requests/9999", expect=404)
    await control.post("/reset", expect=204)
    await control.get("/requests/2", expect=404)


async def test_remove_one_fault(api: Api, control: Api) -> None:
    """The others stay. Numbers are not reused."""
    await control.post("/faults", json={"spec": ["get:cut", "list:status=503"]}, expect=201)
    await control.delete("/faults/1", expect=204)
    await control.delete("/faults/1", expect=404)
    await control.post("/faults", json={"spec": "create:cut"}, expect=201)
    await control.delete("/faults/3", expect=204)
    assert [fault["spec"] for fault in (await control.get("/faults")).json] == ["list:status=503"]
    await api.get("/videos", expect=503)


async def test_delete_a_video(api: Api, control: Api, emulator: Emulator) -> None:
    """No key is needed, as for everything on the page."""
    video_id = await api.create()
    await control.delete(f"/videos/{video_id}", expect=204)
    await control.delete(f"/videos/{video_id}", expect=404)
    assert not emulator.videos
    assert [record.method for record in emulator.requests] == ["POST"]
