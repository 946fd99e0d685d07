"""HLS: the streams of the source, copied by ffmpeg."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from imageio_ffmpeg import get_ffmpeg_exe

from async_uploader.emulator import Emulator
from async_uploader.emulator._web import hls
from async_uploader.emulator._web.ffmpeg import FFmpeg

from .conftest import Api, basic

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Ten seconds of H.264 and AAC with a key frame each second."""
    target = tmp_path_factory.mktemp("movie") / "movie.mp4"
    inputs = ["-f", "lavfi", "-i", "testsrc2=size=64x36:rate=10", "-f", "lavfi", "-i", "sine"]
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "10", "-c:a", "aac", "-t", "10"]
    subprocess.run([get_ffmpeg_exe(), "-v", "error", *inputs, *codecs, target], check=True)
    return target.read_bytes()


async def finished(api: Api, emulator: Emulator, source: bytes, **details: Any) -> dict[str, Any]:
    """Upload a source; returns the Video."""
    video_id = await api.create(**details)
    video: dict[str, Any] = (await api.send(video_id, source, expect=201)).json
    await emulator.finished(video_id)
    return video


async def playlist(api: Api, emulator: Emulator, video: dict[str, Any]) -> tuple[str, str]:
    """The directory of the playlist, and its text."""
    url = video["assets"]["hls"].removeprefix(emulator.url)
    while (reply := await api.get(url)).status == 202:
        assert reply.body == b""
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/vnd.apple.mpegurl"
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    return url.rpartition("/")[0], reply.body.decode()


async def test_segments(api: Api, emulator: Emulator, movie: bytes, tmp_path: Path) -> None:
    """The segments play, and have the whole video. Those of private videos have their token."""
    video = await finished(api, emulator, movie, public=False)
    base, text = await playlist(api, emulator, video)
    names = [*re.findall(r'URI="([^"]+)"', text), *re.findall(r"^[^#].*$", text, re.MULTILINE)]
    assert names == ["init.mp4", "segment-0.m4s", "segment-1.m4s", "segment-2.m4s"]
    assert "#EXT-X-ENDLIST" in text
    joined = b"".join([(await api.get(f"{base}/{name}", expect=200)).body for name in names])
    (tmp_path / "joined.mp4").write_bytes(joined)
    command = [get_ffmpeg_exe(), "-i", tmp_path / "joined.mp4", "-f", "null", "-"]
    probed = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    assert b"time=00:00:1" in probed.stderr.rpartition(b"frame=")[2]
    assert "/token/" in base
    await api.get(f"/vod/{video['videoId']}/hls/manifest.m3u8", expect=404)
    await api.get(f"{base}/source", expect=404)
    await api.get(f"{base}/..%2Fsource", expect=404)


async def test_made_once(api: Api, emulator: Emulator, movie: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Concurrent and later requests share one run of ffmpeg; while it runs, they get 202."""
    runs = []
    convert = FFmpeg.convert

    def counted(self: Any, *arguments: Any, **options: Any) -> bytes | None:
        runs.append(1)
        return convert(self, *arguments, **options)

    monkeypatch.setattr(FFmpeg, "convert", counted)
    monkeypatch.setattr(hls, "WAIT_SECONDS", 0)
    video = await finished(api, emulator, movie)
    url = video["assets"]["hls"].removeprefix(emulator.url)
    first = await asyncio.gather(*(api.get(url) for _ in range(3)))
    assert first[0].status == 202
    await playlist(api, emulator, video)
    assert len(runs) == 1


async def test_kept_with_the_data(tmp_path: Path, session: aiohttp.ClientSession, movie: bytes) -> None:
    """The next emulator serves the same files, also without ffmpeg; a deleted video leaves nothing."""
    async with Emulator(data=tmp_path) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        video = await finished(api, emulator, movie)
        _, text = await playlist(api, emulator, video)
    async with Emulator(data=tmp_path) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", "")
            patch.setitem(sys.modules, "imageio_ffmpeg", None)
            again = (await api.get(f"/videos/{video['videoId']}", expect=200)).json
            assert (await playlist(api, emulator, again))[1] == text
        await api.delete(f"/videos/{video['videoId']}", expect=204)
    assert list((tmp_path / "videos").iterdir()) == []


async def test_not_available(api: Api, emulator: Emulator, movie: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ffmpeg, and for files that are no videos, the response says so."""
    text = await finished(api, emulator, b"#EXTM3U\nfile:///etc/passwd")
    reply = await api.get(text["assets"]["hls"].removeprefix(emulator.url), expect=404)
    assert "ffmpeg" in reply.json["detail"]
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    video = await finished(api, emulator, movie)
    reply = await api.get(video["assets"]["hls"].removeprefix(emulator.url), expect=404)
    assert "ffmpeg" in reply.json["detail"]
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
