"""Pages of other sites, in a real browser: they can neither read nor change the page and the control API."""

from __future__ import annotations

import aiohttp
import pytest
from playwright.async_api import Browser, Page

from async_uploader.emulator import Emulator

from ..emulator.conftest import Api, basic  # noqa: TID252 - found however pytest is started
from .conftest import other_origin

pytestmark = pytest.mark.anyio

# Everything that a page can send to another site without a preflight. Returns what it can read.
ATTACK = """
async (url) => {
  const read = [];
  const attempt = async (path, options) => {
    try { read.push(await (await fetch(url + path, options)).text()); } catch {}
  };
  const body = '{"spec": "*:cut"}';
  for (const mode of ["cors", "no-cors"]) {
    for (const path of ["", "_emulator/requests", "_emulator/videos", "_emulator/events"]) {
      await attempt(`/${path}`, { mode });
    }
    for (const path of ["reset", "faults"]) await attempt(`/_emulator/${path}`, { mode, method: "POST", body });
  }
  await attempt("/_emulator/faults", { method: "DELETE" });
  navigator.sendBeacon(url + "/_emulator/reset");
  const load = (tag, path) => new Promise((resolve) => {
    const element = document.createElement(tag);
    element.onload = () => resolve(true);
    element.onerror = () => resolve(false);
    element.src = url + path;
    document.body.append(element);
  });
  const loaded = [await load("img", "/_emulator/icon.svg"), await load("script", "/_emulator/format.js")];
  return { read: read.filter(Boolean), loaded };
}
"""
FORM = """
(url) => {
  const form = document.createElement("form");
  Object.assign(form, { action: url + "/_emulator/reset", method: "POST", enctype: "text/plain" });
  document.body.append(form);
  form.submit();
}
"""


async def refused(emulator: Emulator, path: str) -> None:
    """Wait until a request of the form, the beacon or the page was refused."""
    await emulator.wait_for(lambda e: [r for r in e.requests if r.path == path and r.status in (403, 421)])


async def assert_unchanged(emulator: Emulator) -> None:
    async with aiohttp.ClientSession() as session:
        api = Api(session, emulator.url, basic("local-key"))
        await api.get("/videos", expect=200)
        assert (await api.get("/_emulator/faults", expect=200)).json == []
    assert len(emulator.videos) == 1


async def page_of(browser: Browser, url: str) -> Page:
    page = await browser.new_page()
    await page.goto(url)
    return page


@pytest.mark.parametrize("host", ["localhost", "evil.example"])
async def test_other_sites(browser: Browser, host: str) -> None:
    """Requests, beacons, forms, images and scripts of another port and of another host."""
    async with Emulator() as emulator, other_origin() as port, aiohttp.ClientSession() as session:
        await Api(session, emulator.url, basic("local-key")).create("kept")
        page = await page_of(browser, f"http://{host}:{port}/")
        result = await page.evaluate(ATTACK, emulator.url)
        assert result == {"read": [], "loaded": [False, False]}
        await page.evaluate(FORM, emulator.url)
        await page.wait_for_load_state()
        await refused(emulator, "/_emulator/reset")
        await assert_unchanged(emulator)
        await page.close()


async def test_dns_rebinding(browser: Browser) -> None:
    """A host name that resolves to the emulator's address makes both the same site to the browser."""
    async with Emulator() as emulator, aiohttp.ClientSession() as session:
        await Api(session, emulator.url, basic("local-key")).create("kept")
        page = await page_of(browser, f"http://evil.example:{emulator.url.rpartition(':')[2]}/")
        assert "misdirected-request" in await page.content()
        result = await page.evaluate(ATTACK, "")
        assert all("misdirected-request" in text for text in result["read"])
        await assert_unchanged(emulator)
        await page.close()
