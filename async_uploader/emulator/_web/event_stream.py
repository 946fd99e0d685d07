"""Server-sent events for the page: each contains the changes since the previous event on that connection.

There is no queue. An event is made when a connection can send it, from the current state. A slow reader gets fewer
and larger events, and costs no memory.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    from async_uploader.emulator._notifier import ChangeNotifier

    from .state import PageState, Sections

INTERVAL_SECONDS: Final = 0.1
# Shows the page that it is still connected, and shows us when a page has disconnected.
HEARTBEAT_SECONDS: Final = 1.0
# Making events uses at most this share of the event loop's time, however many videos there are.
_MAX_LOAD: Final = 0.05


class EventStream:
    """Sends the changes of the state to any number of pages, which share the encoded sections."""

    def __init__(
        self, state: PageState, notifier: ChangeNotifier, *, interval_seconds: float = INTERVAL_SECONDS
    ) -> None:
        self._state = state
        self._notifier = notifier
        self._interval_s = interval_seconds
        self._sections: Sections = {}
        self._version = -1  # the version of the state that the sections show
        self._refresh_at = 0.0

    async def send(self, request: web.BaseRequest) -> web.StreamResponse:
        """Respond with server-sent events, until the page disconnects or the emulator stops."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        sent: Sections = {}
        while request.method != "HEAD":
            sections = self._latest()
            await response.write(_event(sent, sections))
            sent = sections
            await self._wait_for_change()
        await response.write_eof()
        return response

    def _latest(self) -> Sections:
        started_s = _now()
        if started_s >= self._refresh_at:
            self._version = self._notifier.version
            self._sections = self._state.sections()
            self._refresh_at = started_s + max(self._interval_s, (_now() - started_s) / _MAX_LOAD)
        return self._sections

    async def _wait_for_change(self) -> None:
        """Wait for a change or a heartbeat, and until the interval has passed."""
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                await self._notifier.wait_until(
                    lambda: self._state.is_incomplete or self._notifier.version != self._version
                )
        except TimeoutError:
            pass
        await asyncio.sleep(self._refresh_at - _now())


def _event(sent: Sections, sections: Sections) -> bytes:
    changed = {name: msgspec.Raw(json) for name, json in sections.items() if sent.get(name) != json}
    removed = [name for name in sent if name not in sections]
    return b"data: " + msgspec.json.encode({"now": _now(), "changed": changed, "removed": removed}) + b"\n\n"


def _now() -> float:
    return asyncio.get_running_loop().time()
