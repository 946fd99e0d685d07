"""Credentials, filters, pages, upload tokens and imports."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import time
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from async_uploader.emulator import Emulator

from .conftest import PART, Api, basic, content, form

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("authorization", "slug"),
    [
        (None, "authentication-missing-authorization-header"),
        ("", "authentication-invalid-authorization-header-value"),
        ("Basic", "authentication-invalid-authorization-header-value"),
        ("Basic !!!", "authentication-invalid-authorization-header-value"),
        ("Basic bm9jb2xvbg==", "authentication-invalid-authorization-header-value"),
        (basic("local-key", "password"), "authentication-invalid-authorization-header-value"),
        ("Digest x", "authentication-invalid-authorization-header-value"),
        ("Bearer ", "authentication-invalid-authorization-header-value"),
        (basic("other"), "authentication-invalid-api-key"),
        (basic("ключ"), "authentication-invalid-api-key"),
        ("Bearer unknown", "authentication-invalid-access-token"),
    ],
)
async def test_refused_credentials(api: Api, authorization: str | None, slug: str) -> None:
    """Each kind of invalid credentials has its slug."""
    api.authorization = authorization
    assert (await api.get("/videos", expect=401)).slug == slug


async def test_bearer_tokens(api: Api, emulator: Emulator) -> None:
    """A bearer token is valid until it expires; a refresh token can be used once."""
    first = (await api.post("/auth/api-key", json={"apiKey": "local-key"}, expect=200)).json
    api.authorization = f"{first['token_type']} {first['access_token']}"
    await api.get("/videos", expect=200)
    emulator.expire_tokens()
    assert (await api.get("/videos", expect=401)).slug == "authentication-invalid-access-token"
    second = (await api.post("/auth/refresh", json={"refreshToken": first["refresh_token"]}, expect=200)).json
    api.authorization = f"Bearer {second['access_token']}"
    await api.get("/videos", expect=200)
    again = await api.post("/auth/refresh", json={"refreshToken": first["refresh_token"]}, expect=400)
    assert again.slug == "authentication-invalid-user-credentials"
    emulator.revoke_refresh_tokens()
    await api.post("/auth/refresh", json={"refreshToken": second["refresh_token"]}, expect=400)
    await api.get("/videos", expect=200)
    statistics = emulator.statistics()
    assert (statistics.logins, statistics.refreshes, statistics.live_access_tokens) == (1, 1, 1)


async def test_token_ttl(session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """`token_ttl` is the lifetime of a bearer token."""
    async with Emulator(token_ttl=60) as emulator:
        api = Api(session, emulator.url, None)
        pair = (await api.post("/auth/api-key", json={"apiKey": "local-key"}, expect=200)).json
        now = time.time()
        monkeypatch.setattr("time.time", lambda: now + 61)
        assert pair["expires_in"] == 60
        assert emulator.statistics().live_access_tokens == 0
        await api.get("/videos", headers={"Authorization": f"Bearer {pair['access_token']}"}, expect=401)


@pytest.mark.parametrize(
    ("payload", "slug", "name"),
    [
        ({}, "attribute-required", "title"),
        ({"title": ""}, "invalid-attribute", "title"),
        ({"title": None}, "invalid-attribute", "title"),
        ({"title": "t", "nonsense": 1}, "invalid-attribute", "nonsense"),
        ({"title": "t", "public": "yes"}, "invalid-attribute", "public"),
        ({"title": "t", "tags": "a"}, "invalid-attribute", "tags"),
        ({"title": "t", "tags": [1]}, "invalid-attribute", "tags"),
        ({"title": "t", "metadata": {"k": "v"}}, "invalid-attribute", "metadata"),
        ({"title": "t", "metadata": [{"key": "k"}]}, "invalid-attribute", "metadata"),
        ({"title": "t", "metadata": [{"key": "k", "value": 1}]}, "invalid-attribute", "metadata"),
        ({"title": "t", "language": "xx"}, "invalid-attribute", "language"),
        ({"title": "t", "clip": {"startTimecode": "noon"}}, "invalid-attribute", "clip"),
        ({"title": "t", "watermark": {"colour": "red"}}, "invalid-attribute", "watermark"),
        (
            {"title": "t", "transcriptSummaryAttributes": ["haiku"]},
            "invalid-attribute",
            "transcriptSummaryAttributes",
        ),
        ({"title": "t", "source": "nonsense"}, "invalid-attribute", "source"),
        ({"title": "t", "source": "ftp://host/x"}, "invalid-attribute", "source"),
        ({"title": "t", "source": "http://[/x"}, "invalid-attribute", "source"),
        ({"title": "t", "source": "viUnknown"}, "invalid-attribute", "source"),
        ([], "invalid-payload", None),
        ("text", "invalid-payload", None),
    ],
)
async def test_refused_attributes(
    api: Api, emulator: Emulator, payload: object, slug: str, name: str | None
) -> None:
    """A container with an invalid attribute is not created."""
    reply = await api.post("/videos", json=payload, expect=400)
    assert (reply.slug, reply.json.get("name")) == (slug, name)
    assert len(emulator.videos) == 0


async def test_all_invalid_attributes_are_reported(api: Api) -> None:
    """The first problem is the response, with the others in `problems`."""
    reply = await api.post("/videos", json={"nonsense": 1, "public": 2}, expect=400)
    assert reply.json["name"] == "title"
    assert [problem["name"] for problem in reply.json["problems"]] == ["nonsense", "public"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"title": NaN}', b"[" * 100_000, b'{"title": "\\ud800"}'])
async def test_malformed_json(api: Api, body: bytes) -> None:
    """Malformed JSON is an invalid payload."""
    assert (await api.post("/videos", data=body, expect=400)).slug == "invalid-payload"


async def test_large_json(api: Api) -> None:
    """JSON above one megabyte is an invalid payload."""
    assert (await api.post("/videos", data=io.BytesIO(b" " * 1_100_000), expect=400)).slug == "invalid-payload"


async def test_update(api: Api) -> None:
    """PATCH replaces the given attributes and keeps the others."""
    video_id = await api.create("old", tags=["a", "b"], metadata=[{"key": "k", "value": "v"}])
    changed = (await api.patch(f"/videos/{video_id}", json={"title": "new", "tags": []}, expect=200)).json
    assert (changed["title"], changed["tags"]) == ("new", [])
    assert changed["metadata"] == [{"key": "k", "value": "v"}]
    assert (await api.get(f"/videos/{video_id}")).json == changed


@pytest.fixture
async def listed(api: Api) -> Api:
    """Five containers."""
    await api.create("red apple", tags=["fruit", "red"], metadata=[{"key": "a", "value": "1"}])
    await api.create("green apple", tags=["fruit"], description="sour")
    await api.create("pear", tags=["fruit"], metadata=[{"key": "a", "value": "2"}, {"key": "b", "value": "1"}])
    await api.create("car", tags=["red"])
    await api.create("Zebra")
    return api


@pytest.mark.parametrize(
    ("params", "titles"),
    [
        ([], ["Zebra", "car", "pear", "green apple", "red apple"]),
        ([("title", "apple")], ["green apple", "red apple"]),
        ([("tags[]", "fruit"), ("tags[]", "red")], ["red apple"]),
        ([("tags", "red")], ["car", "red apple"]),
        ([("metadata[a]", "1")], ["red apple"]),
        ([("metadata[a]", "2"), ("metadata[b]", "1")], ["pear"]),
        ([("metadata[a]", "1"), ("metadata[b]", "1")], []),
        ([("description", "sour")], ["green apple"]),
        ([("liveStreamId", "li1")], []),
        ([("sortBy", "title")], ["Zebra", "car", "green apple", "pear", "red apple"]),
        ([("sortBy", "title"), ("sortOrder", "desc")], ["red apple", "pear", "green apple", "car", "Zebra"]),
        ([("sortBy", "createdAt")], ["red apple", "green apple", "pear", "car", "Zebra"]),
        ([("currentPage", "2"), ("pageSize", "2")], ["pear", "green apple"]),
        ([("currentPage", "9")], []),
    ],
)
async def test_listing(listed: Api, params: list[tuple[str, str]], titles: list[str]) -> None:
    """A video must match all filters. The default order is newest first."""
    page = (await listed.get("/videos", params=params, expect=200)).json
    assert [video["title"] for video in page["data"]] == titles


async def test_page_links(listed: Api) -> None:
    """The links connect all pages, and keep the query."""
    await listed.create("both", tags=["red", "fruit"])
    titles: list[str] = []
    page: Any = None
    links: dict[str, str] = {}
    url: str | None = f"{listed.url}/videos?pageSize=1&tags[]=fruit&tags[]=red&sortBy=title"
    while url:
        page = (await listed.get(url.removeprefix(listed.url), expect=200)).json
        titles += [video["title"] for video in page["data"]]
        links = {link["rel"]: link["uri"] for link in page["pagination"]["links"]}
        url = links.get("next")
    assert titles == ["both", "red apple"]
    assert page["pagination"]["itemsTotal"] == 2
    assert page["pagination"]["pagesTotal"] == 2
    assert "previous" in links


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("currentPage", "0"),
        ("currentPage", "x"),
        ("pageSize", "101"),
        ("pageSize", "9" * 30),
        ("sortBy", "size"),
        ("sortOrder", "up"),
    ],
)
async def test_refused_queries(api: Api, name: str, value: str) -> None:
    """An invalid page or order is an invalid attribute."""
    reply = await api.get("/videos", params={name: value}, expect=400)
    assert (reply.slug, reply.json["name"]) == ("invalid-attribute", name)


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/nothing", 404, "unrecognized-request-url"),
        ("GET", "/videos/", 404, "unrecognized-request-url"),
        ("GET", "/videos/a/b/c", 404, "unrecognized-request-url"),
        ("PUT", "/videos", 405, "method-not-allowed"),
        ("POST", "/videos/viX", 405, "method-not-allowed"),
        ("TRACE", "/upload", 405, "method-not-allowed"),
        ("GET", "/videos/..%2f..%2fetc", 404, "unrecognized-request-url"),
        ("GET", "/videos/%2e%2e/x", 404, "unrecognized-request-url"),
        ("GET", "/videos/vi%00", 404, "resource-not-found"),
        ("GET", "/upload-tokens/..%2fbearers.json", 404, "unrecognized-request-url"),
        ("DELETE", "/upload-tokens/bearers", 404, "resource-not-found"),
    ],
)
async def test_unknown_urls(api: Api, method: str, path: str, status: int, slug: str) -> None:
    """Unknown URLs get 404 or 405, path traversal included."""
    assert (await api.call(method, path, expect=status)).slug == slug


async def test_upload_token_creates_one_video(api: Api, emulator: Emulator) -> None:
    """The first part creates a video with the title of the file; the other parts name the video."""
    token = await api.token()
    api.authorization = None
    first = await api.send_with_token(token, content(PART), "part 1/*")
    video_id = first.json["videoId"]
    other = await api.send_with_token(token, b"end", "part 2/2", video_id)
    assert (first.status, other.status, other.json["title"]) == (201, 201, "movie.mp4")
    view = await emulator.finished(video_id)
    assert view.sha256 == hashlib.sha256(content(PART) + b"end").hexdigest()
    assert len(emulator.videos) == 1


async def test_two_first_parts_create_two_videos(api: Api, emulator: Emulator) -> None:
    """Two concurrent parts without `videoId` create two videos."""
    token = await api.token()
    await asyncio.gather(*(api.send_with_token(token, content(PART), f"part {n}/2") for n in (1, 2)))
    assert len(emulator.videos) == 2


async def test_upload_token_refusals(api: Api) -> None:
    """Missing, unknown and deleted tokens, and unknown videos."""
    token = await api.token()
    assert (await api.post("/upload", data=form(b"x"), expect=401)).slug == "authentication-missing-upload-token"
    assert (await api.send_with_token("toX", b"x")).slug == "authentication-invalid-upload-token"
    assert (await api.send_with_token(token, b"x", None, "viX")).slug == "resource-not-found"
    after_file = form_with_video_id_last(b"x", "viX")
    reply = await api.post("/upload", params={"token": token}, data=after_file, expect=404)
    assert reply.slug == "resource-not-found"
    await api.delete(f"/upload-tokens/{token}", expect=204)
    assert (await api.send_with_token(token, b"x")).slug == "authentication-invalid-upload-token"


def form_with_video_id_last(data: bytes, video_id: str) -> aiohttp.MultipartWriter:
    writer = form(data)
    writer.append(video_id).set_content_disposition("form-data", name="videoId")
    return writer


@pytest.mark.parametrize(
    "ranges",
    [
        ["part 1/2", "part 2/2"],
        ["part 2/2", "part 1/*"],
        [f"bytes {PART}-{PART + 2}/{PART + 3}", f"bytes 0-{PART - 1}/*"],
        [f"bytes 0-{PART - 1}/{PART + 3}", f"bytes {PART}-{PART + 2}/*"],
    ],
)
async def test_video_id_after_the_file(api: Api, emulator: Emulator, ranges: list[str]) -> None:
    """`videoId` can follow the file, as in the official Node client, also for a short last part."""
    token = await api.token()
    data = {header: content(PART) if header.startswith(("part 1", "bytes 0")) else b"end" for header in ranges}
    first, last = ranges
    reply = await api.send_with_token(token, data[first], first)
    assert reply.status == 201, reply
    video_id = reply.json["videoId"]
    await api.post(
        "/upload",
        params={"token": token},
        data=form_with_video_id_last(data[last], video_id),
        headers={"Content-Range": last},
        expect=201,
    )
    assert (await emulator.finished(video_id)).sha256 == hashlib.sha256(content(PART) + b"end").hexdigest()
    assert len(emulator.videos) == 1


async def test_short_part_without_video_id(api: Api, emulator: Emulator) -> None:
    """A short part that may be the last of a named video is refused if no video is named; none is created."""
    reply = await api.send_with_token(await api.token(), b"short", "part 2/*")
    assert reply.slug == "video-content-range-by-part-uploaded-file-too-small"
    assert len(emulator.videos) == 0


async def test_short_last_part_after_the_total_is_known(api: Api, emulator: Emulator) -> None:
    """`part N/*` can be short if the named video has N parts, wherever the form names it."""
    token = await api.token()
    first = await api.send_with_token(token, content(PART), "part 1/2")
    last = form_with_video_id_last(b"end", first.json["videoId"])
    await api.post(
        "/upload", params={"token": token}, data=last, headers={"Content-Range": "part 2/*"}, expect=201
    )
    assert (await emulator.finished(first.json["videoId"])).size_bytes == PART + 3


async def test_refresh_as_plain_text(api: Api) -> None:
    """Browser clients send the JSON of a refresh as `text/plain`."""
    pair = (await api.post("/auth/api-key", json={"apiKey": "local-key"}, expect=200)).json
    body = json.dumps({"refreshToken": pair["refresh_token"]})
    headers = {"Content-Type": "text/plain;charset=UTF-8"}
    renewed = (await api.post("/auth/refresh", data=body, headers=headers, expect=200)).json
    api.authorization = f"Bearer {renewed['access_token']}"
    await api.get("/videos", expect=200)


async def test_upload_token_expires(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token expires after its ttl; one with ttl 0 never expires."""
    token, permanent = await api.token(ttl=60), await api.token(ttl=0)
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + 61)
    assert (await api.send_with_token(token, b"x")).slug == "authentication-invalid-upload-token"
    assert (await api.send_with_token(permanent, b"x")).status == 201
    listed = (await api.get("/upload-tokens")).json["data"]
    assert [(found["token"], found["expiresAt"]) for found in listed] == [(permanent, None)]


@pytest.fixture
async def web_site() -> Any:
    """A web server to download from."""

    async def movie(_: web.BaseRequest) -> web.Response:
        return web.Response(body=content(300_000))

    async def missing(_: web.BaseRequest) -> web.Response:
        return web.Response(status=404)

    app = web.Application()
    app.router.add_get("/movie.mp4", movie)
    app.router.add_get("/missing.mp4", missing)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_import_from_url(
    api: Api, emulator: Emulator, web_site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emulator downloads the source, larger than a part, and accepts no upload."""
    monkeypatch.setattr("async_uploader.emulator._rules.MAX_PART_BYTES", 1000)
    video_id = await api.create(source=f"{web_site}/movie.mp4")
    view = await emulator.finished(video_id)
    assert view.sha256 == hashlib.sha256(content(300_000)).hexdigest()
    status = await api.status(video_id)
    assert (status["ingest"]["status"], status["encoding"]["playable"]) == ("ingested", True)
    assert (await api.send(video_id, b"x", expect=400)).slug == "video-source-already-downloaded"


@pytest.mark.parametrize("url", ["/missing.mp4", ":1/", "."])
async def test_failed_import(api: Api, emulator: Emulator, web_site: str, url: str) -> None:
    """The status of a failed import has a failed quality."""
    video_id = await api.create(source=web_site + url if url.startswith("/") else "http://127.0.0.1" + url)
    await emulator.wait_for(lambda e: e.videos[video_id].state == "failed")
    status = await api.status(video_id)
    assert (status["ingest"]["status"], status["encoding"]["playable"]) == ("ingesting", False)
    assert [quality["status"] for quality in status["encoding"]["qualities"]] == ["failed"]


async def test_clone(api: Api, emulator: Emulator) -> None:
    """A clone has the same bytes, and remains after its original is deleted."""
    original = await api.create()
    await api.send(original, b"the bytes", expect=201)
    await emulator.finished(original)
    clone = await api.create(source=original)
    view = await emulator.finished(clone)
    await api.delete(f"/videos/{original}", expect=204)
    assert view.source_path is not None
    assert view.source_path.read_bytes() == b"the bytes"
    assert (await api.send(clone, b"x", expect=400)).slug == "video-source-already-copied"
