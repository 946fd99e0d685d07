"""No error contains a token: neither its text nor its chain of exceptions."""

from __future__ import annotations

import asyncio
import pickle
import traceback
from typing import Final
from unittest import mock

import pytest

from async_uploader import (
    TransportError,
    UploaderError,
    upload,
)
from harness.world import KEY, QuickClient

from .proxy import LOGIN, Handler, Request, response, serving

pytestmark = pytest.mark.anyio

TOKEN: Final = "to1Secret/that+must=not&show"
SHORT: Final = 0.3
SMALL: Final = b"a small video"


def _raw(response_bytes: bytes, *, abort: bool = False) -> Handler:
    async def handle(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(response_bytes)
        if abort:
            writer.transport.abort()

    return handle


async def _stalls(_: Request, __: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


FAILURES: Final[dict[str, Handler]] = {
    "closed": _raw(b""),
    "reset": _raw(b"", abort=True),
    "cut in the headers": _raw(b"HTTP/1.1 200 OK\r\nConte"),
    "cut in the body": _raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"),
    "no HTTP": _raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    "two lengths": _raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
    "bad chunks": _raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
    "bad gzip": _raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"),
    "long header": _raw(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n"),
    "stalls": _stalls,
    "refused": _raw(response(401, {"title": f"Bad token {TOKEN}", "detail": f"{TOKEN} is not a token"})),
    "unreadable": _raw(response(200, b"<html>")),
}


def check_hides(error: BaseException, *secrets: str) -> None:
    """Check that neither the error nor an exception in its chain contains a secret."""
    text = "".join(traceback.format_exception(error))
    chain: list[BaseException] = [error]
    for one in chain:
        text += f"{one!s} {one!r} {one.args!r} {vars(one)!r}"
        chain += [other for other in (one.__cause__, one.__context__) if other is not None and other not in chain]
        assert not hasattr(one, "request_info")
    text += repr(pickle.dumps(error))
    for secret in secrets:
        assert secret not in text


@pytest.mark.parametrize("big", [False, True], ids=["small", "big"])
@pytest.mark.parametrize("handle", FAILURES.values(), ids=FAILURES)
async def test_no_token_in_the_chain(handle: Handler, big: bool) -> None:
    source = bytes(30 * 1024 * 1024) if big else SMALL
    async with serving(handle) as url:
        with pytest.raises(UploaderError) as caught:
            await upload(source, upload_token=TOKEN, base_url=url, max_attempts=2, stall_timeout=SHORT)
    check_hides(caught.value, TOKEN, TOKEN[:9])


async def _closes_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1000)
    writer.transport.abort()


async def test_no_token_in_the_chain_if_the_body_cannot_be_written() -> None:
    """The error of aiohttp contains the URL."""
    server = await asyncio.start_server(_closes_early, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(UploaderError) as caught:
            await upload(bytes(30 * 1024 * 1024), upload_token=TOKEN, base_url=url, max_attempts=2)
    check_hides(caught.value, TOKEN, TOKEN[:9])


async def test_no_token_in_the_chain_if_the_connection_is_refused() -> None:
    with pytest.raises(UploaderError) as caught:
        await upload(SMALL, upload_token=TOKEN, base_url="http://127.0.0.1:9", max_attempts=1)
    check_hides(caught.value, TOKEN, TOKEN[:9])
    assert isinstance(caught.value.__cause__, TransportError)
    assert isinstance(caught.value.__cause__.__cause__, Exception)


@pytest.mark.parametrize("name", ["closed", "cut in the body", "no HTTP", "bad chunks"])
async def test_no_bearer_token_in_the_chain(name: str) -> None:
    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path.startswith("/auth"):
            writer.write(response(200, LOGIN))
        else:
            await FAILURES[name](request, writer)

    async with serving(handle) as url, QuickClient(api_key=KEY, base_url=url) as client:
        with pytest.raises(TransportError) as caught:
            await client._service.get_upload_token(TOKEN)
    check_hides(caught.value, TOKEN, TOKEN[:9], str(LOGIN["access_token"]), KEY)


async def test_unexpected_exception_while_reading_a_response_is_translated() -> None:
    async with serving(_raw(response(200, LOGIN))) as url, QuickClient(api_key=KEY, base_url=url) as client:
        with (
            mock.patch("aiohttp.StreamReader.read", side_effect=LookupError(f"unexpected {TOKEN}")),
            pytest.raises(TransportError, match=r"the response could not be read\.") as caught,
        ):
            await client._service.get_video("vi1")
    assert caught.value.__cause__ is not None
    check_hides(caught.value, TOKEN)
