"""The endpoints of webhooks. `_webhook_sender` delivers their events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from async_uploader.emulator._http.responses import json_response
from async_uploader.emulator._problems import Problem
from async_uploader.emulator._storage.entities import Webhook
from async_uploader.emulator._storage.ids import new_id

from .attributes import WEBHOOK, check_attributes
from .views import format_time

if TYPE_CHECKING:
    from async_uploader.emulator._http.exchange import Exchange
    from async_uploader.emulator._storage.store import Store

    from .listing import Lister
    from .routing import Row


class Webhooks:
    """Registers webhooks."""

    def __init__(self, store: Store, lister: Lister) -> None:
        self._store = store
        self._lister = lister

    def rows(self) -> list[Row]:
        return [
            ("webhooks", "GET", "/webhooks", self.list_webhooks),
            ("webhooks", "POST", "/webhooks", self.create),
            ("webhooks", "GET", "/webhooks/ID", self.get),
            ("webhooks", "DELETE", "/webhooks/ID", self.delete),
        ]

    async def list_webhooks(self, exchange: Exchange) -> web.Response:
        event = exchange.request.query.get("events")
        webhooks = [webhook for webhook in self._store.webhooks if event is None or event in webhook.events]
        return self._lister.page(exchange, webhooks, _webhook_view)

    async def create(self, exchange: Exchange) -> web.Response:
        payload = check_attributes(await exchange.json(), WEBHOOK, required=("events", "url"))
        events = payload["events"]
        assert isinstance(events, list)
        now = self._store.clock.now()
        webhook = Webhook(new_id("webhook_"), now, tuple(events), str(payload["url"]), new_id("sig_sec_"))
        await self._store.webhooks.add(webhook)
        return json_response(201, _webhook_view(webhook))

    async def get(self, _: Exchange, webhook_id: str) -> web.Response:
        return json_response(200, _webhook_view(self._find(webhook_id)))

    async def delete(self, _: Exchange, webhook_id: str) -> web.Response:
        await self._store.webhooks.delete(self._find(webhook_id))
        return web.Response(status=204)

    def _find(self, webhook_id: str) -> Webhook:
        webhook = self._store.webhooks.get(webhook_id)
        if webhook is None:
            raise Problem("resource-not-found", name="webhookId")
        return webhook


def _webhook_view(webhook: Webhook) -> dict[str, object]:
    return {
        "webhookId": webhook.webhook_id,
        "createdAt": format_time(webhook.created_s),
        "events": webhook.events,
        "url": webhook.url,
        "signatureSecret": webhook.secret,
    }
