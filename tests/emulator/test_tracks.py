"""Captions and chapters."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from async_uploader.emulator import Emulator

from .conftest import Api, Reply, basic, form
from .test_conformance import CheckedApi

pytestmark = pytest.mark.anyio

VTT = b"WEBVTT\n\n00:00:01.000 --> 00:00:02.000\nHello\n"
SRT = b"\xef\xbb\xbf1\r\n00:00:01,000 --> 00:00:02,500\r\nHello, 1,000 times\r\n"


@pytest.fixture
def api(api: Api) -> Api:
    """Every response is checked against the OpenAPI description."""
    return CheckedApi(api.session, api.url, api.authorization)


@pytest.fixture
def visitor(api: Api) -> Api:
    """A client without a key, for assets."""
    return Api(api.session, api.url, None)


async def send(api: Api, path: str, content: bytes, *, expect: int = 200) -> Reply:
    return await api.post(path, data=form(content), expect=expect)


async def test_captions(api: Api, visitor: Api) -> None:
    """From the upload to the deletion."""
    video_id = await api.create()
    path = f"/videos/{video_id}/captions"
    await api.get(f"{path}/en", expect=404)
    caption = (await send(api, f"{path}/en", VTT)).json
    assert caption == {
        "uri": f"{path}/en",
        "src": f"{api.url}/vod/{video_id}/captions/en.vtt",
        "srclang": "en",
        "languageName": "English",
        "default": False,
    }
    assert (await api.get(f"{path}/en", expect=200)).json == caption
    reply = await visitor.get(caption["src"].removeprefix(api.url), expect=200)
    assert (reply.body, reply.headers["Content-Type"]) == (VTT, "text/vtt; charset=utf-8")
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    await api.delete(f"{path}/en", expect=204)
    await api.delete(f"{path}/en", expect=404)
    await visitor.get(caption["src"].removeprefix(api.url), expect=404)
    assert (await api.get(path, expect=200)).json["data"] == []


async def test_the_default_caption(api: Api) -> None:
    """At most one language is the default."""
    path = f"/videos/{await api.create()}/captions"
    for language in ("fr-CA", "en", "zh-Hans-CN"):
        await send(api, f"{path}/{language}", VTT)
    for language in ("en", "fr-CA"):
        assert (await api.patch(f"{path}/{language}", json={"default": True}, expect=200)).json["default"] is True
    listed = (await api.get(path, params={"pageSize": "2"}, expect=200)).json
    assert [(one["srclang"], one["default"]) for one in listed["data"]] == [("en", False), ("fr-CA", True)]
    assert listed["pagination"]["itemsTotal"] == 3
    assert listed["data"][1]["languageName"] == "français (CA)"
    await api.patch(f"{path}/fr-CA", json={"default": "yes"}, expect=400)
    await api.patch(f"{path}/fr-CA", json={"other": True}, expect=400)
    await api.patch(f"{path}/de", json={"default": True}, expect=404)


async def test_srt_is_converted(api: Api, visitor: Api) -> None:
    """Captions can be SRT, and are served as WebVTT. Chapters cannot."""
    path = f"/videos/{await api.create()}"
    src = (await send(api, f"{path}/captions/en", SRT)).json["src"]
    assert (await visitor.get(src.removeprefix(api.url), expect=200)).body == (
        b"WEBVTT\n\n1\n00:00:01.000 --> 00:00:02.500\nHello, 1,000 times\n"
    )
    assert (await send(api, f"{path}/chapters/en", SRT, expect=400)).slug == "uploaded-file-invalid-file"


async def test_chapters(api: Api, visitor: Api) -> None:
    """From the upload to the deletion; a second file replaces the first."""
    video_id = await api.create(public=False)
    path = f"/videos/{video_id}/chapters"
    await send(api, f"{path}/en", VTT + b"old")
    chapter = (await send(api, f"{path}/en", VTT)).json
    assert (chapter["uri"], chapter["language"]) == (f"{path}/en", "en")
    assert "/token/" in chapter["src"]
    assert (await visitor.get(chapter["src"].removeprefix(api.url), expect=200)).body == VTT
    await visitor.get(f"/vod/{video_id}/chapters/en.vtt", expect=404)
    assert (await api.get(path, expect=200)).json["data"] == [chapter]
    assert (await api.get(f"{path}/en", expect=200)).json == chapter
    await api.delete(f"{path}/en", expect=204)
    await api.get(f"{path}/en", expect=404)


@pytest.mark.parametrize(
    ("content", "slug"),
    [
        (b"", "uploaded-file-empty"),
        (b"hello", "uploaded-file-invalid-file"),
        (b"WEBVTTX", "uploaded-file-invalid-file"),
        (b"WEBVTT\n\xff", "uploaded-file-invalid-file"),
        (b"WEBVTT\n" + bytes(10 << 20), "uploaded-file-too-large"),
    ],
)
@pytest.mark.parametrize("kind", ["captions", "chapters"])
async def test_refused_files(api: Api, kind: str, content: bytes, slug: str) -> None:
    """Nothing is stored."""
    path = f"/videos/{await api.create()}/{kind}"
    assert (await send(api, f"{path}/en", content, expect=400)).slug == slug
    assert (await api.get(path, expect=200)).json["data"] == []


async def test_refused_requests(api: Api) -> None:
    """Languages that are no tags, unknown videos, and bodies that are no form with one file."""
    path = f"/videos/{await api.create()}/captions"
    for language in ("e", "fr_CA", "en-", "toolonglanguage", "en.vtt"):
        await send(api, f"{path}/{language}", VTT, expect=400)
    await send(api, "/videos/viNone/captions/en", VTT, expect=404)
    assert (await api.post(f"{path}/en", data=VTT, expect=400)).slug == "uploaded-file-no-file"
    two = aiohttp.MultipartWriter("form-data")
    for name in ("a", "b"):
        two.append(VTT).set_content_disposition("form-data", name=name, filename=name)
    assert (await api.post(f"{path}/en", data=two, expect=400)).slug == "uploaded-file-multiple-files"
    none = aiohttp.FormData({"name": "value"}, default_to_multipart=True)
    assert (await api.post(f"{path}/en", data=none, expect=400)).slug == "uploaded-file-no-file"


async def test_the_player_offers_them(api: Api, visitor: Api, emulator: Emulator) -> None:
    """The player has a track for each."""
    video_id = await api.create()
    video = (await api.send(video_id, b"bytes", expect=201)).json
    await emulator.finished(video_id)
    await send(api, f"/videos/{video_id}/captions/en", VTT)
    await api.patch(f"/videos/{video_id}/captions/en", json={"default": True}, expect=200)
    await send(api, f"/videos/{video_id}/chapters/fr", VTT)
    player = (await visitor.get(video["assets"]["player"].removeprefix(api.url), expect=200)).body.decode()
    captions = (
        f'<track kind="captions" src="/vod/{video_id}/captions/en.vtt" srclang="en" label="English" default>'
    )
    assert captions in player
    assert f'<track kind="chapters" src="/vod/{video_id}/chapters/fr.vtt" srclang="fr" label="français">' in player


async def test_they_are_kept(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    """The next emulator with the same data has them."""
    async with Emulator(data=tmp_path) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        path = f"/videos/{await api.create()}"
        await send(api, f"{path}/captions/en", VTT)
        await send(api, f"{path}/chapters/en", VTT)
    async with Emulator(data=tmp_path) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        for kind in ("captions", "chapters"):
            [track] = (await api.get(f"{path}/{kind}", expect=200)).json["data"]
            assert (await api.get(track["src"].removeprefix(emulator.url), expect=200)).body == VTT
