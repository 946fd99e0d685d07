"""The page in a browser: opening requests, faults, reset, deletion, captions and deliveries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import expect

from async_uploader.emulator import Emulator, Fault

from ..emulator.conftest import MIB, PART, Api, basic, content  # noqa: TID252 - found however pytest is started
from ..emulator.raw import Raw, upload_head  # noqa: TID252
from .conftest import ARTEFACTS, OpenPage, other_origin

pytestmark = pytest.mark.anyio

VTT = b"WEBVTT\n\n00:00:00.000 --> 00:00:08.000\nHello\n"


async def test_a_request_is_opened(open_page: OpenPage) -> None:
    """It shows what was sent and answered, and why; a reset empties the page."""
    fault = Fault.parse("part=2,attempt=1:status=503,retry-after=7")
    async with Emulator(faults=[fault]) as emulator, aiohttp.ClientSession() as session:
        api = Api(session, emulator.url, basic("local-key"))
        video_id = await api.create("a movie")
        await api.send(video_id, content(PART), "part 2/3", expect=503)
        await api.send(video_id, b"small", "part 1/3", expect=400)
        for width, scheme in ((1280, "light"), (390, "dark")):
            async with open_page(emulator.url, width=width, scheme=scheme) as page:
                await page.locator("#requests button").nth(1).click()
                dialog = page.locator("#request")
                await expect(dialog).to_contain_text("part=2,attempt=1:status=503,retry-after=7")
                await expect(dialog).to_contain_text("Authorization: Basic …")
                await expect(dialog).to_contain_text("Retry-After: 7")
                await page.screenshot(path=ARTEFACTS / f"request-{width}-{scheme}.png")
                await page.keyboard.press("Escape")
                await page.locator("#requests button").nth(0).click()
                await expect(dialog).to_contain_text("video-content-range-by-part-uploaded-file-too-small")
                await dialog.get_by_role("button", name="Close").click()
                await expect(dialog).to_be_hidden()
        async with open_page(emulator.url) as page:
            await page.locator("#reset").click()
            assert emulator.videos  # the first click only asks
            await page.locator("#reset").click()
            await expect(page.locator("#empty")).to_be_visible()
        assert not emulator.videos


async def test_faults_by_menu(open_page: OpenPage) -> None:
    """A fault is added from the menu and as text, refused if invalid, and removed."""
    async with Emulator() as emulator, open_page(emulator.url, width=390, allowed="status of 400") as page:
        await page.locator("#presets").select_option(label="Refuse part 2 once (503)")
        await page.get_by_role("button", name="Add").click()
        await expect(page.locator("#faults code")).to_have_text("part=2,times=1:status=503")
        await page.locator("#spec").fill("part=2:fly")
        await page.keyboard.press("Enter")
        await expect(page.locator("#fault-error")).to_contain_text("'fly' is not a known action")
        await page.locator("#spec").fill(
            "upload,probability=0.05,seed=7,times=20:status=503,retry-after=2,when=middle"
        )
        await page.keyboard.press("Enter")
        await expect(page.locator("#faults li")).to_have_count(2)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await page.locator("#add-fault").scroll_into_view_if_needed()
        await page.screenshot(path=ARTEFACTS / "faults-390.png")
        await page.get_by_role("button", name="Remove the fault part=2").click()
        await expect(page.locator("#faults li")).to_have_count(1)
        await page.locator("#spec").fill("create:cut")
        await page.keyboard.press("Enter")
        await page.locator("#clear-faults").click()
        await expect(page.locator("#faults")).to_have_text("none")


async def test_a_video_with_everything(open_page: OpenPage, make_movie: Callable[..., Path]) -> None:
    """Captions and deliveries are shown, the player offers the captions, and the video is deleted."""
    async with Emulator() as emulator, aiohttp.ClientSession() as session, other_origin() as port:
        api = Api(session, emulator.url, basic("local-key"))
        hook = f"http://127.0.0.1:{port}/hook"
        events = ["video.encoding.quality.completed"]
        await api.post("/webhooks", json={"events": events, "url": hook}, expect=201)
        video_id = await api.create("with captions", public=False)
        async with open_page(f"{emulator.url}/#{video_id}") as page:
            await api.send(video_id, make_movie(1).read_bytes(), expect=201)
            await expect(page.locator(".facts")).to_contain_text(f"200: {hook}")
            data = aiohttp.FormData()
            data.add_field("file", VTT, filename="en.vtt")
            await api.post(f"/videos/{video_id}/captions/en", data=data, expect=200)
            await api.patch(f"/videos/{video_id}/captions/en", json={"default": True}, expect=200)
            await expect(page.locator(".facts")).to_contain_text("en (default)")
            await page.wait_for_function(
                "() => document.querySelector('video').textTracks[0]?.cues?.[0]?.text === 'Hello'"
            )
            await page.screenshot(path=ARTEFACTS / "captions.png")
            button = page.get_by_role("button", name="Delete video")
            await button.click()
            await button.click()
            await expect(page.locator("#empty")).to_be_visible()


async def test_a_stopped_emulator(open_page: OpenPage) -> None:
    """Bytes in flight count, and the total is known from the first request. Stopped, nothing is in flight."""
    emulator = await Emulator().__aenter__()
    async with (
        aiohttp.ClientSession() as session,
        Raw(emulator.url) as raw,
        open_page(emulator.url, may_lose_connection=True) as page,
    ):
        video_id = await Api(session, emulator.url, basic("local-key")).create("stops")
        await raw.send(upload_head(video_id, "part 3/4", PART) + content(4 * MIB))
        note = page.locator(".words .note")
        await expect(note).to_have_text("4.0 MiB · 0 of 4 parts · 1 in flight")
        await expect(page.locator("#flight")).to_have_text("1")
        stopping = asyncio.create_task(emulator.__aexit__(None, None, None))
        await expect(page.locator("#connection")).to_have_text("no connection")
        await expect(page.locator("#flight")).to_have_text("–")
        await expect(note).not_to_contain_text("in flight")
        assert float(await page.evaluate("getComputedStyle(document.querySelector('main')).opacity")) < 1
        await page.screenshot(path=ARTEFACTS / "stopped.png")
        await stopping
