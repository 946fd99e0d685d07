"""A headless Chromium, and videos that it can play."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from aiohttp import web
from imageio_ffmpeg import get_ffmpeg_exe
from playwright.async_api import Browser, Page, async_playwright

ARTEFACTS: Final = Path(__file__).parent.parent / "artefacts"

OpenPage = Callable[..., AbstractAsyncContextManager[Page]]


@pytest.fixture(autouse=True)
def no_errors_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail if a request makes the emulator log an error."""
    yield
    assert [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The scope of the tests' event loop is that of the browser, which needs it."""
    return "asyncio"


@pytest.fixture(scope="package")
async def running_browser(chromium: str) -> AsyncIterator[Browser]:
    """The system's Chromium: Playwright's own browsers are not downloaded. `*.example` is this machine."""
    arguments = ["--host-resolver-rules=MAP *.example 127.0.0.1"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        await browser.close()


@pytest.fixture
async def browser(running_browser: Browser) -> AsyncIterator[Browser]:
    """One browser for all tests. Each page has cookies, storage and a cache of its own."""
    yield running_browser
    for context in running_browser.contexts:
        await context.close()


@pytest.fixture
def open_page(browser: Browser) -> OpenPage:
    """`open_page(url, width=1280, scheme="light")` opens a page that must not log errors.

    With `may_lose_connection`, network errors are allowed; with `allowed`, messages that contain this text.
    """

    @asynccontextmanager
    async def opened(
        url: str,
        *,
        width: int = 1280,
        scheme: str = "light",
        may_lose_connection: bool = False,
        allowed: str | None = None,
    ) -> AsyncIterator[Page]:
        page = await browser.new_page(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        await page.goto(url)
        yield page
        await page.close()
        expected = [*([allowed] if allowed else []), *(["net::ERR_"] if may_lose_connection else [])]
        assert [text for text in errors if not any(part in text for part in expected)] == []

    return opened


@asynccontextmanager
async def other_origin(text: str = "<!doctype html><title>A site</title>") -> AsyncIterator[int]:
    """A server with one page, which is empty by default, on a port of its own."""

    async def handle(_: web.BaseRequest) -> web.Response:
        return web.Response(body=text.encode(), content_type="text/html")

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


@pytest.fixture
def make_movie(tmp_path: Path) -> Callable[..., Path]:
    """`make_movie(megabits_per_second=17)` makes eight seconds of H.264 and AAC with this bit rate."""

    def make(megabits_per_second: int = 17) -> Path:
        target = tmp_path / "movie.mp4"
        picture = ["-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25,noise=alls=60:allf=t"]
        sound = ["-f", "lavfi", "-i", "sine=frequency=440"]
        video = [
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-pix_fmt",
            "yuv420p",
            "-b:v",
            f"{megabits_per_second}M",
        ]
        rest = ["-t", "8", "-c:a", "aac", "-movflags", "+faststart", str(target)]
        subprocess.run([get_ffmpeg_exe(), "-v", "error", *picture, *sound, *video, *rest], check=True)
        return target

    return make
