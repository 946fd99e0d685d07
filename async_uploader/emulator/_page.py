"""What a browser gets: the page, its events, and the videos' assets.

All this stands beside the service: it needs no key, and is neither limited, slowed down, faulted nor counted.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

from ._exchange import problem_answer
from ._media import send_source
from ._problems import Problem
from ._thumbnail import PLACEHOLDER, Thumbnails

if TYPE_CHECKING:
    from ._assets import Assets
    from ._feed import Feed
    from ._store import Store, Video

Answering = Callable[[web.BaseRequest, re.Match[str]], Awaitable[web.StreamResponse]]

# No name here can be one of the service's, whose URLs begin with what they are about.
PREFIX: Final = "/_emulator"
_FILES: Final = Path(__file__).with_name("page")
_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; connect-src 'self'; " + "; ".join(
    f"{kind}-src 'self'" for kind in ("script", "style", "img", "media")
)


def is_page(request: web.BaseRequest) -> bool:
    """Whether a request is for the page or what belongs to it, and not for the service or a video's assets."""
    return request.path in ("/", PREFIX) or request.path.startswith(f"{PREFIX}/")


class Page:
    """Answers the requests that are not the service's."""

    def __init__(self, store: Store, assets: Assets, feed: Feed) -> None:
        self._store = store
        self._assets = assets
        self._feed = feed
        self._thumbnails = Thumbnails()
        table: dict[str, Answering] = {
            "/": self._index,
            f"{PREFIX}/(?P<file>[a-z]+\\.(?:css|js|svg))": self._file,
            f"{PREFIX}/events": self._events,
            f"{PREFIX}/videos/(?P<id>[^/]+)/source": self._any_source,
            f"{PREFIX}/videos/(?P<id>[^/]+)/thumbnail": self._any_thumbnail,
            "/embed/vod/(?P<id>[^/]+)": self._player,
            "/vod/(?P<id>[^/]+)(?:/token/(?P<token>[^/]+))?/mp4/source\\.mp4": self._mp4,
            "/vod/(?P<id>[^/]+)(?:/token/(?P<token>[^/]+))?/thumbnail\\.jpg": self._thumbnail,
        }
        self._table = [(re.compile(path), answering) for path, answering in table.items()]

    async def close(self) -> None:
        """End what it has started."""
        await self._thumbnails.close()

    def find(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse] | None:
        """The answer to a request, to be awaited; None if it is the service's."""
        if request.method in ("GET", "HEAD"):
            for path, answering in self._table:
                if match := path.fullmatch(request.path):
                    return self._answer(request, match, answering)
        return None

    async def _answer(
        self, request: web.BaseRequest, match: re.Match[str], answering: Answering
    ) -> web.StreamResponse:
        try:
            return await answering(request, match)
        except Problem as problem:
            return problem_answer(problem)
        except FileNotFoundError:  # deleted meanwhile
            return problem_answer(Problem("resource-not-found"))

    # The page

    async def _index(self, _: web.BaseRequest, __: re.Match[str]) -> web.Response:
        return await self._static("index.html", frames="'self'")

    async def _file(self, _: web.BaseRequest, match: re.Match[str]) -> web.Response:
        return await self._static(match["file"])

    async def _events(self, request: web.BaseRequest, _: re.Match[str]) -> web.StreamResponse:
        return await self._feed.send(request)

    async def _static(self, name: str, *, frames: str = "'none'", **fields: str) -> web.Response:
        text = await self._store.read_text(_FILES / name)
        for field, value in fields.items():
            text = text.replace("{" + field + "}", value)
        headers = {
            "Content-Type": f"{_TYPES[Path(name).suffix]}; charset=utf-8",
            "Content-Security-Policy": f"{_POLICY}; frame-ancestors {frames}",
            "Cache-Control": "no-cache",
            "X-Content-Type-Options": "nosniff",
        }
        return web.Response(body=text.encode(), headers=headers)

    # Videos, for whoever looks at the page

    async def _any_source(self, request: web.BaseRequest, match: re.Match[str]) -> web.StreamResponse:
        return await send_source(request, self._store, self._finished(match["id"]))

    async def _any_thumbnail(self, _: web.BaseRequest, match: re.Match[str]) -> web.Response:
        return await self._picture(self._finished(match["id"]))

    def _finished(self, video_id: str) -> Video:
        video = self._store.video(video_id)
        if not video.is_finished:
            raise Problem("resource-not-found", name="videoId")
        return video

    # Videos, by the URLs of their assets

    async def _player(self, request: web.BaseRequest, match: re.Match[str]) -> web.Response:
        video = self._assets.find(match["id"], request.query.get("token"))
        return await self._static("player.html", frames="*", id=video.container.video_id)

    async def _mp4(self, request: web.BaseRequest, match: re.Match[str]) -> web.StreamResponse:
        return await send_source(request, self._store, self._assets.find(match["id"], match["token"], mp4=True))

    async def _thumbnail(self, _: web.BaseRequest, match: re.Match[str]) -> web.Response:
        return await self._picture(self._assets.find(match["id"], match["token"]))

    async def _picture(self, video: Video) -> web.Response:
        frame = await self._thumbnails.of(video)
        headers = {"Content-Type": "image/jpeg" if frame else "image/svg+xml", "Cache-Control": "max-age=3600"}
        return web.Response(body=frame or PLACEHOLDER, headers=headers)
