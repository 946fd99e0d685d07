"""The emulator's page in a browser, during and after uploads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import aiohttp
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from playwright.async_api import Page, expect

from async_uploader import Client
from async_uploader.emulator import Emulator, Fault
from tests.emulator.conftest import PART, Api, basic, content

from .conftest import ARTEFACTS, OpenPage

pytestmark = pytest.mark.anyio

MIB: Final = 1024 * 1024
# The share of pixels of a map with the colour of a CSS variable.
PIXELS: Final = """
([selector, name]) => {
  const canvas = document.querySelector(selector);
  const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  probe.fillStyle = getComputedStyle(canvas).getPropertyValue(name);
  probe.fillRect(0, 0, 1, 1);
  const [r, g, b] = probe.getImageData(0, 0, 1, 1).data;
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let at = 0; at < data.length; at += 4) {
    count += Math.abs(data[at] - r) + Math.abs(data[at + 1] - g) + Math.abs(data[at + 2] - b) < 6;
  }
  return count / (canvas.width * canvas.height);
}
"""


async def share(page: Page, video_id: str, colour: str) -> float:
    """The share of a video's map with a colour, from 0 to 1."""
    return float(await page.evaluate(PIXELS, [f"#{video_id} .map", f"--{colour}"]))


async def until_share(page: Page, video_id: str, colour: str, *, least: float) -> None:
    """Wait until at least this share of the map has the colour."""
    condition = f"([target, least]) => document.querySelector(target[0]) && ({PIXELS})(target) >= least"
    await page.wait_for_function(condition, arg=[[f"#{video_id} .map", f"--{colour}"], least], timeout=30_000)


def api_of(emulator: Emulator, session: aiohttp.ClientSession) -> Api:
    return Api(session, emulator.url, basic("local-key"))


async def test_upload_and_playback(
    open_page: OpenPage, make_movie: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page shows an upload in progress, and plays the finished video."""
    (tmp_path / "ffmpeg").symlink_to(get_ffmpeg_exe())
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    movie = make_movie()
    fault = Fault.parse("part=2,attempt=1:cut,when=middle")
    async with (
        Emulator(connection_rate=4 * MIB, rate_limit=100, faults=[fault]) as emulator,
        open_page(emulator.url) as page,
    ):
        await expect(page.locator("#command")).to_contain_text(f"BASE_URL={emulator.url} async-uploader upload")
        async with Client(api_key="local-key", base_url=emulator.url) as client:
            upload = asyncio.create_task(client.upload(movie, title="Holidays <b>2024</b>", tags=["sea"]))
            await emulator.wait_for(lambda e: e.videos)
            [video_id] = emulator.videos
            await until_share(page, video_id, "in-flight", least=0.02)
            await until_share(page, video_id, "received", least=0.15)
            assert not upload.done()
            assert await share(page, video_id, "received") < 1
            await page.screenshot(path=ARTEFACTS / "uploading.png")
            await upload
        await until_share(page, video_id, "received", least=0.9)
        await expect(page.locator(f"#{video_id} .state")).to_have_text("finished")
        await expect(page.locator(f"#{video_id} .title")).to_have_text("Holidays <b>2024</b>")
        await expect(page.locator("#faults b")).to_have_text("1×")

        await page.locator(f"#{video_id} button.card-head").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator(f"#{video_id} .facts")).to_contain_text(str(emulator.sha256(video_id)))
        player = page.locator(f"#{video_id} video")
        await player.evaluate("video => { video.muted = true; return video.play(); }")
        await page.wait_for_function("() => document.querySelector('video').currentTime > 0.5")
        picture = page.locator(f"#{video_id} .picture img")
        await page.wait_for_function(
            "image => image.complete && image.naturalWidth === 640", arg=await picture.element_handle()
        )
        await page.screenshot(path=ARTEFACTS / "playing.png")
        # Other events must not stop the player.
        await player.evaluate("video => { window.lastTime = video.currentTime; }")
        async with aiohttp.ClientSession() as session:
            await api_of(emulator, session).create("another")
        await expect(page.locator("#videos > li")).to_have_count(2)
        await page.wait_for_function("() => document.querySelector('video').currentTime > window.lastTime + 0.2")


async def test_the_player_asset(open_page: OpenPage, make_movie: Callable[..., Path]) -> None:
    """`assets.player` plays a private video, also from the middle."""
    async with Emulator() as emulator:
        async with Client(api_key="local-key", base_url=emulator.url) as client:
            video = await client.upload(make_movie(2), title="private", public=False)
        assert video.assets.player
        async with open_page(video.assets.player) as page:
            await page.evaluate(
                "() => { const v = document.querySelector('video'); v.muted = true; return v.play(); }"
            )
            await page.wait_for_function("() => document.querySelector('video').currentTime > 0.2")
            await page.evaluate("() => { document.querySelector('video').currentTime = 6; }")
            await page.wait_for_function("() => document.querySelector('video').currentTime > 6.2")


async def test_maps_of_every_kind(open_page: OpenPage) -> None:
    """Maps of byte ranges, refused parts, unknown length and ten thousand parts have the same size."""
    async with Emulator() as emulator, aiohttp.ClientSession() as session:
        api = api_of(emulator, session)
        titles = ("ranges", "refused", "open end", "many")
        ranges, refused, open_end, many = [await api.create(title) for title in titles]
        await api.send(ranges, content(PART), f"bytes {PART}-{2 * PART - 1}/{4 * PART}", expect=201)
        emulator.add_fault(Fault.parse("part=2,times=1:status=503"))
        await api.send(refused, content(PART), "part 2/4", expect=503)
        await api.send(refused, content(PART), "part 3/4", expect=201)
        await api.send(open_end, content(PART), "part 3/*", expect=201)
        await api.send(many, content(PART), "part 5000/10000", expect=201)
        for width in (1280, 400):
            async with open_page(emulator.url, width=width) as page:
                await until_share(page, ranges, "received", least=0.2)
                assert await share(page, ranges, "received") == pytest.approx(0.25, abs=0.03)
                assert await share(page, refused, "received") == pytest.approx(0.25, abs=0.03)
                assert await share(page, refused, "failed-soft") > 0.15
                assert await share(page, open_end, "received") == pytest.approx(1 / 16, abs=0.03)
                assert 0 < await share(page, many, "received") < 0.01
                boxes = [await page.locator(f"#{name} .map").bounding_box() for name in (ranges, open_end, many)]
                assert len({(box["width"], box["height"]) for box in boxes if box}) == 1
                # The page does not scroll horizontally.
                assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_colour_schemes(open_page: OpenPage, scheme: str) -> None:
    """The page follows the colour scheme of the browser."""
    async with Emulator() as emulator, open_page(emulator.url, scheme=scheme) as page:
        await expect(page.locator("#connection")).to_have_text("live")
        background = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(int(number) for number in background[4:-1].split(","))
        assert (brightness < 200) == (scheme == "dark")


async def test_another_emulator_at_the_same_address(open_page: OpenPage) -> None:
    """The page shows that the emulator has stopped, and then the state of the next emulator."""
    async with aiohttp.ClientSession() as session:
        first = await Emulator().__aenter__()
        async with open_page(first.url, may_lose_connection=True) as page:
            await api_of(first, session).create("of the first")
            await expect(page.locator(".title")).to_have_text("of the first")
            await first.__aexit__(None, None, None)
            await expect(page.locator("#connection")).to_have_text("no connection")
            async with Emulator(port=int(first.url.rpartition(":")[2])) as second:
                await api_of(second, session).create("of the second")
                await expect(page.locator(".title")).to_have_text("of the second", timeout=20_000)
