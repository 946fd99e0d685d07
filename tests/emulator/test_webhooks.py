"""Webhooks: registration, signed deliveries, retries and their log."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest
from aiohttp import web

from async_uploader.emulator import Emulator, _webhook_sender

from .conftest import Api, basic
from .endpoint_table import DESCRIPTION
from .test_conformance import CheckedApi

pytestmark = pytest.mark.anyio

COMPLETED = "video.encoding.quality.completed"
PAYLOAD = DESCRIPTION["x-webhooks"][COMPLETED]["post"]["requestBody"]["content"]["application/json"]["schema"]


class Receiver:
    """A server that receives events, and responds with the next of `statuses`, then with 202."""

    def __init__(self) -> None:
        self.url = ""
        self.statuses: list[int] = []
        self.received: list[tuple[dict[str, str], bytes]] = []

    async def handle(self, request: web.BaseRequest) -> web.Response:
        self.received.append((dict(request.headers), await request.read()))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 202, headers={"Location": self.url})


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    runner = web.ServerRunner(web.Server(receiver.handle), shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook?key=value"
    yield receiver
    await runner.cleanup()


@pytest.fixture
def api(api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    """Every response is checked against the OpenAPI description. Retries do not wait."""
    monkeypatch.setattr(_webhook_sender, "RETRY_SECONDS", 0)
    return CheckedApi(api.session, api.url, api.authorization)


async def register(api: Api, url: str, *events: str) -> dict[str, Any]:
    reply = await api.post("/webhooks", json={"events": list(events or (COMPLETED,)), "url": url}, expect=201)
    webhook: dict[str, Any] = reply.json
    return webhook


async def upload(api: Api, emulator: Emulator) -> str:
    video_id = await api.create()
    await api.send(video_id, b"bytes", expect=201)
    await emulator.finished(video_id)
    return video_id


async def test_registration(api: Api) -> None:
    """From the registration to the deletion."""
    webhook = await register(api, "https://example.com/hook", COMPLETED, "video.caption.generated")
    other = await register(api, "http://example.com:80", "live-stream.broadcast.started")
    assert webhook["signatureSecret"].startswith("sig_sec_")
    assert (await api.get("/webhooks", expect=200)).json["data"] == [webhook, other]
    assert (await api.get("/webhooks", params={"events": COMPLETED}, expect=200)).json["data"] == [webhook]
    path = f"/webhooks/{webhook['webhookId']}"
    assert (await api.get(path, expect=200)).json == webhook
    await api.delete(path, expect=204)
    await api.delete(path, expect=404)
    await api.get(path, expect=404)


@pytest.mark.parametrize(
    "payload",
    [
        {"url": "https://example.com"},
        {"events": [COMPLETED]},
        {"events": [], "url": "https://example.com"},
        {"events": ["video.deleted"], "url": "https://example.com"},
        {"events": [[]], "url": "https://example.com"},
        {"events": COMPLETED, "url": "https://example.com"},
        {"events": [COMPLETED], "url": "ftp://example.com"},
        {"events": [COMPLETED], "url": "example.com"},
        {"events": [COMPLETED], "url": "https://example.com", "secret": "x"},
    ],
)
async def test_refused(api: Api, payload: dict[str, object]) -> None:
    """Events must be known, and the URL http or https."""
    await api.post("/webhooks", json=payload, expect=400)


async def test_a_delivery(api: Api, emulator: Emulator, receiver: Receiver) -> None:
    """The event of a finished video is posted with its signature, and logged."""
    webhook = await register(api, receiver.url)
    await register(api, receiver.url, "video.caption.generated")
    video_id = await upload(api, emulator)
    await emulator.wait_for(lambda e: e.deliveries)
    [(headers, body)] = receiver.received
    event = json.loads(body)
    jsonschema.validate(event, PAYLOAD, format_checker=jsonschema.FormatChecker())
    assert (event["type"], event["videoId"], event["encoding"]) == (COMPLETED, video_id, "hls")
    [quality] = (await api.get(f"/videos/{video_id}/status", expect=200)).json["encoding"]["qualities"]
    assert (quality["quality"], quality["status"]) == (event["quality"], "encoded")
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Api-Video-WebhookID"] == webhook["webhookId"]
    signature = hmac.new(webhook["signatureSecret"].encode(), body, hashlib.sha256).hexdigest()
    assert headers["X-Api-Video-Signature"] == signature
    [delivery] = emulator.deliveries
    assert (delivery.status, delivery.attempt, delivery.payload) == (202, 1, event)
    [logged] = (await Api(api.session, api.url, None).get("/_emulator/deliveries", expect=200)).json
    expected = {"webhook_id": webhook["webhookId"], "event": COMPLETED, "video_id": video_id, "url": receiver.url,
                "attempt": 1, "status": 202, "error": None, "payload": event, "signature": signature}  # fmt: skip
    assert logged == expected | {"seconds": logged["seconds"]}


async def test_retries(api: Api, emulator: Emulator, receiver: Receiver) -> None:
    """Statuses above 299 are retried, with the same body and signature."""
    receiver.statuses = [500, 302, 404]
    await register(api, receiver.url)
    await upload(api, emulator)
    await emulator.wait_for(lambda e: len(e.deliveries) == 4)
    assert [delivery.status for delivery in emulator.deliveries] == [500, 302, 404, 202]
    assert [delivery.attempt for delivery in emulator.deliveries] == [1, 2, 3, 4]
    assert len({body for _, body in receiver.received}) == 1
    assert len({headers["X-Api-Video-Signature"] for headers, _ in receiver.received}) == 1


async def test_a_receiver_that_is_gone(api: Api, emulator: Emulator, receiver: Receiver) -> None:
    """After three retries, nothing more is sent. The log has the error."""
    await register(api, "http://127.0.0.1:1/hook")
    await register(api, receiver.url)
    await upload(api, emulator)
    await emulator.wait_for(lambda e: len(e.deliveries) == 5)
    failed = [delivery for delivery in emulator.deliveries if delivery.status is None]
    assert [delivery.attempt for delivery in failed] == [1, 2, 3, 4]
    assert all(delivery.error and not delivery.is_successful for delivery in failed)
    while emulator._store.workers._background:
        await emulator._store.workers.wait_for_tasks()
    assert len(emulator.deliveries) == 5


async def test_clones_are_delivered(api: Api, emulator: Emulator, receiver: Receiver) -> None:
    """Imported videos are encoded, too."""
    original = await upload(api, emulator)
    await register(api, receiver.url)
    clone = await api.create(source=original)
    await emulator.wait_for(lambda e: e.deliveries)
    assert emulator.deliveries[0].video_id == clone


async def test_a_deleted_webhook_is_not_retried(api: Api, emulator: Emulator, receiver: Receiver) -> None:
    """Deletion ends its deliveries."""
    receiver.statuses = [500] * 4
    webhook = await register(api, receiver.url)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_webhook_sender, "RETRY_SECONDS", 0.05)
        await upload(api, emulator)
        await emulator.wait_for(lambda e: e.deliveries)
        await api.delete(f"/webhooks/{webhook['webhookId']}", expect=204)
        while emulator._store.workers._background:
            await emulator._store.workers.wait_for_tasks()
    assert len(emulator.deliveries) == 1


async def test_webhooks_are_kept_and_reset(
    tmp_path: Path, session: aiohttp.ClientSession, receiver: Receiver
) -> None:
    """The next emulator with the same data delivers to them; a reset forgets them."""
    async with Emulator(data=tmp_path) as emulator:
        webhook = await register(Api(session, emulator.url, basic("local-key")), receiver.url)
    async with Emulator(data=tmp_path) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        await upload(api, emulator)
        await emulator.wait_for(lambda e: e.deliveries)
        assert emulator.deliveries[0].webhook_id == webhook["webhookId"]
        await session.post(f"{emulator.url}/_emulator/reset")
        assert emulator.deliveries == ()
        assert (await api.get("/webhooks", expect=200)).json["data"] == []
        assert list((tmp_path / "webhooks").iterdir()) == []
