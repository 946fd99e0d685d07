"""TLS handshakes that fail, and invalid certificates."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp.connector
import pytest
import trustme

from async_uploader import (
    TransportError,
)
from harness.world import KEY, QuickClient, check_sentence

from .proxy import Request, serving

pytestmark = pytest.mark.anyio


@pytest.fixture
def ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """A certificate authority that this process trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    # aiohttp creates its context when it is imported.
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", context)
    return authority


def _server(ca: trustme.CA, *names: str, **settings: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*(names or ("127.0.0.1",)), **settings).configure_cert(context)
    return context


async def _never(_: Request, __: asyncio.StreamWriter) -> None:
    pytest.fail("a request was sent")


async def _failing_with(url: str) -> TransportError:
    async with QuickClient(api_key=KEY, base_url=url) as client:
        with pytest.raises(TransportError) as caught:
            await client._service.get_video("vi1")
    check_sentence(str(caught.value))
    return caught.value


# How a server refuses a handshake: with an alert (RFC 8446, section 6), or with another protocol.
HANDSHAKES: Final = {
    "no version in common": (
        b"\x15\x03\x01\x00\x02\x02\x46",
        "the server and this machine have no TLS version in common",
    ),
    "no cipher in common": (b"\x15\x03\x03\x00\x02\x02\x28", "the server refused it (handshake failure)"),
    "no TLS": (
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        "the server does not speak TLS; check the address and the port",
    ),
    "closed": (
        b"",
        "the connection was closed; perhaps the server and this machine have no TLS version in common",
    ),
}


@pytest.mark.parametrize(("response_bytes", "says"), HANDSHAKES.values(), ids=HANDSHAKES)
async def test_failed_handshake(response_bytes: bytes, says: str) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10_000)
        writer.write(response_bytes)
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        error = await _failing_with(f"https://127.0.0.1:{port}")
    assert str(error) == f"No response from the service: TLS handshake with 127.0.0.1:{port} failed: {says}."
    assert error.retryable is (response_bytes == b"")


async def test_no_tls_version_in_common_with_a_real_server(ca: trustme.CA) -> None:
    context = _server(ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    client_context = aiohttp.connector._SSL_CONTEXT_VERIFIED
    client_context.minimum_version = ssl.TLSVersion.TLSv1_3
    async with serving(_never, ssl=context) as url:
        error = await _failing_with(url)
    assert f"TLS handshake with {url.removeprefix('https://')} failed: " in str(error)
    assert "have no TLS version in common" in str(error)


@pytest.mark.parametrize(
    ("names", "begins", "ends", "says"),
    [
        ((), -9, -1, "has expired; check the clock of this machine, or ask the operator to renew it"),
        ((), 1, 9, "is not valid yet; check the clock of this machine"),
        (("elsewhere.example",), -1, 9,
         "is for another name (IP address mismatch, certificate is not valid for '127.0.0.1')"),
    ],
    ids=["expired", "not yet valid", "another name"],
)  # fmt: skip
async def test_invalid_certificate(
    ca: trustme.CA, names: tuple[str, ...], begins: int, ends: int, says: str
) -> None:
    now = datetime.now(UTC)
    context = _server(ca, *names, not_before=now + timedelta(days=begins), not_after=now + timedelta(days=ends))
    async with serving(_never, ssl=context) as url:
        error = await _failing_with(url)
    assert str(error) == f"No response from the service: its certificate {says}."
    assert not error.retryable
