"""api.video's own browser clients, from npm, upload to the emulator from a page of another origin."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Browser, Page

from async_uploader.emulator import Emulator, Fault

from ..emulator.conftest import Api, basic  # noqa: TID252 - found however pytest is started
from .conftest import other_origin

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
# `source(size, seed)` makes a file of pseudo-random bytes.
HELPERS = """
window.source = (size, seed) => {
  const bytes = new Uint8Array(size);
  for (let n = 0, state = seed; n < size; n += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[n] = state >>> 24;
  }
  return new File([bytes], "movie.mp4");
};
window.sha256 = async (blob) => {
  const digest = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
};
"""


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(tls=True) as emulator:
        yield emulator


@pytest.fixture
async def page(browser: Browser, node_modules: Path) -> AsyncIterator[Page]:
    """A page of another site with the packages; it must not log errors."""
    async with other_origin() as port:
        page = await browser.new_page(ignore_https_errors=True)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        await page.goto(f"http://localhost:{port}/")  # a secure context, as with https
        for package in ("video-uploader", "media-recorder"):
            await page.add_script_tag(path=node_modules / "@api.video" / package / "dist" / "index.js")
        await page.add_script_tag(content=HELPERS)
        yield page
        await page.close()
        assert errors == []


@pytest.fixture
async def api(emulator: Emulator) -> AsyncIterator[Api]:
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=emulator.ca_file))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Api(session, emulator.url, basic("local-key"))


async def upload(page: Page, emulator: Emulator, script: str, **options: Any) -> dict[str, Any]:
    """Run a script with `options` and `file`; returns what it returns, with the SHA-256 of the file."""
    options |= {"apiHost": emulator.url.removeprefix("https://")}
    wrapped = f"async ({{ size, options }}) => {{ const file = source(size, 1); {script} }}"
    size = options.pop("size", 12 * MIB)
    result: dict[str, Any] = await page.evaluate(wrapped, {"size": size, "options": options})
    return result


UPLOAD = """
  const progress = [];
  const uploader = new VideoUploader({ file, ...options });
  uploader.onProgress((event) => progress.push(event));
  const video = await uploader.upload();
  return { video, progress, sha256: await sha256(file) };
"""


@pytest.mark.parametrize(("size", "chunks"), [(3 * MIB, 1), (12 * MIB, 3)])
async def test_an_upload_token(page: Page, emulator: Emulator, api: Api, size: int, chunks: int) -> None:
    """One request, and chunks; the progress ends at the size of the file."""
    token = await api.token()
    done = await upload(page, emulator, UPLOAD, uploadToken=token, chunkSize=5 * MIB, size=size)
    video = await emulator.finished(done["video"]["videoId"])
    assert (video.sha256, video.title) == (done["sha256"], "movie.mp4")
    assert list(video.pieces) == [f"part {n + 1}/{chunks}" for n in range(chunks)]
    last = done["progress"][-1]
    # The number of bytes that a browser reports includes the multipart framing.
    assert size <= last["uploadedBytes"] < size + 1000
    assert (last["totalBytes"], last["chunksCount"], last["currentChunk"]) == (size, chunks, chunks)


@pytest.mark.parametrize("is_expired", [False, True])
async def test_a_bearer_token(page: Page, emulator: Emulator, api: Api, is_expired: bool) -> None:
    """An access token that has expired is refreshed, and the upload continues."""
    pair = (await api.post("/auth/api-key", json={"apiKey": "local-key"}, expect=200)).json
    if is_expired:
        emulator.expire_tokens()
    tokens = {"accessToken": pair["access_token"], "refreshToken": pair["refresh_token"]}
    done = await upload(page, emulator, UPLOAD, videoId=await api.create(), chunkSize=5 * MIB, **tokens)
    assert (await emulator.finished(done["video"]["videoId"])).sha256 == done["sha256"]
    assert emulator.statistics().refreshes == is_expired


async def test_an_api_key(page: Page, emulator: Emulator, api: Api) -> None:
    """A key, which only a test would give to a page."""
    done = await upload(page, emulator, UPLOAD, videoId=await api.create(), apiKey="local-key", size=MIB)
    assert (await emulator.finished(done["video"]["videoId"])).sha256 == done["sha256"]


async def test_retries(page: Page, emulator: Emulator, api: Api) -> None:
    """A lost connection is retried. A refusal is not, and its problem reaches the page."""
    emulator.add_fault(Fault.parse("part=1,attempt=1:cut"))
    done = await upload(page, emulator, UPLOAD, uploadToken=await api.token(), size=MIB)
    assert (await emulator.finished(done["video"]["videoId"])).sha256 == done["sha256"]
    refused = """
      try { await new VideoUploader({ file, ...options }).upload(); } catch (error) { return error; }
    """
    error = await upload(page, emulator, refused, uploadToken="toUnknown", size=MIB)
    assert (error["status"], error["type"].rpartition("/")[2]) == (401, "authentication-invalid-upload-token")


async def test_on_playable(
    page: Page, emulator: Emulator, api: Api, make_movie: Callable[..., Path], tmp_path: Path
) -> None:
    """`onPlayable` fires, and the playlist can be read by the page."""
    movie = make_movie(1)
    chooser = "() => { document.body.append(Object.assign(document.createElement('input'), { type: 'file' })); }"
    await page.evaluate(chooser)
    await page.locator("input").set_input_files(movie)
    playable = """
      const uploader = new VideoUploader({ file: document.querySelector("input").files[0], ...options });
      const fired = new Promise((resolve) => uploader.onPlayable(resolve));
      await uploader.upload();
      const video = await fired;
      const playlist = await (await fetch(video.assets.hls)).text();
      return { videoId: video.videoId, playlist };
    """
    done = await upload(page, emulator, playable, uploadToken=await api.token(), size=0)
    assert done["playlist"].startswith("#EXTM3U")
    assert emulator.sha256(done["videoId"]) == hashlib.sha256(movie.read_bytes()).hexdigest()


@pytest.mark.parametrize(("with_token", "prevents_empty_parts"), [(False, True), (True, False)])
async def test_the_progressive_uploader(
    page: Page, emulator: Emulator, api: Api, with_token: bool, prevents_empty_parts: bool
) -> None:
    """Parts of any size, which the client merges; the number of parts is known at the end."""
    script = """
      const uploader = new ProgressiveUploader({ videoName: "live", ...options });
      let uploaded = 0;
      uploader.onProgress((event) => { uploaded = Math.max(uploaded, event.uploadedBytes); });
      for (let at = 0; at < 12e6; at += 4e6) await uploader.uploadPart(file.slice(at, at + 4e6));
      const video = await uploader.uploadLastPart(file.slice(12e6));
      return { video, uploaded, sha256: await sha256(file) };
    """
    options: dict[str, Any] = {"preventEmptyParts": prevents_empty_parts}
    if with_token:
        options["uploadToken"] = await api.token()
    else:
        options |= {"apiKey": "local-key", "videoId": await api.create("live")}
    done = await upload(page, emulator, script, size=15_000_000, **options)
    video = await emulator.finished(done["video"]["videoId"])
    assert (video.sha256, video.title) == (done["sha256"], "live")
    assert video.pieces[0] == "part 1/*"
    assert video.pieces[-1] == f"part {len(video.pieces)}/{len(video.pieces)}"
    assert done["uploaded"] > 0


async def test_the_media_recorder(page: Page, emulator: Emulator, api: Api) -> None:
    """A canvas is recorded and uploaded while it changes; the emulator has the browser's own recording."""
    script = """
      const canvas = document.body.appendChild(document.createElement("canvas"));
      const pen = canvas.getContext("2d");
      let hue = 0;
      const paint = () => { pen.fillStyle = `hsl(${hue += 20}, 90%, 50%)`; pen.fillRect(0, 0, 300, 150); };
      const timer = setInterval(paint, 30);
      const settings = { ...options, generateFileOnStop: true, mimeType: "video/webm;codecs=vp8" };
      const recorder = new ApiVideoMediaRecorder(canvas.captureStream(30), settings);
      const recorded = new Promise((resolve) => {
        recorder.addEventListener("recordingStopped", (event) => resolve(event.data.file));
      });
      recorder.start({ timeslice: 100 });
      let chunks = 0;
      await new Promise((resolve) => {
        window.mediaRecorder.addEventListener("dataavailable", (event) => {
          if (event.data.size && ++chunks === 5) resolve();
        });
      });
      const video = await recorder.stop();
      clearInterval(timer);
      return { video, sha256: await sha256(await recorded) };
    """
    done = await upload(page, emulator, script, uploadToken=await api.token(), size=0)
    video = await emulator.finished(done["video"]["videoId"])
    assert video.sha256 == done["sha256"]
    assert video.pieces == ("part 1/1",)
