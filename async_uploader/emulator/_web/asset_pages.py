"""Serves the assets of videos: the player, the source, thumbnails and HLS. Pages of every origin may use them."""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from aiohttp import web

from async_uploader.emulator._api.languages import language_name
from async_uploader.emulator._http.cors import ALLOW_ORIGIN
from async_uploader.emulator._problems import Problem

from .hls import FILE_NAME, MANIFEST, MEDIA_TYPES, HlsPackager, HlsState, directory
from .media import send_file, send_source
from .thumbnail import PLACEHOLDER, Thumbnails

if TYPE_CHECKING:
    import re

    from async_uploader.emulator._api.assets import Assets
    from async_uploader.emulator._storage.store import Store
    from async_uploader.emulator._storage.video import Video

Handler = Callable[[web.BaseRequest, "re.Match[str]"], Awaitable[web.StreamResponse]]

_NO_CACHE: Final = {"Cache-Control": "no-cache"}
_VIDEO: Final = "/vod/(?P<id>[^/]+)(?:/token/(?P<token>[^/]+))?"


class AssetPages:
    """The handlers of the URLs in `assets`.

    :param render: makes a response from a file of the page
    """

    def __init__(self, store: Store, assets: Assets, render: Callable[..., Awaitable[web.Response]]) -> None:
        self._store = store
        self._assets = assets
        self._render = render
        self._thumbnails = Thumbnails()
        self._hls = HlsPackager()

    def table(self) -> dict[str, Handler]:
        """The patterns of the URLs, and their handlers."""
        return {
            "/embed/vod/(?P<id>[^/]+)": self._player,
            f"{_VIDEO}/mp4/source\\.mp4": self._mp4,
            f"{_VIDEO}/thumbnail\\.jpg": self._thumbnail,
            f"{_VIDEO}/hls/(?P<file>[^/]+)": self._hls_file,
            f"{_VIDEO}/(?P<kind>captions|chapters)/(?P<language>[^/]+)\\.vtt": self._track,
        }

    async def close(self) -> None:
        """Stop all running ffmpegs."""
        await self._thumbnails.close()
        await self._hls.close()

    async def thumbnail_of(self, video: Video) -> web.Response:
        """The uploaded picture, a frame of the video, or a neutral picture.

        :raises Problem: there is no uploaded picture, and the video is not uploaded
        :raises FileNotFoundError: the video was deleted in the meantime
        """
        container = video.container
        if container.thumbnail is not None:
            picture = await self._store.workers.run_body(video.thumbnail_path.read_bytes)
            return web.Response(body=picture, headers={"Content-Type": container.thumbnail, **_NO_CACHE})
        await self._assets.finished(video)
        frame = await self._thumbnails.of(video, container.thumbnail_s)
        headers = {"Content-Type": "image/jpeg" if frame else "image/svg+xml", **_NO_CACHE}
        return web.Response(body=frame or PLACEHOLDER, headers=headers)

    async def _player(self, request: web.BaseRequest, match: re.Match[str]) -> web.Response:
        video = await self._assets.find_finished(match["id"], request.query.get("token"))
        return await self._render(
            "player.html", frames="*", id=video.container.video_id, tracks=self._track_elements(video)
        )

    def _track_elements(self, video: Video) -> str:
        """The captions and chapters of a video as HTML. Language tags need no escaping."""
        elements = []
        for kind, languages in (("captions", video.container.captions), ("chapters", video.container.chapters)):
            for language in sorted(languages):
                url = urlsplit(self._assets.track_url(video, kind, language)).path
                default = " default" if kind == "captions" and video.container.captions[language] else ""
                label = html.escape(language_name(language))
                elements.append(f'<track kind="{kind}" src="{url}" srclang="{language}" label="{label}"{default}>')
        return "\n".join(elements)

    async def _mp4(self, request: web.BaseRequest, match: re.Match[str]) -> web.StreamResponse:
        video = await self._assets.find_finished(match["id"], match["token"], mp4=True)
        return await send_source(request, self._store, video, ALLOW_ORIGIN)

    async def _thumbnail(self, _: web.BaseRequest, match: re.Match[str]) -> web.Response:
        return await self.thumbnail_of(self._assets.find(match["id"], match["token"]))

    async def _track(self, request: web.BaseRequest, match: re.Match[str]) -> web.StreamResponse:
        video = self._assets.find(match["id"], match["token"])
        return await self.send_track(request, video, match["kind"], match["language"])

    async def send_track(
        self, request: web.BaseRequest, video: Video, kind: str, language: str
    ) -> web.StreamResponse:
        """Respond with captions or chapters.

        :raises Problem: the video has none in this language
        """
        if language not in getattr(video.container, kind):
            raise Problem("resource-not-found", name="language")
        headers = {**ALLOW_ORIGIN, **_NO_CACHE, "Content-Type": "text/vtt; charset=utf-8"}
        return await send_file(request, self._store, video.track_path(kind, language), headers)

    async def _hls_file(self, request: web.BaseRequest, match: re.Match[str]) -> web.StreamResponse:
        """A file of the playlist; 202 without a body while the video is not ready, as on the service."""
        video, name = self._assets.find(match["id"], match["token"]), match["file"]
        if not FILE_NAME.fullmatch(name) or video.has_failed:
            raise Problem("resource-not-found", name="videoId")
        if name == MANIFEST:
            state = await self._hls.prepare(video) if video.is_finished else HlsState.PREPARING
            if state is HlsState.PREPARING:
                return web.Response(status=202)
            if state is HlsState.UNAVAILABLE:
                detail = "The emulator makes HLS with ffmpeg, which is not installed or cannot copy this video."
                raise Problem("resource-not-found", name="hls", detail=detail)
        media_type = MEDIA_TYPES[name[name.rindex(".") :]]
        headers = {**ALLOW_ORIGIN, "Content-Type": media_type, "Cache-Control": "no-cache"}
        return await send_file(request, self._store, directory(video) / name, headers)
