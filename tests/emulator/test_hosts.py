"""Only requests for this machine's own names are served: a web page's own name, resolved to it, is not one."""

from __future__ import annotations

import json
import logging
import socket

import aiohttp
import pytest

from async_uploader.emulator import Emulator
from async_uploader.emulator._hosts import name_of

from .conftest import Api, basic
from .raw import Raw, RawAnswer

pytestmark = pytest.mark.anyio

PAGE, API = "GET /", "GET /videos"


async def ask(url: str, request: str, *headers: str, body: bytes = b"") -> RawAnswer:
    """One request, with these headers and no other but an authorization."""
    lines = [f"{request} HTTP/1.1", f"Authorization: {basic('local-key')}", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    async with Raw(url) as raw:
        await raw.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return await raw.answer()


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
    """Both the page and the API look at nothing but the one `Host`."""
    allowed = ["named.example", "192.0.2.7", "2001:db8::7", "xn--bcher-kva.example"]
    async with Emulator(allowed_hosts=allowed) as emulator:
        for host in SERVED:
            assert (await ask(emulator.url, request_line, f"Host: {host}")).status == 200, host
        assert caplog.records == []
        for host in REFUSED:
            answer = await ask(emulator.url, request_line, f"Host: {host}")
            assert answer.status == 421, host
            assert answer.slug == "misdirected-request"
            assert answer.headers["content-type"] == "application/problem+json"
            assert json.loads(answer.body)["name"] == "Host"
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "Refused a request for 'evil.example'; --allow-host (allowed_hosts) serves more names." in warnings
    assert len(warnings) == 20  # whoever asks, the log does not grow for ever
    assert max(map(len, warnings)) < 300


@pytest.mark.parametrize(
    "headers", [[], ["Host: localhost", "Host: evil.example"], ["Host: localhost", "Host: localhost"]], ids=len
)
async def test_none_and_several(emulator: Emulator, headers: list[str]) -> None:
    """They are no HTTP/1.1 at all."""
    assert (await ask(emulator.url, API, *headers)).status in (400, 421)


async def test_old_http_without_a_host(emulator: Emulator) -> None:
    """HTTP/1.0 knows requests without one: nobody can tell whom they are for."""
    async with Raw(emulator.url) as raw:
        await raw.send(b"GET / HTTP/1.0\r\n\r\n")
        assert (await raw.answer()).status == 421


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://localhost/videos", 200),
        ("http://evil.example/videos", 421),
        ("http://a:b@evil.example:1/videos", 421),
    ],
)
async def test_whole_urls(emulator: Emulator, target: str, status: int) -> None:
    """As a proxy gets them: then the URL's host is the one that counts."""
    assert (await ask(emulator.url, f"GET {target}", "Host: localhost")).status == status


async def test_everything_is_refused(emulator: Emulator) -> None:
    """Also what needs no key, what nobody knows, and uploads: nothing changes, and all is written down."""
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


async def test_no_fault_strikes(session: aiohttp.ClientSession) -> None:
    """They are there for the requests that are meant for it."""
    from async_uploader.emulator import Fault

    async with Emulator(faults=[Fault.parse("list,times=1:status=503")]) as emulator:
        assert (await ask(emulator.url, API, "Host: evil.example")).status == 421
        assert (await ask(emulator.url, API, "Host: localhost")).status == 503


async def test_the_address_it_listens_on(session: aiohttp.ClientSession) -> None:
    """A name counts as it was given; an address also where it stands for all of them."""
    async with Emulator(host=socket.gethostname()) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        await api.get("/videos", expect=200)
        assert (await ask(emulator.url, API, f"Host: {socket.gethostname()}")).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_all_interfaces(host: str) -> None:
    """Each of this machine's addresses is served to those who come by it, and by no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent; tells which address would be used
            address = probe.getsockname()[0]
        except OSError:
            address = "127.0.0.2"
    async with Emulator(host=host) as emulator:
        port = emulator.url.rpartition(":")[2]
        by_address = f"http://{address}:{port}"
        assert (await ask(by_address, API, f"Host: {address}:{port}")).status == 200
        assert (await ask(by_address, API, "Host: 192.0.2.99")).status == 421
        assert (await ask(by_address, API, "Host: evil.example")).status == 421
        assert (await ask(emulator.url, API, "Host: localhost")).status == 200


@pytest.mark.parametrize("name", ["", "a b", "a:80", "http://a", "a/b", "user@a", "*", "a..b", "[::1]"])
def test_impossible_names(name: str) -> None:
    """They are told where they enter."""
    with pytest.raises(ValueError, match="An allowed host is a name or an IP address without a port"):
        Emulator(allowed_hosts=[name])


def test_names() -> None:
    """What is the same is equal."""
    assert name_of("A.Example.") == name_of("a.example")
    assert name_of("::ffff:10.0.0.1") == name_of("10.0.0.1")
    assert name_of("fe80::1%eth0") == name_of("FE80::1")


# Other sites' pages


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "https://localhost:1", "null", "", "http://localhost.evil.example"]
)
@pytest.mark.parametrize(
    "request_line", [PAGE, "GET /_emulator/events", "GET /_emulator/page.js", "POST /_emulator/reset"]
)
async def test_the_page_is_for_itself(emulator: Emulator, request_line: str, origin: str) -> None:
    """What another site's page asks of it is refused, simple requests included."""
    answer = await ask(
        emulator.url, request_line, "Host: localhost", f"Origin: {origin}", "Content-Type: text/plain", body=b"{}"
    )
    assert (answer.status, answer.slug) == (403, "forbidden-origin")


async def test_the_pages_own_requests(emulator: Emulator) -> None:
    """With the origin that a browser sends for it."""
    for host in ("localhost:80", "127.0.0.1:1234"):
        for request_line in (PAGE, "GET /_emulator/page.js"):
            assert (await ask(emulator.url, request_line, f"Host: {host}", f"Origin: http://{host}")).status == 200


async def test_the_service_takes_other_sites(emulator: Emulator) -> None:
    """api.video's browser clients upload from anywhere, and a key or a token is their leave."""
    assert (await ask(emulator.url, API, "Host: localhost", "Origin: http://app.example")).status == 200


async def test_a_browser_is_asked_for_no_password(emulator: Emulator) -> None:
    """Or a form of another site could be sent with the key in its URL."""
    async with Raw(emulator.url) as raw:
        await raw.send(b"POST /videos HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        answer = await raw.answer()
    assert answer.status == 401
    assert "www-authenticate" not in answer.headers
