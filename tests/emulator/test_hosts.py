"""Only requests for this machine's names are served, which prevents DNS rebinding."""

from __future__ import annotations

import json
import logging
import socket

import aiohttp
import pytest

from async_uploader.emulator import Emulator
from async_uploader.emulator._http.hosts import parse_name

from .conftest import Api, basic
from .raw import Raw, RawResponse

pytestmark = pytest.mark.anyio

PAGE, API = "GET /", "GET /videos"


async def send_request(url: str, request: str, *headers: str, body: bytes = b"") -> RawResponse:
    """Send a request with only these headers and an authorization."""
    lines = [f"{request} HTTP/1.1", f"Authorization: {basic('local-key')}", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    async with Raw(url) as raw:
        await raw.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return await raw.response()


SERVED = [
    "localhost", "localhost:80", "LOCALHOST", "localhost.", "videos.localhost", "a.b.localhost:1", "localhost:",
    "127.0.0.1", "127.0.0.1:65535", "127.8.8.8", "[::1]", "[::1]:8000", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]",
    "[::1%25lo]", "named.example", "NAMED.example.:99", "192.0.2.7", "[2001:db8::7]:1", "xn--bcher-kva.example",
]  # fmt: skip
REFUSED = [
    "", "evil.example", "evil.example:80", "localhost.evil.example", "localhost@evil.example",
    "evil.example@localhost", "localhost:80@evil.example", "user:pass@localhost", "evil.example#localhost",
    "evil.example/localhost",
    "evil.example?localhost", "localhost, evil.example", "evil.example localhost", "localhost evil.example",
    "http://localhost", "localhost:80:80", "localhost:x", "localhost..", ".localhost", "..localhost", "xlocalhost",
    "127.0.0.1.evil.example", "127.0.0.1.x.example", "0.0.0.0", "10.0.0.1", "192.0.2.8", "[::2]", "[::1", "::1]",
    "::1",
    "[localhost]", "[127.0.0.1]evil", "2130706433", "0x7f.1", "127.1", "%6cocalhost", "l\xf6calhost",
    "localhost\x85", "x" * 5000, "[fe80::1%25eth0]", "named.example.evil",
]  # fmt: skip


@pytest.mark.parametrize("request_line", [PAGE, API])
async def test_hosts(request_line: str, caplog: pytest.LogCaptureFixture) -> None:
    """The page and the API check the `Host` header."""
    allowed = ["named.example", "192.0.2.7", "2001:db8::7", "xn--bcher-kva.example"]
    async with Emulator(allowed_hosts=allowed) as emulator:
        for host in SERVED:
            assert (await send_request(emulator.url, request_line, f"Host: {host}")).status == 200, host
        assert caplog.records == []
        for host in REFUSED:
            response = await send_request(emulator.url, request_line, f"Host: {host}")
            assert response.status == 421, host
            assert response.slug == "misdirected-request"
            assert response.headers["content-type"] == "application/problem+json"
            assert json.loads(response.body)["name"] == "Host"
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert (
        "Refused a request for 'evil.example'; use --allow-host (allowed_hosts) to serve more names." in warnings
    )
    assert len(warnings) == 20  # the log is bounded
    assert max(map(len, warnings)) < 300


@pytest.mark.parametrize(
    "headers", [[], ["Host: localhost", "Host: evil.example"], ["Host: localhost", "Host: localhost"]], ids=len
)
async def test_no_host_and_several_hosts(emulator: Emulator, headers: list[str]) -> None:
    """HTTP/1.1 requires exactly one `Host`."""
    assert (await send_request(emulator.url, API, *headers)).status in (400, 421)


async def test_http_1_0_without_a_host(emulator: Emulator) -> None:
    """HTTP/1.0 allows requests without a `Host`; these are refused."""
    async with Raw(emulator.url) as raw:
        await raw.send(b"GET / HTTP/1.0\r\n\r\n")
        assert (await raw.response()).status == 421


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://localhost/videos", 200),
        ("http://evil.example/videos", 421),
        ("http://a:b@evil.example:1/videos", 421),
    ],
)
async def test_absolute_urls(emulator: Emulator, target: str, status: int) -> None:
    """The host of an absolute URL replaces the `Host` header."""
    assert (await send_request(emulator.url, f"GET {target}", "Host: localhost")).status == status


async def test_all_requests_are_refused(emulator: Emulator) -> None:
    """Refusals include requests without a key, unknown URLs and uploads. Nothing changes, and all are logged."""
    headers = ("Host: evil.example", "Content-Type: text/plain")
    requests = {
        "POST /auth/api-key": b'{"apiKey": "local-key"}',
        "POST /videos": b'{"title": "x", "source": "http://127.0.0.1:1/"}',
        "POST /upload?token=to": b"x" * 100_000,
        "DELETE /videos/vi1": b"",
        "OPTIONS *": b"",
        "GET /_emulator/events": b"",
        "GET /_emulator/page.js": b"",
        "GET /vod/vi1/mp4/source.mp4": b"",
        "HEAD /embed/vod/vi1": b"",
        "GET /nowhere": b"",
    }
    for request, body in requests.items():
        async with Raw(emulator.url) as raw:
            lines = [f"{request} HTTP/1.1", *headers, f"Content-Length: {len(body)}", "Connection: close", "", ""]
            await raw.send("\r\n".join(lines).encode() + body)
            assert (await raw.read_to_end()).startswith(b"HTTP/1.1 421 "), request
    assert not emulator.videos
    assert emulator.statistics().logins == 0
    assert [record.status for record in emulator.requests] == [421] * len(requests)


async def test_refusals_trigger_no_fault(session: aiohttp.ClientSession) -> None:
    """Faults apply only to requests that are served."""
    from async_uploader.emulator import Fault

    async with Emulator(faults=[Fault.parse("list,times=1:status=503")]) as emulator:
        assert (await send_request(emulator.url, API, "Host: evil.example")).status == 421
        assert (await send_request(emulator.url, API, "Host: localhost")).status == 503


async def test_the_address_it_listens_on(session: aiohttp.ClientSession) -> None:
    """The host that the emulator listens on is served."""
    async with Emulator(host=socket.gethostname()) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        await api.get("/videos", expect=200)
        assert (await send_request(emulator.url, API, f"Host: {socket.gethostname()}")).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_all_interfaces(host: str) -> None:
    """Each address of this machine is served, but only on connections to it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; selects the local address
            address = probe.getsockname()[0]
        except OSError:
            address = "127.0.0.2"
    async with Emulator(host=host) as emulator:
        port = emulator.url.rpartition(":")[2]
        by_address = f"http://{address}:{port}"
        assert (await send_request(by_address, API, f"Host: {address}:{port}")).status == 200
        assert (await send_request(by_address, API, "Host: 192.0.2.99")).status == 421
        assert (await send_request(by_address, API, "Host: evil.example")).status == 421
        assert (await send_request(emulator.url, API, "Host: localhost")).status == 200


@pytest.mark.parametrize("name", ["", "a b", "a:80", "http://a", "a/b", "user@a", "*", "a..b", "[::1]"])
def test_impossible_names(name: str) -> None:
    """Invalid names are refused at once."""
    with pytest.raises(ValueError, match="An allowed host must be a name or an IP address without a port"):
        Emulator(allowed_hosts=[name])


def test_names() -> None:
    """Equivalent names are equal."""
    assert parse_name("A.Example.") == parse_name("a.example")
    assert parse_name("::ffff:10.0.0.1") == parse_name("10.0.0.1")
    assert parse_name("fe80::1%eth0") == parse_name("FE80::1")


# Requests from other sites


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "https://localhost:1", "null", "", "http://localhost.evil.example"]
)
@pytest.mark.parametrize(
    "request_line", [PAGE, "GET /_emulator/events", "GET /_emulator/page.js", "POST /_emulator/reset"]
)
async def test_the_page_refuses_other_sites(emulator: Emulator, request_line: str, origin: str) -> None:
    """Requests from other sites to the page are refused, simple requests included."""
    response = await send_request(
        emulator.url, request_line, "Host: localhost", f"Origin: {origin}", "Content-Type: text/plain", body=b"{}"
    )
    assert (response.status, response.slug) == (403, "forbidden-origin")


async def test_the_page_serves_its_own_requests(emulator: Emulator) -> None:
    """Requests with the page's own origin are served."""
    for host in ("localhost:80", "127.0.0.1:1234"):
        for request_line in (PAGE, "GET /_emulator/page.js"):
            assert (
                await send_request(emulator.url, request_line, f"Host: {host}", f"Origin: http://{host}")
            ).status == 200


async def test_the_api_serves_other_sites(emulator: Emulator) -> None:
    """api.video's browser clients upload from any site, with a key or a token."""
    assert (await send_request(emulator.url, API, "Host: localhost", "Origin: http://app.example")).status == 200


async def test_browsers_do_not_ask_for_a_password(emulator: Emulator) -> None:
    """Otherwise a form of another site could be sent with stored credentials."""
    async with Raw(emulator.url) as raw:
        await raw.send(b"POST /videos HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        response = await raw.response()
    assert response.status == 401
    assert "www-authenticate" not in response.headers
