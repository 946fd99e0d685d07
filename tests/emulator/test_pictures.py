"""Thumbnails and watermarks."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from imageio_ffmpeg import get_ffmpeg_exe

from async_uploader.emulator import Emulator
from async_uploader.emulator._api.pictures import parse_timecode

from .conftest import Api, Reply, form
from .test_conformance import CheckedApi

pytestmark = pytest.mark.anyio

JPEG = b"\xff\xd8\xff\xe0 a picture"
PNG = b"\x89PNG\r\n\x1a\n a picture"
WEBP = b"RIFF\0\0\0\0WEBP a picture"


@pytest.fixture
def api(api: Api) -> Api:
    """Every response is checked against the OpenAPI description."""
    return CheckedApi(api.session, api.url, api.authorization)


@pytest.fixture
def visitor(api: Api) -> Api:
    """A client without a key, for assets."""
    return Api(api.session, api.url, None)


def thumbnail_path(api: Api, video: Any) -> str:
    return str(video["assets"]["thumbnail"]).removeprefix(api.url)


@pytest.mark.parametrize(("picture", "media_type"), [(JPEG, "jpeg"), (PNG, "png"), (WEBP, "webp")])
async def test_an_uploaded_thumbnail(api: Api, visitor: Api, picture: bytes, media_type: str) -> None:
    """It is served at once, also before the video is uploaded."""
    path = f"/videos/{await api.create()}/thumbnail"
    video = (await api.post(path, data=form(picture), expect=200)).json
    reply = await visitor.get(thumbnail_path(api, video), expect=200)
    assert (reply.body, reply.headers["Content-Type"]) == (picture, f"image/{media_type}")


@pytest.mark.parametrize("picture", [b"", b"GIF89a", b"x" * (9 << 20)])
async def test_refused_thumbnails(api: Api, picture: bytes) -> None:
    """Other formats and large files are refused."""
    await api.post(f"/videos/{await api.create()}/thumbnail", data=form(picture), expect=400)
    await api.post("/videos/viNone/thumbnail", data=form(JPEG), expect=404)


@pytest.fixture(scope="module")
def two_colours(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Two seconds of red, then two of blue."""
    target = tmp_path_factory.mktemp("movie") / "movie.mp4"
    inputs = []
    for colour in ("red", "blue"):
        inputs += ["-f", "lavfi", "-t", "2", "-i", f"color=c={colour}:size=64x36:rate=10"]
    joined = ["-filter_complex", "[0][1]concat", "-g", "10"]
    subprocess.run([get_ffmpeg_exe(), "-v", "error", *inputs, *joined, target], check=True)
    return target.read_bytes()


async def test_a_picked_frame(api: Api, visitor: Api, emulator: Emulator, two_colours: bytes) -> None:
    """The frame at a timecode, which can be picked before the upload; beyond the end, the first one."""
    video_id = await api.create()
    await api.patch(f"/videos/{video_id}/thumbnail", json={"timecode": "00:00:03.000"}, expect=200)
    video = (await api.send(video_id, two_colours, expect=201)).json
    await emulator.finished(video_id)
    first = await picture(visitor, api, video)
    for timecode, is_other in (("00:00:00.500", True), ("3", False), ("01:00:00.000", True)):
        await api.post(f"/videos/{video_id}/thumbnail", data=form(JPEG), expect=200)
        await api.patch(f"/videos/{video_id}/thumbnail", json={"timecode": timecode}, expect=200)
        assert (await picture(visitor, api, video) != first) == is_other, timecode


async def picture(visitor: Api, api: Api, video: Any) -> bytes:
    reply = await visitor.get(thumbnail_path(api, video), expect=200)
    assert reply.body.startswith(b"\xff\xd8\xff")
    return reply.body


@pytest.mark.parametrize("payload", [{}, {"timecode": "soon"}, {"timecode": 3}, {"timecode": "00:00:99"}])
async def test_refused_timecodes(api: Api, payload: dict[str, object]) -> None:
    """Only timecodes and numbers of seconds are accepted."""
    await visitor_api(api).patch(f"/videos/{await api.create()}/thumbnail", json=payload, expect=400)


def visitor_api(api: Api) -> Api:
    """A client whose responses are not checked: the description has no 400 for this endpoint."""
    return Api(api.session, api.url, api.authorization)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("00:01:00.000", 60), ("01:00:00", 3600), ("00:00:01.5", 1.5), ("00:00:01:05", 1.2), ("124", 124)],
)
def test_timecodes(text: str, seconds: float) -> None:
    """Every form of the OpenAPI description."""
    assert parse_timecode(text) == pytest.approx(seconds)


async def test_watermarks(api: Api) -> None:
    """From the upload to the deletion. A video can have one."""
    created = [(await upload_watermark(api, image)).json for image in (JPEG, PNG)]
    assert all(one["watermarkId"].startswith("watermark_") for one in created)
    listed = (await api.get("/watermarks", params={"sortBy": "createdAt", "sortOrder": "asc"}, expect=200)).json
    assert sorted(one["watermarkId"] for one in listed["data"]) == sorted(one["watermarkId"] for one in created)
    await api.create(watermark={"id": created[0]["watermarkId"], "top": "0px"})
    path = f"/watermarks/{created[0]['watermarkId']}"
    await api.delete(path, expect=204)
    await api.delete(path, expect=404)
    await api.get("/watermarks", params={"sortBy": "name"}, expect=400)
    assert (await upload_watermark(api, WEBP, expect=400)).slug == "uploaded-file-invalid-file"


async def upload_watermark(api: Api, image: bytes, *, expect: int = 200) -> Reply:
    return await api.post("/watermarks", data=form(image), expect=expect)
