"""A finished source as an answer: the whole of it or a range, read in threads and sent at the client's pace.

Not aiohttp's FileResponse: its files are opened and closed by the event loop's own threads, which outlive the
emulator; and the SHA-256 that is known makes a better validator than a modification time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from ._reader import Reader

if TYPE_CHECKING:
    from ._store import Store, Video

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
    """What a file is, by its first bytes; `application/octet-stream` for what is no video known here."""
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
    """The bytes of the file that are asked for."""

    start: int
    end: int
    is_whole: bool = False


def extent(request: web.BaseRequest, size_bytes: int, etag: str) -> Extent | None:
    """What a request's Range and If-Range ask for; None for a range beyond the file.

    What cannot be understood, and several ranges at once, mean the whole file, as RFC 9110 allows.
    """
    match = _RANGE.fullmatch(request.headers.get("Range", ""))
    if match is None or request.headers.get("If-Range", etag) != etag:
        return Extent(0, size_bytes, is_whole=True)
    first, last = match[1], match[2]
    if not first:  # the last so many bytes
        wanted = Extent(max(size_bytes - int(last), 0), size_bytes)
    elif last and int(last) < int(first):
        return Extent(0, size_bytes, is_whole=True)
    else:
        wanted = Extent(int(first), min(int(last) + 1, size_bytes) if last else size_bytes)
    return wanted if wanted.start < size_bytes else None


async def send_source(request: web.BaseRequest, store: Store, video: Video) -> web.StreamResponse:
    """Answer with a finished source.

    :raises FileNotFoundError: the video was deleted meanwhile
    """
    size_bytes, etag = video.container.size_bytes or 0, f'"{video.container.sha256}"'
    wanted = extent(request, size_bytes, etag)
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    if wanted is None:
        return web.Response(status=416, headers={**headers, "Content-Range": f"bytes */{size_bytes}"})
    if request.headers.get("If-None-Match") == etag:
        return web.Response(status=304, headers=headers)
    reader = Reader(video.source.path)
    try:
        headers["Content-Type"] = media_type(await store.read(reader, 0, _HEAD_BYTES))
        if not wanted.is_whole:
            headers["Content-Range"] = f"bytes {wanted.start}-{wanted.end - 1}/{size_bytes}"
        answer = web.StreamResponse(status=200 if wanted.is_whole else 206, headers=headers)
        answer.content_length = wanted.end - wanted.start
        await answer.prepare(request)
        position = wanted.end if request.method == "HEAD" else wanted.start
        while position < wanted.end:
            block = await store.read(reader, position, min(BLOCK_BYTES, wanted.end - position))
            await answer.write(block)
            position += len(block)
        await answer.write_eof()
    finally:
        store.release(reader)
    return answer
