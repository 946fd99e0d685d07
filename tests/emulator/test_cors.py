"""Cross-origin requests: pages of every site can use the API, but not the emulator's page."""

from __future__ import annotations

import pytest

from async_uploader.emulator import Emulator, Fault

from .conftest import Api, content, form

pytestmark = pytest.mark.anyio

ORIGIN = "https://app.example"
UPLOAD_HEADERS = "authorization,av-origin-client,content-range,content-type"


def preflight(method: str, headers: str = "") -> dict[str, str]:
    """The headers of a preflight."""
    sent = {"Origin": ORIGIN, "Access-Control-Request-Method": method}
    return {**sent, "Access-Control-Request-Headers": headers} if headers else sent


@pytest.fixture
def browser(api: Api) -> Api:
    """A client that sends no credentials, like a preflight."""
    return Api(api.session, api.url, None)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/upload?token=toX"),
        ("POST", "/videos/viX/source"),
        ("POST", "/auth/refresh"),
        ("GET", "/videos/viX/status"),
        ("PATCH", "/videos/viX"),
        ("DELETE", "/videos/viX"),
        ("GET", "/nowhere"),
    ],
)
async def test_preflight(browser: Api, method: str, path: str) -> None:
    """Every origin can send every method with the headers of api.video's clients."""
    reply = await browser.call("OPTIONS", path, headers=preflight(method, UPLOAD_HEADERS), expect=204)
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert method in reply.headers["Access-Control-Allow-Methods"].split(", ")
    allowed = reply.headers["Access-Control-Allow-Headers"].lower().split(", ")
    assert set(UPLOAD_HEADERS.split(",")) | {"av-origin-app", "av-origin-sdk"} == set(allowed)
    assert "Access-Control-Allow-Credentials" not in reply.headers
    assert reply.body == b""


async def test_responses_are_readable(api: Api, browser: Api) -> None:
    """Responses allow every origin, errors included."""
    headers = {"Origin": ORIGIN}
    assert (await api.get("/videos", headers=headers, expect=200)).headers["Access-Control-Allow-Origin"] == "*"
    for path, status in (("/videos", 401), ("/nowhere", 404)):
        reply = await browser.get(path, headers=headers, expect=status)
        assert reply.headers["Access-Control-Allow-Origin"] == "*"
    upload = await browser.post(
        "/upload", params={"token": "toX"}, data=form(content(9)), headers=headers, expect=401
    )
    assert upload.headers["Access-Control-Allow-Origin"] == "*"


async def test_faults_of_proxies_are_not_readable(api: Api, emulator: Emulator) -> None:
    """Faults of the service are readable; those of proxies are not."""
    emulator.add_fault(Fault.parse("list,attempt=1:status=503"))
    emulator.add_fault(Fault.parse("list,attempt=2:status=502,body=html"))
    assert "Access-Control-Allow-Origin" in (await api.get("/videos", expect=503)).headers
    assert "Access-Control-Allow-Origin" not in (await api.get("/videos", expect=502)).headers


async def test_preflights_have_no_side_effects(browser: Api, api: Api, emulator: Emulator) -> None:
    """Preflights need no key, trigger no faults and do not count towards rate limits."""
    emulator.add_fault(Fault.parse("*,times=1:status=503"))
    before = (await browser.call("OPTIONS", "/videos", headers=preflight("POST"), expect=204)).headers
    after = (await browser.call("OPTIONS", "/videos", headers=preflight("POST"), expect=204)).headers
    assert before["X-RateLimit-Remaining"] == after["X-RateLimit-Remaining"]
    await api.get("/videos", expect=503)


@pytest.mark.parametrize("headers", [{}, {"Origin": ORIGIN}, {"Access-Control-Request-Method": "POST"}])
async def test_other_options_requests(browser: Api, headers: dict[str, str]) -> None:
    """An OPTIONS request that is not a preflight gets 405."""
    await browser.call("OPTIONS", "/videos", headers=headers, expect=405)


@pytest.mark.parametrize("path", ["/", "/_emulator/events", "/_emulator/reset", "/_emulator/nothing"])
async def test_the_page_is_closed(browser: Api, path: str) -> None:
    """Preflights and requests of other sites for the page are refused."""
    for method, headers in (("OPTIONS", preflight("POST")), ("GET", {"Origin": ORIGIN})):
        reply = await browser.call(method, path, headers=headers, expect=403)
        assert reply.slug == "forbidden-origin"
        assert "Access-Control-Allow-Origin" not in reply.headers


async def test_wrong_hosts_are_refused(browser: Api) -> None:
    """A preflight for another host name gets 421."""
    reply = await browser.call(
        "OPTIONS", "/videos", headers={**preflight("POST"), "Host": "x.example"}, expect=421
    )
    assert "Access-Control-Allow-Origin" not in reply.headers
