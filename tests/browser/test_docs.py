"""The page in docs/browser.md uploads a file from Chromium, with api.video's own script, to the emulator."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Browser, Route

from async_uploader.emulator import Emulator
from tests.docs.blocks import BLOCKS

from ..emulator.conftest import Api, basic  # noqa: TID252 - found however pytest is started
from .conftest import other_origin

pytestmark = pytest.mark.anyio

SCRIPT = "https://unpkg.com/@api.video/video-uploader"


async def test_the_page_of_the_documentation(browser: Browser, node_modules: Path, tmp_path: Path) -> None:
    """Only the token and the host are replaced. The script comes from the npm package, instead of the network."""
    (text,) = (block.text for block in BLOCKS if (block.page, block.language) == ("docs/browser.md", "html"))
    movie = tmp_path / "movie.mp4"
    movie.write_bytes(b"movie" * 1_000_000)
    async with Emulator(tls=True) as emulator:
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=emulator.ca_file))
        async with aiohttp.ClientSession(connector=connector) as session:
            token = await Api(session, emulator.url, basic("local-key")).post(
                "/upload-tokens", json={}, expect=200
            )
        assert '"YOUR_UPLOAD_TOKEN"' in text
        assert '"ws.api.video"' in text
        page_text = text.replace("YOUR_UPLOAD_TOKEN", token.json["token"])
        page_text = page_text.replace("ws.api.video", emulator.url.removeprefix("https://"), 1)

        async def script(route: Route) -> None:
            await route.fulfill(path=node_modules / "@api.video" / "video-uploader" / "dist" / "index.js")

        async with other_origin(page_text) as port:
            page = await browser.new_page(ignore_https_errors=True)
            await page.route(SCRIPT, script)
            await page.goto(f"http://localhost:{port}/")  # a secure context, as with https
            await page.set_input_files("#file", movie)
            await page.wait_for_function("document.getElementById('result').textContent")
            result = await page.text_content("#result")
            assert result is not None
            assert result.startswith("Uploaded: vi"), result
            assert await page.evaluate("document.getElementById('progress').value") == 1
            await page.close()
        copy = await emulator.finished(result.removeprefix("Uploaded: "))
        assert copy.sha256 == hashlib.sha256(movie.read_bytes()).hexdigest()
