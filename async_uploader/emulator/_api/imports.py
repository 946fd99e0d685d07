"""Sources that the emulator fetches: a clone of another video, or a download from a URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import aiohttp

from async_uploader._limits import MAX_VIDEO_BYTES
from async_uploader.emulator._problems import Problem
from async_uploader.emulator._rules import WholeFile
from async_uploader.emulator._storage.video import VIDEO_ID

from .receiving import BATCH_BYTES

if TYPE_CHECKING:
    from async_uploader.emulator._storage.store import Store
    from async_uploader.emulator._storage.video import Video

STALL_SECONDS: Final = 30.0


def find_original(store: Store, source: str) -> Video | None:
    """The video to clone; None if `source` is a URL to download.

    :raises Problem: `source` is neither
    """
    if VIDEO_ID.fullmatch(source):
        original = store.videos.get(source)
        if original is None or original.has_failed or not original.upload.is_complete:
            raise Problem("invalid-attribute", name="source", detail="There is no uploaded video with this id.")
        return original
    try:
        parts = urlsplit(source)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_url = False
    if not is_url:
        raise Problem("invalid-attribute", name="source", detail="The source must be an http(s) URL or a videoId.")
    return None


def start_download(store: Store, video: Video) -> None:
    """Download a container's source in the background."""
    store.workers.start_background(_download(store, video))


async def clone(store: Store, original: Video, video: Video) -> None:
    """Copy the source of another video, in the background if its parts are still being joined.

    If the copy fails, so does the video.
    """
    if original.is_finished:
        await _copy(store, original, video)
    else:
        store.workers.start_background(_copy(store, original, video))


async def _copy(store: Store, original: Video, video: Video) -> None:
    await store.joiner.wait_until_joined(original)
    if not (original.is_finished and await store.parts.copy_source(original, video)):
        await store.mark_failed(video)


async def _download(store: Store, video: Video) -> None:
    """Download the source. If this fails, the status shows a failed encoding."""
    try:
        await _fetch(store, video, str(video.container.details["source"]))
    except (aiohttp.ClientError, TimeoutError, ValueError, OSError, Problem):
        await store.mark_failed(video)


async def _fetch(store: Store, video: Video, url: str) -> None:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=STALL_SECONDS, sock_read=STALL_SECONDS)
    file = store.parts.create_file()
    size_bytes = 0
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session,
            session.get(url) as response,
        ):
            async for block in response.content.iter_chunked(BATCH_BYTES):
                size_bytes += len(block)
                await store.parts.write(file, [block])
                if size_bytes > MAX_VIDEO_BYTES:
                    raise ValueError("The file at the URL is too large.")
        if size_bytes == 0:
            raise ValueError("The file at the URL is empty.")
        storing = store.parts.add_unchecked(video, WholeFile(), file, size_bytes)
    except BaseException:
        store.parts.discard(file)
        raise
    await storing


def check_not_imported(video: Video) -> None:
    """Refuse uploads to a container with an imported source, also during the import.

    :raises Problem: the container has one
    """
    if video.container.origin == "copy":
        raise Problem("video-source-already-copied")
    if video.container.origin == "download":
        raise Problem("video-source-already-downloaded")


async def resume_imports(store: Store) -> None:
    """Restart the downloads and copies that were interrupted when the emulator stopped."""
    for video in list(store.videos.values()):
        if video.state == "importing" and not video.upload.stored_count:
            original = store.videos.get(str(video.container.details["source"]))
            if video.container.origin == "download":
                start_download(store, video)
            elif original is None:
                await store.mark_failed(video)
            else:
                store.workers.start_background(_copy(store, original, video))
