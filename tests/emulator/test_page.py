"""The requests of the emulator's page: its files and its events."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import files
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from async_uploader.emulator import Emulator, Fault
from async_uploader.emulator._http.rate_limit import Budget
from async_uploader.emulator._records import MAX_FAILED_PARTS, MAX_VIDEOS_WITH_FAILURES, FailedParts
from async_uploader.emulator._rules import PartRange
from async_uploader.emulator._web import event_stream
from async_uploader.emulator._web import state as page_state
from async_uploader.emulator._web.page import FILES, PREFIX
from async_uploader.emulator._web.state import Sections

from .conftest import PART, Api, basic, content
from .raw import Raw, upload_head

pytestmark = pytest.mark.anyio


class Events:
    """A page's state, from the events that it has received."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.state: dict[str, Any] = {}
        self.last: dict[str, Any] = {}

    async def next(self) -> dict[str, Any]:
        line = await self.response.content.readline()
        assert line.startswith(b"data: "), line
        assert await self.response.content.readline() == b"\n"
        self.last = json.loads(line.removeprefix(b"data: "))
        self.state |= self.last["changed"]
        for name in self.last["removed"]:
            del self.state[name]
        return self.state

    async def until(self, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        async with asyncio.timeout(20):
            while not holds(await self.next()):
                pass
        return self.state


@asynccontextmanager
async def events(session: aiohttp.ClientSession, url: str) -> AsyncIterator[Events]:
    async with session.get(f"{url}{PREFIX}/events") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        yield Events(response)


# The page


async def test_the_page_and_its_files(visitor: Api, emulator: Emulator) -> None:
    """The page needs no key, loads nothing from other hosts, and its requests are not logged."""
    page = await visitor.get("/", expect=200)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    visited, pending = set(), {"/"}
    while pending:
        name = pending.pop()
        visited.add(name)
        reply = await visitor.get(name, expect=200)
        text = reply.body.decode()
        assert not re.search(r"(?:src|href|from|url\()\s*[=(]?\s*[\"']?(?:https?:)?//", text), name
        pending |= set(re.findall(rf'(?:src|href)="({PREFIX}/[^"]+)"', text)) - visited
        pending |= {f"{PREFIX}/{other}" for other in re.findall(r'from "\./([a-z]+\.js)"', text)} - visited
    assert {Path(name).suffix for name in visited} == {"", ".css", ".js", ".svg"}
    assert emulator.requests == ()


async def test_head(visitor: Api) -> None:
    """HEAD returns the headers of GET, also for events."""
    got, head = await visitor.get("/"), await visitor.call("HEAD", "/", expect=200)
    assert (head.body, head.headers["Content-Length"]) == (b"", str(len(got.body)))
    assert (await visitor.call("HEAD", f"{PREFIX}/events", expect=200)).body == b""


@pytest.mark.parametrize("name", ["page.py", "..%2f_web%2fpage.py", "index.html", "nothing.js", ""])
async def test_nothing_else_is_served(visitor: Api, name: str) -> None:
    """Other files and missing files get 404."""
    reply = await visitor.get(f"{PREFIX}/{name}", expect=404)
    assert reply.headers["Content-Type"] == "application/problem+json"


def test_the_page_is_in_the_package() -> None:
    """The page's files are in the package, and in its wheel."""
    names = {file.name for file in FILES.iterdir()}
    assert {"index.html", "player.html", "style.css", "page.js", "icon.svg"} <= names
    installed = {file.name for file in files("async-uploader") or () if "emulator/page" in str(file)}
    assert installed in (set(), names)  # an editable installation lists no files


# Events


async def test_events_of_an_upload(api: Api, emulator: Emulator) -> None:
    """Events show parts in flight, received and failed parts, and the finished video."""
    title = "<img src=x onerror=alert(1)>"
    video_id = await api.create(title, metadata=[{"key": "k", "value": "v"}])
    async with events(api.session, emulator.url) as page, Raw(emulator.url) as raw:
        first = await page.next()
        assert first["videos"] == {"visible": [video_id], "total": 1, "finished": 0}
        assert (first[video_id]["title"], first[video_id]["state"]) == (title, "empty")
        await raw.send(upload_head(video_id, "part 2/2", PART) + bytes(PART // 2))
        parts = [[1, 2, pytest.approx(0.5, abs=0.01)]]
        arrived = pytest.approx(PART // 2, abs=1000)
        in_flight = await page.until(lambda now: now["uploads"].get(video_id, {}).get("parts") == parts)
        assert in_flight["uploads"][video_id] == {
            "kind": "parts", "total": 2, "unit": 1, "parts": parts, "bytes": arrived,
        }  # fmt: skip
        assert in_flight["traffic"]["inFlight"] == 1
        await raw.send(bytes(PART - PART // 2) + b"\r\n--XX--\r\n")
        received = await page.until(lambda now: now[video_id]["parts"] == 1 and not now["uploads"])
        assert received[video_id]["received"] == [[1, 2]]
        await api.send(video_id, content(PART), "part 3/2", expect=400)
        failed = await page.until(lambda now: now[video_id]["failed"])
        assert failed[video_id]["failed"] == [[2, 3, 400]]
        await api.send(video_id, content(PART), "part 1/2", expect=201)
        done = (await page.until(lambda now: now[video_id]["state"] == "finished"))[video_id]
        assert (done["received"], done["bytes"], done["axis"]["total"]) == ([[0, 2]], 2 * PART, 2)
        assert (done["sha256"], done["metadata"]) == (emulator.sha256(video_id), [{"key": "k", "value": "v"}])
        await api.delete(f"/videos/{video_id}", expect=204)
        deleted = await page.until(lambda now: video_id not in now)
        assert deleted["videos"]["total"] == 0


async def test_byte_ranges_and_whole_uploads(api: Api, emulator: Emulator) -> None:
    """Positions are bytes for byte ranges, and 0 to 1 for whole files."""
    ranged, whole = await api.create(), await api.create()
    await api.send(ranged, content(PART), f"bytes {PART}-{2 * PART - 1}/*", expect=201)
    await api.send(whole, b"a small video", expect=201)
    async with events(api.session, emulator.url) as page:
        now = await page.until(lambda now: now[whole]["state"] == "finished")
        assert now[ranged]["axis"] == {"kind": "bytes", "total": None, "unit": PART}
        assert now[ranged]["received"] == [[PART, 2 * PART]]
        assert (now[whole]["axis"]["kind"], now[whole]["received"]) == ("whole", [[0, 1]])


async def test_only_changes_are_sent(api: Api, emulator: Emulator) -> None:
    """Unchanged sections are not sent again; a heartbeat without changes follows."""
    video_id = await api.create()
    async with events(api.session, emulator.url) as page:
        await page.next()
        await page.next()
        assert page.last["changed"] == {}
        other = await api.create()
        await page.until(lambda now: other in now)
        assert video_id not in page.last["changed"]


async def test_windows_faults_and_rates() -> None:
    """Events show rate-limit windows, faults with their counts, rates and requests."""
    spec = "part=2,times=3:status=503,retry-after=2"
    options: dict[str, Any] = {"rate_limit": 10, "connection_rate": 1e9, "latency": 0.001}
    async with Emulator(faults=[Fault.parse(spec)], **options) as emulator, aiohttp.ClientSession() as session:
        api = Api(session, emulator.url, basic("local-key"))
        video_id = await api.create()
        await api.send(video_id, content(PART), "part 2/3", expect=503)
        await api.send(video_id, content(PART), "part 1/3", expect=201)
        async with events(session, emulator.url) as page:
            now = await page.next()
        windows = {window["name"]: window for window in now["windows"]}
        assert {name: (w["used"], w["limit"]) for name, w in windows.items()} == {
            "uploads": (1, 10), "writes": (1, 20), "reads": (0, 50),
        }  # fmt: skip
        assert 0 < windows["uploads"]["closesAt"] - page.last["now"] <= 60
        assert windows["reads"]["closesAt"] is None
        assert now["faults"] == [{"number": 1, "spec": spec, "triggered": 1}]
        assert (now["emulator"]["connectionRate"], now["emulator"]["latency"]) == (1e9, 0.001)
        assert now["requests"][1] | {"endedAt": 0, "ms": 0} == {
            "endedAt": 0, "method": "POST", "path": f"/videos/{video_id}/source", "range": "part 2/3",
            "status": 503, "ms": 0, "attempt": 1, "isFault": True, "number": 2, "problem": "server-error",
        }  # fmt: skip


async def test_the_page_opens_no_window(session: aiohttp.ClientSession) -> None:
    """Only requests open a rate-limit window."""
    async with Emulator(rate_limit=10, rate_window=1.0) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        await api.create()
        async with events(session, emulator.url) as page:
            closed = await page.until(lambda now: now["windows"][1]["closesAt"] is None)
            assert closed["windows"][1]["used"] == 0
            await page.next()
        requested_at = asyncio.get_running_loop().time()
        await api.create()
        used, closes_at = emulator._server._limiter.usage(Budget.WRITES, requested_at)
        assert used == 1
        assert closes_at is not None
        assert closes_at >= requested_at + 1.0


@pytest.mark.parametrize(
    "spec",
    [
        "*:cut",
        "upload,part=first,attempt=2,probability=0.5,seed=7:cut,when=middle",
        "completing:stall=forever",
        "byte=7,times=2:stall=1.5",
        "auth:status=302,header=Location=http://x/",
        "status:problem=too-many-requests,body=html",
        "*:expire-tokens,revoke-tokens",
    ],
)
def test_fault_specs_round_trip(spec: str) -> None:
    """The spec of a parsed fault parses to the same fault."""
    assert Fault.parse(Fault.parse(spec).spec) == Fault.parse(spec)


async def test_secrets_are_masked(session: aiohttp.ClientSession) -> None:
    """The page shows no key or token, wherever a client sent it."""
    key = "a-secret-key"
    async with Emulator(api_key=key) as emulator:
        api = Api(session, emulator.url, basic(key))
        pair = (await api.post("/auth/api-key", json={"apiKey": key}, expect=200)).json
        token = await api.token()
        await api.get(f"/upload-tokens/{token}", expect=200)
        await api.send_with_token(token, b"a small video")
        secrets = [key, token, pair["access_token"], pair["refresh_token"]]
        for secret in secrets:
            await api.get(f"/videos/{secret}", expect=404)
            await api.get(f"/{secret}", expect=404)
            await api.get(f"/videos?{secret}={secret}", expect=200)
        private = await api.create(public=False)
        await api.send(private, b"a small video", expect=201)
        mp4 = (await api.get(f"/videos/{private}", expect=200)).json["assets"]["mp4"]
        secrets.append(re.findall(r"/token/(\w+)/", mp4)[0])
        async with events(session, emulator.url) as page:
            text = json.dumps(await page.until(lambda now: len(now["requests"]) > 16))
        text += (await api.get("/")).body.decode()
        assert [secret for secret in secrets if secret in text] == []
        assert page.state["emulator"]["hasDefaultKey"] is False


async def test_events_end_with_the_emulator(session: aiohttp.ClientSession) -> None:
    """Stopping the emulator ends the events, and leaves no task."""
    before = asyncio.all_tasks()
    emulator = await Emulator().__aenter__()
    async with events(session, emulator.url) as page:
        await page.next()
        async with asyncio.timeout(1):
            await emulator.__aexit__(None, None, None)
            with pytest.raises(aiohttp.ClientError):
                await page.until(lambda _: False)
    assert asyncio.all_tasks() == before


async def test_events_end_with_the_page(api: Api, emulator: Emulator) -> None:
    """A page that disconnects leaves no task."""
    async with events(api.session, emulator.url) as page:
        await page.next()
        assert emulator._server._tasks
        page.response.close()
    async with asyncio.timeout(5):
        while emulator._server._tasks:
            await asyncio.wait(emulator._server._tasks)


async def test_slow_readers(api: Api, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """No events are made for a page that does not read. When it reads again, it gets the latest state."""
    events_of_pages = emulator._server._page._event_stream
    made = 0

    def sections() -> Sections:
        nonlocal made
        made += 1
        return {"big": b'"' + b"x" * 500_000 + str(made).encode() + b'"'}

    def paused(_: Emulator) -> bool:
        [protocol] = emulator._connections.connections
        return protocol._paused

    monkeypatch.setattr(events_of_pages._state, "sections", sections)
    monkeypatch.setattr(events_of_pages, "_interval_s", 0.0)
    monkeypatch.setattr(event_stream, "_MAX_LOAD", 1.0)
    monkeypatch.setattr(event_stream, "HEARTBEAT_SECONDS", 0.0)
    async with Raw(emulator.url) as raw:
        await raw.send(f"GET {PREFIX}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        raw._writer.transport.pause_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(20):
            while not (emulator._connections.connections and paused(emulator)):  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0)
        made_before = made
        for _ in range(1000):
            await asyncio.sleep(0)
        [protocol] = emulator._connections.connections
        assert protocol.transport is not None
        assert (made, protocol.transport.get_write_buffer_size() < 2_000_000) == (made_before, True)
        raw._writer.transport.resume_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(20):
            while f'{made_before}"'.encode() not in await raw._reader.read(1 << 20):
                pass


async def test_pages_share_events(api: Api, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pages at the same time share the encoded state."""
    events_of_pages = emulator._server._page._event_stream
    monkeypatch.setattr(events_of_pages, "_interval_s", 60.0)
    async with events(api.session, emulator.url) as one, events(api.session, emulator.url) as other:
        assert await one.next() == await other.next()
        assert events_of_pages._latest() is events_of_pages._latest()


async def test_many_videos(api: Api, emulator: Emulator) -> None:
    """The newest videos and those with uploads in flight are shown; the others are counted."""
    oldest = await api.create("oldest")
    await asyncio.gather(*(api.create() for _ in range(60)))
    newest = await api.create("newest")
    async with events(api.session, emulator.url) as page, Raw(emulator.url) as raw:
        now = await page.next()
        assert (now["videos"]["total"], len(now["videos"]["visible"])) == (62, 40)
        assert now["videos"]["visible"][0] == newest
        assert oldest not in now
        await raw.send(upload_head(oldest, "part 1/2", PART))
        assert (await page.until(lambda now: oldest in now))["videos"]["visible"][-1] == oldest


async def test_time_limit(api: Api, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoding many large videos does not block the event loop; the rest follows in the next event."""
    made = {await api.create() for _ in range(3)}
    monkeypatch.setattr(page_state, "TIME_LIMIT_SECONDS", 0.0)
    async with events(api.session, emulator.url) as page:
        assert not made & (await page.next()).keys()
        monkeypatch.undo()
        assert made <= (await page.next()).keys()


def test_failed_parts_are_bounded() -> None:
    """The most recent failed parts of the most recent videos are kept."""
    failed = FailedParts()
    for number in range(1, MAX_FAILED_PARTS + 3):
        failed.add("vi0", PartRange(number, None), 503)
    assert len(failed.of("vi0")) == MAX_FAILED_PARTS
    assert PartRange(2, None) not in failed.of("vi0")
    for number in range(MAX_VIDEOS_WITH_FAILURES):
        failed.add(f"vi{number + 1}", PartRange(1, None), None)
    assert not failed.of("vi0")
