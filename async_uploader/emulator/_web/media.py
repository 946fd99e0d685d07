"""Serves a finished source, whole or by range: read in threads, and sent as fast as the client reads.

This replaces aiohttp's FileResponse, which opens and closes files in the event loop's own threads; these outlive
the emulator. The SHA-256 is also a better validator than a modification time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from async_uploader.emulator._storage.file_reader import FileReader

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from async_uploader.emulator._storage.store import Store
    from async_uploader.emulator._storage.video import Video

BLOCK_BYTES: Final = 256 * 1024
_HEAD_BYTES: Final = 512
_RANGE: Final = re.compile(r"bytes=(?=.*[0-9])([0-9]{0,20})-([0-9]{0,20})")
_QUICKTIME: Final = b"qt  "
_MAGIC: Final = {
    b"OggS": "video/ogg",
    b"FLV\x01": "video/x-flv",
    b"\x00\x00\x01\xba": "video/mpeg",
}
UNKNOWN_TYPE: Final = "application/octet-stream"


def media_type(head: bytes) -> str:
    """The media type of a file by its first bytes; `application/octet-stream` for unknown formats."""
    if head[4:8] == b"ftyp":
        return "video/quicktime" if head[8:12] == _QUICKTIME else "video/mp4"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "video/webm" if b"webm" in head[:64] else "video/x-matroska"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "video/x-msvideo"
    if head[:1] == b"G" and head[188:189] == b"G":
        return "video/mp2t"
    return _MAGIC.get(head[:4], UNKNOWN_TYPE)


@dataclass(frozen=True, slots=True)
class Extent:
    """The requested bytes of a file, from `start` to before `end`."""

    start: int
    end: int
    is_whole: bool = False


def requested_extent(request: web.BaseRequest, size_bytes: int, etag: str) -> Extent | None:
    """The bytes that Range and If-Range request; None for a range beyond the end of the file.

    A malformed range and several ranges mean the whole file, as RFC 9110 allows.
    """
    match = _RANGE.fullmatch(request.headers.get("Range", ""))
    if match is None or request.headers.get("If-Range", etag) != etag:
        return Extent(0, size_bytes, is_whole=True)
    first, last = match[1], match[2]
    if not first:  # a suffix: the last N bytes
        extent = Extent(max(size_bytes - int(last), 0), size_bytes)
    elif last and int(last) < int(first):
        return Extent(0, size_bytes, is_whole=True)
    else:
        extent = Extent(int(first), min(int(last) + 1, size_bytes) if last else size_bytes)
    return extent if extent.start < size_bytes else None


async def send_source(
    request: web.BaseRequest, store: Store, video: Video, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Respond with a finished source, with more headers if given.

    :raises FileNotFoundError: the video was deleted in the meantime
    """
    size_bytes, etag = video.container.size_bytes or 0, f'"{video.container.sha256}"'
    extent = requested_extent(request, size_bytes, etag)
    headers = {
        **(headers or {}),
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    if extent is None:
        return web.Response(status=416, headers={**headers, "Content-Range": f"bytes */{size_bytes}"})
    if request.headers.get("If-None-Match") == etag:
        return web.Response(status=304, headers=headers)
    reader = FileReader(video.source.path)
    try:
        headers["Content-Type"] = media_type(await store.read(reader, 0, _HEAD_BYTES))
        if not extent.is_whole:
            headers["Content-Range"] = f"bytes {extent.start}-{extent.end - 1}/{size_bytes}"
        response = web.StreamResponse(status=200 if extent.is_whole else 206, headers=headers)
        await _send_extent(request, store, reader, extent, response)
    finally:
        store.close_reader(reader)
    return response


async def send_file(
    request: web.BaseRequest, store: Store, path: Path, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Respond with a whole file.

    :raises FileNotFoundError: there is no such file
    """
    size_bytes = (await store.workers.run_body(path.stat)).st_size
    reader = FileReader(path)
    response = web.StreamResponse(headers=headers)
    try:
        await _send_extent(request, store, reader, Extent(0, size_bytes, is_whole=True), response)
    finally:
        store.close_reader(reader)
    return response


async def _send_extent(
    request: web.BaseRequest, store: Store, reader: FileReader, extent: Extent, response: web.StreamResponse
) -> None:
    response.content_length = extent.end - extent.start
    await response.prepare(request)
    position = extent.end if request.method == "HEAD" else extent.start
    while position < extent.end:
        block = await store.read(reader, position, min(BLOCK_BYTES, extent.end - position))
        await response.write(block)
        position += len(block)
    await response.write_eof()
