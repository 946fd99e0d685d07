"""The official Python client works with the emulator."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apivideo
import pytest
from apivideo.api.captions_api import CaptionsApi
from apivideo.api.chapters_api import ChaptersApi
from apivideo.api.upload_tokens_api import UploadTokensApi
from apivideo.api.videos_api import VideosApi
from apivideo.api.watermarks_api import WatermarksApi
from apivideo.api.webhooks_api import WebhooksApi

from async_uploader.emulator import Emulator

from .conftest import PART, content

pytestmark = pytest.mark.anyio

SIZES = [PART, PART + 1, 1000]


class Client(apivideo.AuthenticatedApiClient):  # type: ignore[misc]
    """The official client, configured for the emulator instead of its two hosts."""

    def __init__(self, url: str) -> None:
        super().__init__("local-key")
        self.configuration.host = url
        self.connect()


async def with_client(emulator: Emulator, work: Callable[[Client], Any]) -> Any:
    """Run blocking calls of the client in a thread."""

    def run() -> Any:
        client = Client(emulator.url)
        try:
            return work(client)
        finally:
            client.rest_client.pool_manager.clear()
            client.close()

    return await asyncio.to_thread(run)


@pytest.fixture
def part_files(tmp_path: Path) -> list[Path]:
    """A video as one file per part."""
    paths = []
    for number, size in enumerate(SIZES):
        paths.append(tmp_path / f"part-{number}.mp4")
        paths[-1].write_bytes(content(size, number))
    return paths


WHOLE = b"".join(content(size, number) for number, size in enumerate(SIZES))


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    """The same video as one file."""
    path = tmp_path / "movie.mp4"
    path.write_bytes(WHOLE)
    return path


async def _check(emulator: Emulator, video: Any) -> None:
    assert video.assets.player.startswith(emulator.url)
    view = await emulator.finished(video.video_id)
    assert view.sha256 == hashlib.sha256(WHOLE).hexdigest()
    assert {request.status for request in emulator.requests} <= {200, 201}


async def test_whole_file(emulator: Emulator, movie: Path) -> None:
    """A file is uploaded in one request, and in the client's chunks."""
    for chunk_size in (50 * PART, PART):

        def work(client: Client, chunk_size: int = chunk_size) -> Any:
            client.configuration.chunk_size = chunk_size
            videos = VideosApi(client)
            video = videos.create({"title": "Movie", "tags": ["a"], "metadata": [{"key": "k", "value": "v"}]})
            with movie.open("rb") as file:
                return videos.upload(video.video_id, file)

        await _check(emulator, await with_client(emulator, work))


async def test_progressive_session(emulator: Emulator, part_files: list[Path]) -> None:
    """Parts are uploaded one by one, with the last one marked."""

    def work(client: Client) -> Any:
        videos = VideosApi(client)
        video = videos.create({"title": "Parts"})
        return _send(videos.create_upload_progressive_session(video.video_id), part_files)

    await _check(emulator, await with_client(emulator, work))


async def test_upload_token(emulator: Emulator, movie: Path, part_files: list[Path]) -> None:
    """An upload token allows whole and progressive uploads."""

    def token(client: Client) -> str:
        return str(UploadTokensApi(client).create_token({"ttl": 60}).token)

    def whole(client: Client) -> Any:
        with movie.open("rb") as file:
            return VideosApi(client).upload_with_upload_token(token(client), file)

    def progressive(client: Client) -> Any:
        videos = VideosApi(client)
        video = videos.create({"title": "Delegated"})
        session = videos.create_upload_with_upload_token_progressive_session(token(client), video.video_id)
        return _send(session, part_files)

    await _check(emulator, await with_client(emulator, whole))
    await _check(emulator, await with_client(emulator, progressive))


async def test_reading(emulator: Emulator) -> None:
    """The client's models accept the emulator's responses."""

    def work(client: Client) -> Any:
        videos = VideosApi(client)
        video = videos.create({"title": "Read me", "tags": ["a", "b"], "metadata": [{"key": "k", "value": "v"}]})
        videos.update(video.video_id, {"description": "changed"})
        status = videos.get_status(video.video_id)
        listed = videos.list(tags=["a"], metadata={"k": "v"})
        videos.delete(video.video_id)
        return status, listed

    status, listed = await with_client(emulator, work)
    assert status.ingest.status == "uploading"
    assert [video.description for video in listed.data] == ["changed"]
    assert len(emulator.videos) == 0


async def test_captions_and_chapters(emulator: Emulator, tmp_path: Path) -> None:
    """Uploaded, read, changed, listed and deleted."""
    path = tmp_path / "en.vtt"
    path.write_text("WEBVTT\n")

    def work(client: Client) -> Any:
        video_id = VideosApi(client).create({"title": "Tracks"}).video_id
        captions, chapters = CaptionsApi(client), ChaptersApi(client)
        with path.open("rb") as file:
            caption = captions.upload(video_id, "en", file)
        with path.open("rb") as file:
            chapter = chapters.upload(video_id, "fr", file)
        captions.update(video_id, "en", {"default": True})
        listed = captions.list(video_id), chapters.list(video_id)
        captions.delete(video_id, "en")
        chapters.delete(video_id, "fr")
        return caption, chapter, *listed

    caption, chapter, captions, chapters = await with_client(emulator, work)
    assert (caption.srclang, caption.language_name) == ("en", "English")
    assert [each.default for each in captions.data] == [True]
    assert [each.src for each in chapters.data] == [chapter.src]


async def test_pictures(emulator: Emulator, tmp_path: Path) -> None:
    """Thumbnails and watermarks."""
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")

    def work(client: Client) -> Any:
        videos, watermarks = VideosApi(client), WatermarksApi(client)
        video_id = videos.create({"title": "Pictures"}).video_id
        with path.open("rb") as file:
            videos.upload_thumbnail(video_id, file)
        video = videos.pick_thumbnail(video_id, {"timecode": "00:00:01.000"})
        with path.open("rb") as file:
            watermark = watermarks.upload(file)
        listed = watermarks.list()
        watermarks.delete(watermark.watermark_id)
        return video, watermark, listed

    video, watermark, listed = await with_client(emulator, work)
    assert video.title == "Pictures"
    assert [each.watermark_id for each in listed.data] == [watermark.watermark_id]


async def test_webhooks(emulator: Emulator) -> None:
    """Registered, read, listed and deleted."""

    def work(client: Client) -> Any:
        webhooks = WebhooksApi(client)
        created = webhooks.create({"events": ["video.encoding.quality.completed"], "url": "http://127.0.0.1:1/"})
        found = webhooks.get(created.webhook_id)
        listed = webhooks.list(events="video.encoding.quality.completed")
        webhooks.delete(created.webhook_id)
        return created, found, listed

    created, found, listed = await with_client(emulator, work)
    assert created.signature_secret == found.signature_secret
    assert [each.webhook_id for each in listed.data] == [created.webhook_id]


def _send(session: Any, part_files: list[Path]) -> Any:
    for path in part_files[:-1]:
        with path.open("rb") as file:
            session.uploadPart(file)
    with part_files[-1].open("rb") as file:
        return session.uploadLastPart(file)
