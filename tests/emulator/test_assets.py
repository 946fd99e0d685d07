"""The assets of videos: the player, the source by range, and thumbnails."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from blockbuster import blockbuster_ctx
from imageio_ffmpeg import get_ffmpeg_exe

from async_uploader.emulator import Emulator
from async_uploader.emulator._web.media import UNKNOWN_TYPE, media_type
from async_uploader.emulator._web.page import PREFIX

from .conftest import PART, Api, Reply, basic, content, finished, path
from .test_page import events

pytestmark = pytest.mark.anyio

SOURCE = content(100_000)


async def test_assets_are_served(api: Api, visitor: Api, emulator: Emulator) -> None:
    """The URLs of assets work without a key."""
    video = await finished(api, emulator, SOURCE)
    assets = video["assets"]
    assert f'src="{assets["player"]}"' in assets["iframe"]
    player = await visitor.get(path(assets["player"], emulator), expect=200)
    assert "frame-ancestors *" in player.headers["Content-Security-Policy"]
    source = re.findall(r'src="([^"]+)"', player.body.decode())[0]
    for url in (source, path(assets["mp4"], emulator)):
        reply = await visitor.get(url, expect=200)
        assert reply.body == SOURCE
        assert reply.headers["ETag"] == f'"{emulator.sha256(video["videoId"])}"'
        assert reply.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    ("requested", "status", "content_range", "body"),
    [
        ("bytes=0-0", 206, "bytes 0-0/100000", SOURCE[:1]),
        ("bytes=10-19", 206, "bytes 10-19/100000", SOURCE[10:20]),
        ("bytes=99990-", 206, "bytes 99990-99999/100000", SOURCE[-10:]),
        ("bytes=99990-200000", 206, "bytes 99990-99999/100000", SOURCE[-10:]),
        ("bytes=-7", 206, "bytes 99993-99999/100000", SOURCE[-7:]),
        ("bytes=-200000", 206, "bytes 0-99999/100000", SOURCE),
        ("bytes=0-", 206, "bytes 0-99999/100000", SOURCE),
        ("bytes=100000-", 416, "bytes */100000", b""),
        ("bytes=-0", 416, "bytes */100000", b""),
        ("bytes=7-3", 200, None, SOURCE),
        ("bytes=0-1,5-6", 200, None, SOURCE),
        ("bytes=-", 200, None, SOURCE),
        ("parts=0-1", 200, None, SOURCE),
    ],
)
async def test_ranges(
    api: Api, visitor: Api, emulator: Emulator, requested: str, status: int, content_range: str | None, body: bytes
) -> None:
    """Every kind of range request, also with HEAD."""
    mp4 = path((await finished(api, emulator, SOURCE))["assets"]["mp4"], emulator)
    reply = await visitor.get(mp4, headers={"Range": requested}, expect=status)
    assert (reply.headers.get("Content-Range"), reply.body) == (content_range, body)
    head = await visitor.call("HEAD", mp4, headers={"Range": requested}, expect=status)
    assert (head.headers.get("Content-Range"), head.body) == (content_range, b"")
    assert status == 416 or head.headers["Content-Length"] == str(len(body))


async def test_conditions(api: Api, visitor: Api, emulator: Emulator) -> None:
    """If-Range and If-None-Match compare the SHA-256."""
    video = await finished(api, emulator, SOURCE)
    mp4, etag = path(video["assets"]["mp4"], emulator), f'"{emulator.sha256(video["videoId"])}"'
    await visitor.get(mp4, headers={"Range": "bytes=0-1", "If-Range": etag}, expect=206)
    await visitor.get(mp4, headers={"Range": "bytes=0-1", "If-Range": '"other"'}, expect=200)
    await visitor.get(mp4, headers={"If-None-Match": etag}, expect=304)


async def test_assets_of_unfinished_videos(api: Api, visitor: Api, emulator: Emulator) -> None:
    """Assets of unfinished and missing videos get 404."""
    video_id = await api.create()
    await api.send(video_id, content(PART), "part 1/2", expect=201)
    assets = (await api.get(f"/videos/{video_id}")).json["assets"]
    urls = [path(assets[name], emulator) for name in ("player", "mp4", "thumbnail")]
    urls += [f"{PREFIX}/videos/{video_id}/source", f"{PREFIX}/videos/{video_id}/thumbnail"]
    for url in [*urls, "/vod/viNone/mp4/source.mp4"]:
        assert (await visitor.get(url, expect=404)).slug == "resource-not-found"
    assert (await visitor.get(path(assets["hls"], emulator), expect=202)).body == b""


async def test_private_videos(api: Api, visitor: Api, emulator: Emulator) -> None:
    """The URLs of private videos contain a token, and get 404 without it."""
    video = await finished(api, emulator, SOURCE, public=False)
    urls = [path(video["assets"][name], emulator) for name in ("player", "mp4", "thumbnail")]
    for url in urls:
        await visitor.get(url, expect=200)
        bare = re.sub(r"/token/\w+|\?token=\w+", "", url)
        assert bare != url
        assert (await visitor.get(bare, expect=404)).slug == "resource-not-found"
        await visitor.get(re.sub(r"(token.)\w+", r"\1другой", url), expect=404)


async def test_videos_without_mp4(api: Api, visitor: Api, emulator: Emulator) -> None:
    """A video without `mp4Support` has a player, but no `mp4` asset."""
    video = await finished(api, emulator, SOURCE, mp4Support=False)
    assert "mp4" not in video["assets"]
    await visitor.get(f"/vod/{video['videoId']}/mp4/source.mp4", expect=404)
    await visitor.get(path(video["assets"]["player"], emulator), expect=200)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x20ftypisom", "video/mp4"),
        (b"\0\0\0\x14ftypqt  ", "video/quicktime"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm", "video/webm"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x82\x88matroska", "video/x-matroska"),
        (b"RIFF\0\0\0\0AVI LIST", "video/x-msvideo"),
        (b"G" + bytes(187) + b"G", "video/mp2t"),
        (b"OggS", "video/ogg"),
        (b"FLV\x01", "video/x-flv"),
        (b"\0\0\x01\xba", "video/mpeg"),
        (b"<html><script>", UNKNOWN_TYPE),
        (b"G", UNKNOWN_TYPE),
        (b"", UNKNOWN_TYPE),
    ],
)
def test_media_types(head: bytes, kind: str) -> None:
    """The media type depends on the bytes; only known video formats have one."""
    assert media_type(head) == kind


async def test_media_type_is_sent(api: Api, visitor: Api, emulator: Emulator) -> None:
    """The media type is sent with `nosniff`."""
    mp4 = path((await finished(api, emulator, b"<script>alert(1)</script>"))["assets"]["mp4"], emulator)
    reply = await visitor.get(mp4, expect=200)
    assert (reply.headers["Content-Type"], reply.headers["X-Content-Type-Options"]) == (UNKNOWN_TYPE, "nosniff")


# Thumbnails


def install_ffmpeg(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str | None = None) -> None:
    """Make ffmpeg the only program on the PATH: the real one, or a script."""
    folder.mkdir()
    if script is None:
        (folder / "ffmpeg").symlink_to(get_ffmpeg_exe())
    else:
        (folder / "ffmpeg").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def movie(folder: Path, seconds: str) -> bytes:
    target = folder / "movie.mp4"
    picture = ["-f", "lavfi", "-i", "color=c=red:size=64x36:rate=10", "-t", seconds]
    subprocess.run([get_ffmpeg_exe(), "-v", "error", *picture, "-y", target], check=True)
    return target.read_bytes()


async def thumbnail(visitor: Api, video: Any, emulator: Emulator) -> Reply:
    return await visitor.get(path(video["assets"]["thumbnail"], emulator), expect=200)


@pytest.mark.parametrize("seconds", ["0.3", "2"])
async def test_thumbnail_is_a_frame(
    api: Api, visitor: Api, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: str
) -> None:
    """The thumbnail is a JPEG, also for videos shorter than a second."""
    install_ffmpeg(tmp_path / "bin", monkeypatch)
    video = await finished(api, emulator, movie(tmp_path, seconds))
    reply = await thumbnail(visitor, video, emulator)
    assert reply.headers["Content-Type"] == "image/jpeg"
    assert reply.body.startswith(b"\xff\xd8\xff")
    (tmp_path / "bin" / "ffmpeg").unlink()
    assert (await thumbnail(visitor, video, emulator)).body == reply.body  # it was cached


@pytest.mark.parametrize("script", ["", "exit 1", "absent"])
async def test_thumbnail_without_a_frame(
    api: Api, visitor: Api, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    """Without ffmpeg, or if it finds no frame, the thumbnail is a placeholder."""
    video = await finished(api, emulator, movie(tmp_path, "0.1"))
    if script == "absent":
        monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
        monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    else:
        install_ffmpeg(tmp_path / "bin", monkeypatch, script)
    reply = await thumbnail(visitor, video, emulator)
    assert (reply.headers["Content-Type"], reply.body[:4]) == ("image/svg+xml", b"<svg")


async def test_only_videos_are_passed_to_ffmpeg(
    api: Api, visitor: Api, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A playlist, which could make ffmpeg open other files, is not passed to it."""
    install_ffmpeg(tmp_path / "bin", monkeypatch, f"echo started > {tmp_path}/started")
    await thumbnail(visitor, await finished(api, emulator, b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd"), emulator)
    assert not (tmp_path / "started").exists()


async def test_thumbnail_timeout(
    api: Api, visitor: Api, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ffmpeg that takes too long is killed."""
    monkeypatch.setattr("async_uploader.emulator._web.thumbnail.TIMEOUT_SECONDS", 0.1)
    install_ffmpeg(tmp_path / "bin", monkeypatch, "exec /bin/sleep 60")
    reply = await thumbnail(visitor, await finished(api, emulator, movie(tmp_path, "0.1")), emulator)
    assert reply.headers["Content-Type"] == "image/svg+xml"


async def test_ffmpeg_ends_with_the_emulator(
    session: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopping does not wait for ffmpeg, and leaves no process."""
    fifo = tmp_path / "started"
    os.mkfifo(fifo)
    install_ffmpeg(tmp_path / "bin", monkeypatch, f"echo $$ > {fifo}; exec /bin/sleep 60")
    emulator = await Emulator().__aenter__()
    api = Api(session, emulator.url, basic("local-key"))
    video = await finished(api, emulator, movie(tmp_path, "0.1"))
    waiting = asyncio.create_task(thumbnail(api, video, emulator))
    process = int(await asyncio.to_thread(fifo.read_text))
    async with asyncio.timeout(5):
        await emulator.__aexit__(None, None, None)
    with pytest.raises(aiohttp.ClientError):
        await waiting
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


async def test_the_event_loop_is_never_blocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and thumbnails are read and made in threads."""
    install_ffmpeg(tmp_path / "bin", monkeypatch)
    source = movie(tmp_path, "0.2")
    with blockbuster_ctx("async_uploader.emulator") as detector:
        detector.functions["threading.Lock.acquire"].can_block_in("concurrent/futures/thread.py", "shutdown")
        async with aiohttp.ClientSession() as session, Emulator() as emulator:
            api = Api(session, emulator.url, basic("local-key"))
            video = await finished(api, emulator, source)
            for name in ("player", "mp4", "thumbnail"):
                await api.get(path(video["assets"][name], emulator), expect=200)
            await api.get("/", expect=200)
            async with events(session, emulator.url) as page:
                await page.next()
