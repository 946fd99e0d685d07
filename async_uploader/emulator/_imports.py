"""Sources that the service fetches itself: a copy of another video, or a download from a URL."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import aiohttp

from async_uploader._limits import MAX_VIDEO_BYTES

from ._problems import Problem
from ._rules import Whole
from ._store import VIDEO_ID, Store, Video
from ._uploads import BATCH_BYTES

STALL_SECONDS: Final = 30.0


def original_of(store: Store, source: str) -> Video | None:
    """The video that `source` asks to clone; None if it is a URL to download."""
    if VIDEO_ID.fullmatch(source):
        original = store.videos.get(source)
        if original is None or not original.is_finished:
            raise Problem("invalid-attribute", name="source", detail="There is no finished video with this id.")
        return original
    try:
        parts = urlsplit(source)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_url = False
    if not is_url:
        raise Problem("invalid-attribute", name="source", detail="Neither an http(s) URL nor a videoId.")
    return None


async def download(store: Store, video: Video) -> None:
    """Fetch the container's URL into its source; what goes wrong is told by the status, as a failed encoding."""
    try:
        await _download(store, video, str(video.container.details["source"]))
    except (aiohttp.ClientError, TimeoutError, ValueError, OSError, Problem):
        await store.fail(video)


async def _download(store: Store, video: Video, url: str) -> None:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=STALL_SECONDS, sock_read=STALL_SECONDS)
    spool = store.spool()
    size_bytes = 0
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session,
            session.get(url) as answer,
        ):
            async for block in answer.content.iter_chunked(BATCH_BYTES):
                size_bytes += len(block)
                await store.write(spool, [block])
                if size_bytes > MAX_VIDEO_BYTES:
                    raise ValueError("The URL gives a file that is too large.")
        if size_bytes == 0:
            raise ValueError("The URL gave an empty file.")
        landing = store.keep(video, Whole(), spool, size_bytes)
    except BaseException:
        store.discard(spool)
        raise
    await landing


def refuse_upload(video: Video) -> None:
    """A container with an imported source takes no upload, also while the import still runs."""
    if video.container.origin == "copy":
        raise Problem("video-source-already-copied")
    if video.container.origin == "download":
        raise Problem("video-source-already-downloaded")


async def resume(store: Store) -> None:
    """Go on with the imports that a stop has interrupted."""
    for video in list(store.videos.values()):
        if video.state == "importing" and not video.upload.landed_pieces:
            if video.container.origin == "download":
                store.in_background(download(store, video))
            else:
                await store.fail(video)
