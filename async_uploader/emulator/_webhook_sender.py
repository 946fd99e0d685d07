"""Posts the events of videos to webhooks, signed and with retries, and keeps a log of the deliveries.

The headers and payloads are those of the service's OpenAPI file (`x-webhooks`). The retries are those of its
guide: a delivery fails without a response, or with a status above 299. It is then repeated three times, every
three seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import msgspec

from ._api.views import HLS_QUALITY, format_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._storage.entities import Webhook
    from ._storage.store import Store
    from ._storage.video import Video

MAX_RETRIES: Final = 3
RETRY_SECONDS: Final = 3.0
TIMEOUT_SECONDS: Final = 10.0
MAX_DELIVERIES: Final = 1_000
COMPLETED: Final = "video.encoding.quality.completed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One attempt to deliver an event.

    `status` is None without a response, and `error` then says why. `attempt` counts from 1. `payload` is the body,
    and `signature` its HMAC-SHA256 with the webhook's secret.
    """

    webhook_id: str
    event: str
    video_id: str
    url: str
    attempt: int
    status: int | None
    error: str | None
    payload: dict[str, Any]
    signature: str
    seconds: float

    @property
    def is_successful(self) -> bool:
        return self.status is not None and self.status < 300


class WebhookSender:
    """Delivers events in the background. `deliveries` has the latest attempts, oldest first."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.deliveries: deque[Delivery] = deque(maxlen=MAX_DELIVERIES)
        self._on_change = on_change

    def video_finished(self, store: Store, video: Video) -> None:
        """Tell all webhooks that subscribed to it that a video is encoded."""
        event = {
            "type": COMPLETED,
            "emittedAt": format_time(store.clock.now()),
            "videoId": video.container.video_id,
            "encoding": "hls",
            "quality": HLS_QUALITY,
        }
        for webhook in store.webhooks:
            if COMPLETED in webhook.events:
                store.workers.start_background(self._deliver(store, webhook, event))

    async def _deliver(self, store: Store, webhook: Webhook, event: dict[str, Any]) -> None:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for attempt in range(1, MAX_RETRIES + 2):
                if store.webhooks.get(webhook.webhook_id) is None:
                    return
                delivery = await _attempt(session, webhook, event, attempt)
                self.deliveries.append(delivery)
                self._on_change()
                if delivery.is_successful or attempt > MAX_RETRIES:
                    return
                await asyncio.sleep(RETRY_SECONDS)


async def _attempt(
    session: aiohttp.ClientSession, webhook: Webhook, event: dict[str, Any], attempt: int
) -> Delivery:
    body = msgspec.json.encode(event)
    signature = hmac.new(webhook.secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json",
        "X-Api-Video-WebhookID": webhook.webhook_id,
        "X-Api-Video-Signature": signature,
    }
    started_s = asyncio.get_running_loop().time()
    status = error = None
    try:
        async with session.post(webhook.url, data=body, headers=headers, allow_redirects=False) as response:
            status = response.status
    except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as failure:
        error = str(failure) or type(failure).__name__
    return Delivery(
        webhook_id=webhook.webhook_id,
        event=event["type"],
        video_id=event["videoId"],
        url=webhook.url,
        attempt=attempt,
        status=status,
        error=error,
        payload=event,
        signature=signature,
        seconds=round(asyncio.get_running_loop().time() - started_s, 6),
    )
