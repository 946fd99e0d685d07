"""The emulator's responses conform to the service's OpenAPI description."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import jsonschema
import pytest

from async_uploader.emulator import Emulator, Fault

from .conftest import PART, Api, Reply, basic, content, form
from .endpoint_table import DESCRIPTION

pytestmark = pytest.mark.anyio

# The description omits these statuses, which the service's error pages describe; they have a problem, too.
UNLISTED = {401, 403, 404, 405, 500, 503}


def _nullable(schema: Any) -> Any:
    """Convert OpenAPI 3.0's `nullable` to JSON Schema."""
    if isinstance(schema, list):
        return [_nullable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _nullable(value) for key, value in schema.items()}
    if schema.pop("nullable", False):
        return {"anyOf": [schema, {"type": "null"}]}
    return schema


SCHEMAS: Any = _nullable(DESCRIPTION["components"]["schemas"])


def check(method: str, path: str, reply: Reply) -> None:
    """Check the status, media type, body and headers of a response."""
    template = next(t for t in DESCRIPTION["paths"] if re.fullmatch(re.sub(r"{\w+}", "[^/]+", t), path))
    described = DESCRIPTION["paths"][template][method.lower()]["responses"].get(str(reply.status))
    if described is None:
        assert reply.status in UNLISTED, f"{method} {path} is described without status {reply.status}"
        described = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/not-found"}}}}
    if not path.startswith("/auth/"):
        for name in ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Retry-After"):
            assert reply.headers[name].isdecimal()
    if reply.status == 204:
        assert reply.body == b""
        return
    kind = "application/json" if reply.status < 400 else "application/problem+json"
    assert reply.headers["Content-Type"] == kind
    schema = {**_nullable(described["content"]["application/json"]["schema"]), "components": {"schemas": SCHEMAS}}
    jsonschema.validate(reply.json, schema, format_checker=jsonschema.FormatChecker())
    if reply.status >= 400:
        assert reply.json["type"].startswith("https://docs.api.video/reference/")
        assert reply.json["status"] == reply.status
        assert reply.json["title"]


class CheckedApi(Api):
    async def call(self, method: str, path: str, **options: Any) -> Reply:
        reply = await super().call(method, path, **options)
        check(method, path, reply)
        return reply


@pytest.fixture
def api(api: Api) -> Api:
    """Every response in this module is checked."""
    return CheckedApi(api.session, api.url, api.authorization)


async def test_authentication(api: Api) -> None:
    """Successful and failed logins and refreshes."""
    pair = (await api.post("/auth/api-key", json={"apiKey": "local-key"}, expect=200)).json
    await api.post("/auth/refresh", json={"refreshToken": pair["refresh_token"]}, expect=200)
    await api.post("/auth/refresh", json={"refreshToken": pair["refresh_token"]}, expect=400)
    await api.post("/auth/api-key", json={"apiKey": "no"}, expect=400)
    await api.post("/auth/api-key", json={}, expect=400)
    await api.get("/videos", headers={"Authorization": basic("no")}, expect=401)


async def test_containers(api: Api) -> None:
    """Containers with every attribute, from creation to deletion."""
    details = {
        "title": "t", "description": "d", "public": False, "panoramic": True, "mp4Support": False, "tags": ["a"],
        "metadata": [{"key": "k", "value": "v"}], "playerId": "pl1", "language": "no", "transcript": True,
        "transcriptSummary": True, "transcriptSummaryAttributes": ["abstract"],
    }  # fmt: skip
    extra = {"clip": {"startTimecode": "00:00:01"}, "watermark": {"id": "w", "top": "1px"}}
    jsonschema.validate(details | extra, {"components": {"schemas": SCHEMAS}, **SCHEMAS["video-creation-payload"]})
    created = await api.post("/videos", json=details | extra, expect=201)
    path = f"/videos/{created.json['videoId']}"
    await api.get(path, expect=200)
    await api.get(path + "/status", expect=200)
    await api.patch(path, json={"title": "u"}, expect=200)
    await api.patch(path, json={"source": "u"}, expect=400)
    await api.post("/videos", json={}, expect=400)
    await api.post("/videos", json={"title": 1, "nonsense": 2, "tags": [3]}, expect=400)
    await api.get("/videos", params={"tags[]": "a", "metadata[k]": "v"}, expect=200)
    await api.get("/videos", params={"pageSize": "0"}, expect=400)
    await api.delete(path, expect=204)
    await api.delete(path, expect=404)
    await api.get(path, expect=404)
    await api.patch(path, json={}, expect=404)


@pytest.mark.parametrize(
    "ranges", [["part 2/2", "part 1/*"], [f"bytes {PART}-{PART}/{PART + 1}", f"bytes 0-{PART - 1}/*"]]
)
async def test_ranged_upload(api: Api, emulator: Emulator, ranges: list[str]) -> None:
    """Parts and byte ranges, with the status after each request."""
    video_id = await api.create()
    await api.send(video_id, b"x", ranges[0], expect=201)
    await api.status(video_id)
    await api.send(video_id, b"x", ranges[0], expect=400)
    await api.send(video_id, content(PART), ranges[1], expect=201)
    await api.status(video_id)
    await emulator.finished(video_id)
    await api.status(video_id)


async def test_whole_upload(api: Api) -> None:
    """A whole file in one request."""
    video_id = await api.create()
    assert (await api.send(video_id, b"x", expect=201)).json["assets"]
    await api.send(video_id, b"x", expect=400)
    await api.send("viNone", b"x", expect=404)


async def test_upload_tokens(api: Api) -> None:
    """Upload tokens from creation to deletion, and uploads with them."""
    token = await api.token(ttl=60)
    await api.token(ttl=0)
    await api.post("/upload-tokens", json={"ttl": -1}, expect=400)
    await api.get("/upload-tokens", params={"sortBy": "ttl", "sortOrder": "desc"}, expect=200)
    await api.get(f"/upload-tokens/{token}", expect=200)
    assert (await api.send_with_token(token, b"x")).status == 201
    assert (await api.send_with_token(token, b"x", "part 0/1")).status == 400
    assert (await api.send_with_token("toNone", b"x")).status == 401
    await api.delete(f"/upload-tokens/{token}", expect=204)
    await api.get(f"/upload-tokens/{token}", expect=404)


async def test_import(api: Api, emulator: Emulator) -> None:
    """A container with a source gets status 202."""
    original = await api.create()
    await api.send(original, b"bytes", expect=201)
    await emulator.finished(original)
    clone = await api.post("/videos", json={"title": "t", "source": original}, expect=202)
    await emulator.finished(clone.json["videoId"])
    await api.status(clone.json["videoId"])


async def test_too_many_requests(api: Api) -> None:
    """Errors of every endpoint, including rate limits and faults."""
    async with Emulator(rate_limit=1) as emulator:
        limited = CheckedApi(api.session, emulator.url, api.authorization)
        replies = await asyncio.gather(*(limited.get("/videos") for _ in range(6)))
        assert sorted(reply.status for reply in replies) == [200] * 5 + [429]
        video_id = await limited.create()
        await limited.send(video_id, b"x", "part 2/2", expect=201)
        await limited.send(video_id, b"x", "part 2/2", expect=429)
        await limited.post("/upload", params={"token": "to"}, data=form(b"x"), expect=429)
        emulator.add_fault(Fault(endpoint="auth", status=503))
        await limited.post("/auth/api-key", json={"apiKey": "local-key"}, expect=503)
