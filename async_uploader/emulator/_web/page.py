"""Serves browsers: the page, its events, and the assets of videos.

These requests need no key. Rate limits, throttling, faults and statistics do not apply to them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

from async_uploader.emulator._http.cors import ALLOW_ORIGIN
from async_uploader.emulator._http.responses import problem_response
from async_uploader.emulator._problems import Problem

from .asset_pages import AssetPages
from .media import send_source

if TYPE_CHECKING:
    from async_uploader.emulator._api.assets import Assets
    from async_uploader.emulator._storage.store import Store
    from async_uploader.emulator._storage.video import Video

    from .event_stream import EventStream

Handler = Callable[[web.BaseRequest, re.Match[str]], Awaitable[web.StreamResponse]]

# No URL of the service starts with an underscore.
PREFIX: Final = "/_emulator"
FILES: Final = Path(__file__).parents[1] / "page"
_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; connect-src 'self'; " + "; ".join(
    f"{kind}-src 'self'" for kind in ("script", "style", "img", "media")
)


def is_page(request: web.BaseRequest) -> bool:
    """Whether a request is for the page or its files, and not for the service or a video's assets."""
    return request.path in ("/", PREFIX) or request.path.startswith(f"{PREFIX}/")


class Page:
    """Serves the requests that are not for the service."""

    def __init__(self, store: Store, assets: Assets, events: EventStream) -> None:
        self._store = store
        self._assets = assets
        self._event_stream = events
        self._asset_pages = AssetPages(store, assets, self._static)
        table: dict[str, Handler] = {
            "/": self._index,
            f"{PREFIX}/(?P<file>[a-z]+\\.(?:css|js|svg))": self._file,
            f"{PREFIX}/events": self._events,
            f"{PREFIX}/videos/(?P<id>[^/]+)/source": self._page_source,
            f"{PREFIX}/videos/(?P<id>[^/]+)/thumbnail": self._page_thumbnail,
            f"{PREFIX}/videos/(?P<id>[^/]+)/(?P<kind>captions|chapters)/(?P<language>[^/]+)": self._page_track,
        }
        table |= self._asset_pages.table()
        self._table = [(re.compile(path), handler) for path, handler in table.items()]

    async def close(self) -> None:
        """Stop making thumbnails and HLS."""
        await self._asset_pages.close()

    def find(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse] | None:
        """An awaitable for the response; None if the request is for the service."""
        if request.method in ("GET", "HEAD"):
            for path, handler in self._table:
                if match := path.fullmatch(request.path):
                    return self._respond(request, match, handler)
        return None

    async def _respond(
        self, request: web.BaseRequest, match: re.Match[str], handler: Handler
    ) -> web.StreamResponse:
        try:
            response = await handler(request, match)
        except Problem as problem:
            response = problem_response(problem)
        except FileNotFoundError:  # deleted in the meantime
            response = problem_response(Problem("resource-not-found"))
        if not (is_page(request) or response.prepared):
            response.headers.update(ALLOW_ORIGIN)
        return response

    # The page

    async def _index(self, _: web.BaseRequest, __: re.Match[str]) -> web.Response:
        return await self._static("index.html", frames="'self'")

    async def _file(self, _: web.BaseRequest, match: re.Match[str]) -> web.Response:
        return await self._static(match["file"])

    async def _events(self, request: web.BaseRequest, _: re.Match[str]) -> web.StreamResponse:
        return await self._event_stream.send(request)

    async def _static(self, name: str, *, frames: str = "'none'", **fields: str) -> web.Response:
        text = await self._store.read_text(FILES / name)
        for field, value in fields.items():
            text = text.replace("{" + field + "}", value)
        headers = {
            "Content-Type": f"{_TYPES[Path(name).suffix]}; charset=utf-8",
            "Content-Security-Policy": f"{_POLICY}; frame-ancestors {frames}",
            "Cache-Control": "no-cache",
            "X-Content-Type-Options": "nosniff",
        }
        return web.Response(body=text.encode(), headers=headers)

    # Videos on the page, private ones included

    async def _page_source(self, request: web.BaseRequest, match: re.Match[str]) -> web.StreamResponse:
        return await send_source(request, self._store, await self._finished(match["id"]))

    async def _page_thumbnail(self, _: web.BaseRequest, match: re.Match[str]) -> web.Response:
        return await self._asset_pages.thumbnail_of(self._store.video(match["id"]))

    async def _page_track(self, request: web.BaseRequest, match: re.Match[str]) -> web.StreamResponse:
        video = self._store.video(match["id"])
        return await self._asset_pages.send_track(request, video, match["kind"], match["language"])

    async def _finished(self, video_id: str) -> Video:
        return await self._assets.finished(self._store.video(video_id))
