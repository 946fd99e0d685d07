"""Captions and chapters: WebVTT files of a video, one for each language."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

from aiohttp import web

from async_uploader.emulator._http.responses import json_response
from async_uploader.emulator._problems import Problem

from .attributes import CAPTION, check_attributes
from .languages import check_language, language_name
from .small_files import receive_file

if TYPE_CHECKING:
    from async_uploader.emulator._http.exchange import Exchange
    from async_uploader.emulator._storage.store import Store
    from async_uploader.emulator._storage.video import Video

    from .assets import Assets
    from .listing import Lister
    from .routing import Row

Kind = Literal["captions", "chapters"]

MAX_TRACK_BYTES: Final = 10 << 20
_SRT: Final = re.compile(r"\s*[0-9]+[ \t]*\n[0-9]{1,2}:[0-9]{2}:[0-9]{2},[0-9]{3}[ \t]+-->")
_SRT_TIMES: Final = re.compile(r"^([0-9:]+),([0-9]{3})([ \t]+-->[ \t]+[0-9:]+),([0-9]{3})", re.MULTILINE)


class Tracks:
    """The endpoints of captions and chapters."""

    def __init__(self, store: Store, assets: Assets, lister: Lister) -> None:
        self._store = store
        self._assets = assets
        self._lister = lister

    def rows(self) -> list[Row]:
        return [
            ("captions", "GET", "/videos/ID/captions", self.list_captions),
            ("captions", "GET", "/videos/ID/captions/ID", self.get_caption),
            ("captions", "POST", "/videos/ID/captions/ID", self.upload_caption),
            ("captions", "PATCH", "/videos/ID/captions/ID", self.update_caption),
            ("captions", "DELETE", "/videos/ID/captions/ID", self.delete_caption),
            ("chapters", "GET", "/videos/ID/chapters", self.list_chapters),
            ("chapters", "GET", "/videos/ID/chapters/ID", self.get_chapter),
            ("chapters", "POST", "/videos/ID/chapters/ID", self.upload_chapter),
            ("chapters", "DELETE", "/videos/ID/chapters/ID", self.delete_chapter),
        ]

    # Captions

    async def list_captions(self, exchange: Exchange, video_id: str) -> web.Response:
        video = self._store.video(video_id)
        languages = sorted(video.container.captions)
        return self._lister.page(exchange, languages, lambda language: self._caption(video, language))

    async def get_caption(self, _: Exchange, video_id: str, language: str) -> web.Response:
        video = self._find(video_id, "captions", language)
        return json_response(200, self._caption(video, language))

    async def upload_caption(self, exchange: Exchange, video_id: str, language: str) -> web.Response:
        """Store a WebVTT or SRT file. It replaces an earlier one of the language."""
        video = await self._receive(exchange, video_id, "captions", language)
        video.container.captions.setdefault(language, False)
        await self._store.save(video)
        return json_response(200, self._caption(video, language))

    async def update_caption(self, exchange: Exchange, video_id: str, language: str) -> web.Response:
        """Set the default language. There is at most one."""
        video = self._find(video_id, "captions", language)
        payload = check_attributes(await exchange.json(), CAPTION)
        if "default" in payload:
            captions = video.container.captions
            if payload["default"]:
                captions.update(dict.fromkeys(captions, False))
            captions[language] = bool(payload["default"])
            await self._store.save(video)
        return json_response(200, self._caption(video, language))

    async def delete_caption(self, _: Exchange, video_id: str, language: str) -> web.Response:
        video = self._find(video_id, "captions", language)
        del video.container.captions[language]
        await self._store.save(video)
        return web.Response(status=204)

    def _caption(self, video: Video, language: str) -> dict[str, object]:
        return {
            "uri": f"/videos/{video.container.video_id}/captions/{language}",
            "src": self._assets.track_url(video, "captions", language),
            "srclang": language,
            "languageName": language_name(language),
            "default": video.container.captions[language],
        }

    # Chapters

    async def list_chapters(self, exchange: Exchange, video_id: str) -> web.Response:
        video = self._store.video(video_id)
        languages = sorted(video.container.chapters)
        return self._lister.page(exchange, languages, lambda language: self._chapter(video, language))

    async def get_chapter(self, _: Exchange, video_id: str, language: str) -> web.Response:
        video = self._find(video_id, "chapters", language)
        return json_response(200, self._chapter(video, language))

    async def upload_chapter(self, exchange: Exchange, video_id: str, language: str) -> web.Response:
        """Store a WebVTT file. It replaces an earlier one of the language."""
        video = await self._receive(exchange, video_id, "chapters", language)
        if language not in video.container.chapters:
            video.container.chapters.append(language)
        await self._store.save(video)
        return json_response(200, self._chapter(video, language))

    async def delete_chapter(self, _: Exchange, video_id: str, language: str) -> web.Response:
        video = self._find(video_id, "chapters", language)
        video.container.chapters.remove(language)
        await self._store.save(video)
        return web.Response(status=204)

    def _chapter(self, video: Video, language: str) -> dict[str, object]:
        return {
            "uri": f"/videos/{video.container.video_id}/chapters/{language}",
            "src": self._assets.track_url(video, "chapters", language),
            "language": language,
        }

    # Both

    def _find(self, video_id: str, kind: Kind, language: str) -> Video:
        """The video, if it has a track of this language.

        :raises Problem: there is no such video or track
        """
        video = self._store.video(video_id)
        check_language(language)
        if language not in getattr(video.container, kind):
            raise Problem("resource-not-found", name="language")
        return video

    async def _receive(self, exchange: Exchange, video_id: str, kind: Kind, language: str) -> Video:
        video = self._store.video(video_id)
        check_language(language)
        exchange.video_id = video_id
        text = to_vtt(await receive_file(exchange, max_bytes=MAX_TRACK_BYTES), allows_srt=kind == "captions")
        await self._store.write_file(video.track_path(kind, language), text.encode())
        return video


def to_vtt(content: bytes, *, allows_srt: bool) -> str:
    """Check a WebVTT file, or convert an SRT file to WebVTT.

    :raises Problem: the file is neither
    """
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise Problem("uploaded-file-invalid-file", name="file", detail="The file is not UTF-8.") from error
    if re.match(r"WEBVTT(?:[ \t\n]|\Z)", text):
        return text
    if allows_srt and _SRT.match(text):
        return "WEBVTT\n\n" + _SRT_TIMES.sub(r"\1.\2\3.\4", text)
    kinds = "neither WebVTT nor SRT" if allows_srt else "not WebVTT"
    raise Problem("uploaded-file-invalid-file", name="file", detail=f"The file is {kinds}.")
