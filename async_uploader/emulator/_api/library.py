"""Tags of all videos, and discarded videos."""

from __future__ import annotations

import unicodedata
from collections import Counter
from typing import TYPE_CHECKING

from async_uploader.emulator._http.responses import json_response
from async_uploader.emulator._problems import Problem

from .attributes import RESTORE, check_attributes
from .listing import detail_list, matches, sort, sort_videos
from .views import video_view

if TYPE_CHECKING:
    from aiohttp import web

    from async_uploader.emulator._http.exchange import Exchange
    from async_uploader.emulator._storage.store import Store
    from async_uploader.emulator._storage.video import Video

    from .assets import Assets
    from .listing import Lister
    from .routing import Row


class Library:
    """The endpoints of tags and discarded videos."""

    def __init__(self, store: Store, assets: Assets, lister: Lister) -> None:
        self._store = store
        self._assets = assets
        self._lister = lister

    def rows(self) -> list[Row]:
        return [
            ("tags", "GET", "/tags", self.list_tags),
            ("discarded", "GET", "/discarded/videos", self.list_discarded),
            ("discarded", "GET", "/discarded/videos/ID", self.get_discarded),
            ("discarded", "PATCH", "/discarded/videos/ID", self.restore),
        ]

    async def list_tags(self, exchange: Exchange) -> web.Response:
        """The tags that contain `value`, without regard to accents and case, and how many videos have each."""
        query = exchange.request.query
        counts = Counter(tag for video in self._store.videos.values() for tag in set(detail_list(video, "tags")))
        wanted = _fold(query.get("value", ""))
        tags = [(tag, count) for tag, count in counts.items() if wanted in _fold(tag)]
        sort(tags, query, {"value": lambda item: item[0], "videoCount": lambda item: item[1]}, default="value")
        return self._lister.page(exchange, tags, lambda item: {"value": item[0], "videoCount": item[1]})

    async def list_discarded(self, exchange: Exchange) -> web.Response:
        query = exchange.request.query
        videos = [video for video in self._store.discarded.values() if matches(video, query)]
        sort_videos(videos, query)
        return self._lister.page(exchange, videos, lambda video: video_view(video, self._assets))

    async def get_discarded(self, exchange: Exchange, video_id: str) -> web.Response:
        exchange.video_id = video_id
        return json_response(200, video_view(self._discarded(video_id), self._assets))

    async def restore(self, exchange: Exchange, video_id: str) -> web.Response:
        video = self._discarded(video_id)
        exchange.video_id = video_id
        payload = check_attributes(await exchange.json(), RESTORE)
        if "discarded" in payload:
            await self._store.restore(video)
        return json_response(200, video_view(video, self._assets))

    def _discarded(self, video_id: str) -> Video:
        video = self._store.discarded.get(video_id)
        if video is None:
            raise Problem("resource-not-found", name="videoId")
        return video


def _fold(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
