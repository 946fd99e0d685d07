"""The page's events: each tells what has changed since the last one that this page has got.

There is no queue. An event is made when the page's connection takes one, from the state as it is then: a slow
reader gets fewer, larger steps, and costs no memory.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    from ._board import Board, Sections
    from ._records import Bell

INTERVAL_SECONDS: Final = 0.1
# Also what tells a page that it is still connected, and us that a page has gone.
HEARTBEAT_SECONDS: Final = 1.0
# Making an event takes this part of the event loop's time at most, however many videos there are.
_SHARE: Final = 0.05


class Feed:
    """Sends a board's changes to any number of pages; they share what is made."""

    def __init__(self, board: Board, bell: Bell, *, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._board = board
        self._bell = bell
        self._interval_s = interval_seconds
        self._sections: Sections = {}
        self._next_s = 0.0  # the sections are good until then
        self._rings = -1  # what had changed when they were made

    async def send(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer with server-sent events, until the page goes or the emulator stops."""
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await answer.prepare(request)
        known: Sections = {}
        while request.method != "HEAD":
            sections = self._latest()
            await answer.write(_event(known, sections))
            known = sections
            await self._changed()
        await answer.write_eof()
        return answer

    def _latest(self) -> Sections:
        started_s = _now()
        if started_s >= self._next_s:
            self._rings = self._bell.rings
            self._sections = self._board.sections()
            self._next_s = started_s + max(self._interval_s, (_now() - started_s) / _SHARE)
        return self._sections

    async def _changed(self) -> None:
        """Wait until there is something new to tell, and it may be told."""
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                await self._bell.wait_until(lambda: self._board.is_behind or self._bell.rings != self._rings)
        except TimeoutError:
            pass
        await asyncio.sleep(self._next_s - _now())


def _event(known: Sections, sections: Sections) -> bytes:
    changed = {name: msgspec.Raw(json) for name, json in sections.items() if known.get(name) != json}
    gone = [name for name in known if name not in sections]
    return b"data: " + msgspec.json.encode({"now": _now(), "changed": changed, "gone": gone}) + b"\n\n"


def _now() -> float:
    return asyncio.get_running_loop().time()
