"""Thumbnails of videos, and watermarks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from aiohttp import web

from async_uploader.emulator._http.responses import json_response
from async_uploader.emulator._problems import Problem
from async_uploader.emulator._storage.entities import Watermark
from async_uploader.emulator._storage.ids import new_id

from .attributes import TIMECODE, check_attributes
from .listing import sort
from .small_files import receive_file
from .views import format_time, video_view

if TYPE_CHECKING:
    from async_uploader.emulator._http.exchange import Exchange
    from async_uploader.emulator._storage.store import Store

    from .assets import Assets
    from .listing import Lister
    from .routing import Row

MAX_PICTURE_BYTES: Final = 8 << 20  # of thumbnails, as in the service's OpenAPI file; of watermarks, too
FRAMES_A_SECOND: Final = 25  # of timecodes that count frames
_TIMECODE: Final = re.compile(r"([0-9]{2,3}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,3})|:([0-9]{1,2}))?")


class Pictures:
    """The endpoints of thumbnails and watermarks."""

    def __init__(self, store: Store, assets: Assets, lister: Lister) -> None:
        self._store = store
        self._assets = assets
        self._lister = lister

    def rows(self) -> list[Row]:
        return [
            ("thumbnail", "POST", "/videos/ID/thumbnail", self.upload_thumbnail),
            ("thumbnail", "PATCH", "/videos/ID/thumbnail", self.pick_thumbnail),
            ("watermarks", "GET", "/watermarks", self.list_watermarks),
            ("watermarks", "POST", "/watermarks", self.upload_watermark),
            ("watermarks", "DELETE", "/watermarks/ID", self.delete_watermark),
        ]

    async def upload_thumbnail(self, exchange: Exchange, video_id: str) -> web.Response:
        video = self._store.video(video_id)
        exchange.video_id = video_id
        picture = await receive_file(exchange, max_bytes=MAX_PICTURE_BYTES)
        media_type = _check_picture(picture, "image/jpeg", "image/png", "image/webp")
        await self._store.write_file(video.thumbnail_path, picture)
        video.container.thumbnail = media_type
        await self._store.save(video)
        return json_response(200, video_view(video, self._assets))

    async def pick_thumbnail(self, exchange: Exchange, video_id: str) -> web.Response:
        """Use a frame of the video, which may not be uploaded yet. An uploaded picture is no longer used."""
        video = self._store.video(video_id)
        exchange.video_id = video_id
        payload = check_attributes(await exchange.json(), TIMECODE, required=("timecode",))
        video.container.thumbnail = None
        video.container.thumbnail_s = parse_timecode(str(payload["timecode"]))
        await self._store.save(video)
        return json_response(200, video_view(video, self._assets))

    async def list_watermarks(self, exchange: Exchange) -> web.Response:
        watermarks = list(self._store.watermarks)
        sort(watermarks, exchange.request.query, {"createdAt": lambda watermark: watermark.created_s})
        return self._lister.page(exchange, watermarks, _watermark_view)

    async def upload_watermark(self, exchange: Exchange) -> web.Response:
        picture = await receive_file(exchange, max_bytes=MAX_PICTURE_BYTES)
        media_type = _check_picture(picture, "image/jpeg", "image/png")
        watermark = Watermark(new_id("watermark_"), self._store.clock.now(), media_type, len(picture))
        await self._store.watermarks.add(watermark)
        return json_response(200, _watermark_view(watermark))

    async def delete_watermark(self, _: Exchange, watermark_id: str) -> web.Response:
        watermark = self._store.watermarks.get(watermark_id)
        if watermark is None:
            raise Problem("resource-not-found", name="watermarkId")
        await self._store.watermarks.delete(watermark)
        return web.Response(status=204)


def parse_timecode(text: str) -> float:
    """The seconds of `hh:mm:ss`, with `.ms` or `:frame`, or of a number of seconds; `TIMECODE` has checked it."""
    match = _TIMECODE.fullmatch(text)
    if match is None:
        return float(text)
    hours, minutes, seconds = (int(number) for number in match.group(1, 2, 3))
    fraction = float(f"0.{match[4]}") if match[4] else int(match[5] or 0) / FRAMES_A_SECOND
    return hours * 3600 + minutes * 60 + seconds + fraction


def _check_picture(content: bytes, *allowed: str) -> str:
    """The media type of a picture by its first bytes.

    :raises Problem: it is none of the allowed ones
    """
    media_type = None
    if content.startswith(b"\xff\xd8\xff"):
        media_type = "image/jpeg"
    elif content.startswith(b"\x89PNG\r\n\x1a\n"):
        media_type = "image/png"
    elif content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        media_type = "image/webp"
    if media_type not in allowed:
        detail = f"The file must be one of {', '.join(allowed)}."
        raise Problem("uploaded-file-invalid-file", name="file", detail=detail)
    return media_type


def _watermark_view(watermark: Watermark) -> dict[str, object]:
    return {"watermarkId": watermark.watermark_id, "createdAt": format_time(watermark.created_s)}
