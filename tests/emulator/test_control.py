"""The control endpoints under `/_emulator/`: reset, faults, requests and videos."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from async_uploader.emulator import Emulator, Fault

from .conftest import MIB, PART, Api, basic, content
from .raw import Raw, upload_head

pytestmark = pytest.mark.anyio

REQUEST_FIELDS = {
    "method", "path", "endpoint", "status", "problem", "detail", "part", "attempt", "bytes", "fault", "seconds",
}  # fmt: skip


@pytest.fixture
def control(api: Api) -> Api:
    """A client without a key."""
    return Api(api.session, api.url + "/_emulator", None)


# Faults


async def test_add_list_and_remove_faults(api: Api, control: Api) -> None:
    """Faults are added one by one or as a list, counted, and removed."""
    await control.post("/faults", json={"spec": "list,times=1:status=503"}, expect=201)
    await control.post("/faults", json=[{"spec": "get:cut"}, {"spec": "part=2,attempt=1:cut"}], expect=201)
    await control.post("/faults", json={"spec": ["create:cut", "delete:cut"]}, expect=201)
    await api.get("/videos", expect=503)
    await api.get("/videos", expect=200)
    assert (await control.get("/faults", expect=200)).json == [
        {"spec": "list,times=1:status=503", "triggered": 1},
        {"spec": "get:cut", "triggered": 0},
        {"spec": "part=2,attempt=1:cut", "triggered": 0},
        {"spec": "create:cut", "triggered": 0},
        {"spec": "delete:cut", "triggered": 0},
    ]
    assert (await control.delete("/faults", expect=204)).body == b""
    assert (await control.get("/faults", expect=200)).json == []
    await api.get("/videos/viX", expect=404)


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        (b"", "invalid-payload"),
        (b"{", "invalid-payload"),
        (b"{}", "invalid-payload"),
        (b'"list:cut"', "invalid-payload"),
        (b'{"spec": 1}', "invalid-attribute"),
        (b'{"spec": ["list:cut", null]}', "invalid-attribute"),
        (b'{"spec": "list:cut", "times": 1}', "invalid-payload"),
        (b'{"spec": "nonsense"}', "invalid-attribute"),
        (b'[{"spec": "list:cut"}, {"spec": "list:fly"}]', "invalid-attribute"),
        (b" " * 1_100_000, "invalid-payload"),
    ],
)
async def test_invalid_faults(control: Api, body: bytes, slug: str) -> None:
    """An invalid fault is a problem with a detail, and nothing is added."""
    reply = await control.post("/faults", data=io.BytesIO(body), expect=400)
    assert reply.slug == slug
    assert reply.json["detail"]
    assert (await control.get("/faults", expect=200)).json == []


# Requests


async def test_requests(api: Api, control: Api) -> None:
    """Each request has its fields, oldest first."""
    video_id = await api.create()
    spec = "part=2,attempt=1:status=503"
    await control.post("/faults", json={"spec": spec}, expect=201)
    await api.send(video_id, content(PART), "part 1/2", expect=201)
    await api.send(video_id, content(9), "part 2/2", expect=503)
    await api.send(video_id, content(9), "part 2/2", expect=201)
    await api.send(video_id, content(9), "part 2/2", expect=400)
    await api.get("/nowhere", expect=404)
    requests = (await control.get("/requests", expect=200)).json
    assert all(request.keys() == REQUEST_FIELDS for request in requests)
    path = f"/videos/{video_id}/source"
    assert [
        tuple(
            request[name]
            for name in ("method", "path", "endpoint", "status", "problem", "part", "attempt", "fault")
        )
        for request in requests
    ] == [
        ("POST", "/videos", "create", 201, None, None, 1, None),
        ("POST", path, "upload", 201, None, 1, 1, None),
        ("POST", path, "upload", 503, "server-error", 2, 1, spec),
        ("POST", path, "upload", 201, None, 2, 2, None),
        ("POST", path, "upload", 400, "video-source-already-uploaded", 2, 3, None),
        ("GET", "/nowhere", "other", 404, "unrecognized-request-url", None, 1, None),
    ]
    assert requests[1]["bytes"] > PART
    assert all(request["seconds"] >= 0 for request in requests)


async def test_details_and_cuts(api: Api, control: Api) -> None:
    """A refusal has its detail; a cut request has no status."""
    video_id = await api.create()
    await api.send(video_id, b"x", "part 1/*", expect=400)
    await control.post("/faults", json={"spec": "list:cut"}, expect=201)
    with pytest.raises(aiohttp.ClientError):
        await api.get("/videos")
    _, refused, cut, *_ = (await control.get("/requests", expect=200)).json
    assert "bytes" in refused["detail"]
    assert (cut["status"], cut["problem"], cut["fault"]) == (None, None, "list:cut")


async def test_byte_ranges_have_no_part(api: Api, control: Api) -> None:
    """`part` is null for byte ranges and malformed headers."""
    video_id = await api.create()
    await api.send(video_id, content(9), "bytes 0-8/9", expect=201)
    await api.send(video_id, content(9), "nonsense", expect=400)
    assert [request["part"] for request in (await control.get("/requests")).json[1:]] == [None, None]


async def test_secrets_are_masked(session: aiohttp.ClientSession) -> None:
    """No key or token is in the requests."""
    async with Emulator(api_key="a-secret-key") as emulator:
        api = Api(session, emulator.url, basic("a-secret-key"))
        token = await api.token()
        await api.send_with_token(token, b"x")
        await api.get(f"/upload-tokens/{token}", expect=200)
        for secret in (token, "a-secret-key"):
            await api.get(f"/{secret}", expect=404)
        text = (await api.get("/_emulator/requests", expect=200)).body.decode()
    assert token not in text
    assert "a-secret-key" not in text


# Videos


async def test_videos(api: Api, emulator: Emulator, control: Api) -> None:
    """Each video has its state, size, SHA-256 and received parts."""
    empty, partial, finished = [await api.create() for _ in range(3)]
    await api.send(partial, content(PART), "part 3/4", expect=201)
    await api.send(partial, content(PART), "part 1/4", expect=201)
    await api.send(finished, b"all", expect=201)
    await emulator.finished(finished)
    nothing = {"size_bytes": None, "sha256": None}
    assert (await control.get("/videos", expect=200)).json == [
        {"video_id": empty, "state": "empty", "parts": [], **nothing},
        {"video_id": partial, "state": "uploading", "parts": [1, 3], **nothing},
        {
            "video_id": finished, "state": "finished", "parts": [],
            "size_bytes": 3, "sha256": hashlib.sha256(b"all").hexdigest(),
        },
    ]  # fmt: skip


# Reset


async def test_reset(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    """A reset forgets videos, tokens, faults, requests and rate-limit windows, also on disk."""
    async with Emulator(data=tmp_path, rate_limit=1, faults=[Fault.parse("get:status=500")]) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        pair = (await api.post("/auth/api-key", json={"apiKey": "local-key"}, expect=200)).json
        token, video_id = await api.token(), await api.create()
        await api.send(video_id, content(PART), "part 1/2", expect=201)
        await api.send(video_id, content(PART), "part 2/2", expect=429)
        reply = await session.post(f"{emulator.url}/_emulator/reset")
        assert reply.status == 204
        assert (await api.get("/_emulator/requests")).json == []
        assert (await api.get("/_emulator/faults")).json == []
        assert (await api.get("/_emulator/videos")).json == []
        assert emulator.statistics().requests == 0
        assert list((tmp_path / "videos").iterdir()) == list((tmp_path / "upload-tokens").iterdir()) == []
        assert list((tmp_path / "tmp").iterdir()) == []
        await api.get(f"/videos/{video_id}", expect=404)
        await api.get("/videos", headers={"Authorization": f"Bearer {pair['access_token']}"}, expect=401)
        await api.post("/auth/refresh", json={"refreshToken": pair["refresh_token"]}, expect=400)
        await api.get(f"/upload-tokens/{token}", expect=404)
        new = await api.create()
        assert emulator.requests[-1].attempt == 1
        await api.send(new, b"x", expect=201)  # the window is open again


async def test_reset_ends_requests_in_flight(api: Api, emulator: Emulator, control: Api) -> None:
    """Stalled requests and uploads are cut, and leave no trace."""
    video_id = await api.create()
    emulator.add_fault(Fault.parse("create:stall=forever"))
    stalled = asyncio.create_task(api.create())
    async with Raw(emulator.url) as raw:
        await raw.send(upload_head(video_id, "part 1/*", PART) + content(PART // 2))
        await emulator.wait_for(lambda e: e.statistics().bytes_received > MIB)
        await control.post("/reset", expect=204)
        assert await raw.read_to_end() == b""
    with pytest.raises(aiohttp.ClientError):
        await stalled
    assert emulator.requests == ()
    assert emulator.statistics().uploads_in_flight == 0
    assert list(emulator._store.directory.incoming.iterdir()) == []


@asynccontextmanager
async def endless_download(is_started: asyncio.Event) -> AsyncIterator[str]:
    """The URL of a download that never ends."""

    async def handle(_: web.BaseRequest) -> web.Response:
        is_started.set()
        await asyncio.get_running_loop().create_future()
        return web.Response()

    runner = web.ServerRunner(web.Server(handle, handler_cancellation=True), shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


async def test_reset_cancels_imports(api: Api, emulator: Emulator, control: Api) -> None:
    """A download in progress ends."""
    is_started = asyncio.Event()
    async with endless_download(is_started) as url:
        await api.create(source=url)
        await is_started.wait()
        await control.post("/reset", expect=204)
        assert len(emulator.videos) == 0
        assert not emulator._store.workers._background


async def test_the_emulator_works_after_a_reset(api: Api, emulator: Emulator, control: Api) -> None:
    """Uploads succeed after repeated resets."""
    for number in range(3):
        video_id = await api.create()
        await api.send(video_id, content(PART, number), "part 1/2", expect=201)
        await api.send(video_id, b"end", "part 2/2", expect=201)
        whole = hashlib.sha256(content(PART, number) + b"end").hexdigest()
        assert (await emulator.finished(video_id)).sha256 == whole
        await control.post("/reset", expect=204)


async def test_a_page_survives_a_reset(api: Api, emulator: Emulator, control: Api) -> None:
    """The event stream of a page continues."""
    await api.create()
    async with api.session.get(f"{emulator.url}/_emulator/events") as events:
        first = json.loads((await events.content.readline()).removeprefix(b"data: "))
        assert first["changed"]["videos"]["total"] == 1
        await control.post("/reset", expect=204)
        async with asyncio.timeout(10):
            while True:
                line = await events.content.readline()
                changed = json.loads(line.removeprefix(b"data: "))["changed"] if line.strip() else {}
                if changed.get("videos", {}).get("total") == 0:
                    break


# Access


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/reset", "POST"),
        ("PUT", "/faults", "DELETE, GET, POST"),
        ("POST", "/requests", "GET"),
        ("DELETE", "/videos", "GET"),
    ],
)
async def test_methods(control: Api, method: str, path: str, allow: str) -> None:
    """Other methods get 405 with `Allow`."""
    reply = await control.call(method, path, expect=405)
    assert (reply.slug, reply.headers["Allow"]) == ("method-not-allowed", allow)


async def test_control_requests_are_not_logged(control: Api, emulator: Emulator) -> None:
    """Control requests need no key, are not logged, and trigger no faults."""
    await control.post("/faults", json={"spec": "*:status=503"}, expect=201)
    for path in ("/faults", "/requests", "/videos"):
        await control.get(path, expect=200)
        assert (await control.call("HEAD", path, expect=200)).body == b""
    assert emulator.requests == ()


@pytest.mark.parametrize(
    ("headers", "status", "slug"),
    [
        ({"Origin": "https://evil.example"}, 403, "forbidden-origin"),
        ({"Origin": "null"}, 403, "forbidden-origin"),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403, "forbidden-origin"),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, 403, "forbidden-origin"),
        ({"Host": "evil.example"}, 421, "misdirected-request"),
        # After DNS rebinding, the other site has the emulator's address, and both are one origin to the browser.
        ({"Host": "evil.example:80", "Origin": "http://evil.example:80"}, 421, "misdirected-request"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/reset"), ("POST", "/faults"), ("GET", "/faults"), ("DELETE", "/faults"), ("GET", "/requests"),
     ("GET", "/videos")],
)  # fmt: skip
async def test_other_sites_are_refused(
    api: Api,
    control: Api,
    emulator: Emulator,
    method: str,
    path: str,
    headers: dict[str, str],
    status: int,
    slug: str,
) -> None:
    """Other sites and other host names are refused, and nothing changes."""
    await api.create()
    reply = await control.call(method, path, headers=headers, data=b'{"spec": "*:cut"}', expect=status)
    assert reply.slug == slug
    assert "Access-Control-Allow-Origin" not in reply.headers
    assert len(emulator.videos) == 1
    await api.get("/videos", expect=200)


@pytest.mark.parametrize("media_type", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
async def test_form_posts_are_refused(control: Api, emulator: Emulator, media_type: str, origin: str) -> None:
    """Forms of other sites need no preflight; they change nothing."""
    headers = {"Origin": origin, "Content-Type": media_type, "Sec-Fetch-Mode": "navigate"}
    await control.post("/faults", headers=headers, data=b'{"spec": "*:cut"}', expect=403)
    await control.post("/reset", headers=headers, expect=403)
    assert (await control.get("/faults")).json == []
    assert [record.status for record in emulator.requests] == [403, 403]


async def test_links_to_the_page(api: Api) -> None:
    """Other sites may link to the page."""
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    await api.get("/", headers=headers, expect=200)


async def test_the_page_may_use_the_control_endpoints(control: Api, emulator: Emulator) -> None:
    """Requests with the page's own origin are served."""
    await control.post("/reset", headers={"Origin": emulator.url}, expect=204)
