"""Servers of raw bytes: one between an uploader and the emulator that changes responses, and one with a script."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from async_uploader.emulator import Emulator

Handler = Callable[["Request", asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request with its body."""

    method: str
    path: str
    head: bytes
    body: bytes


@asynccontextmanager
async def serving(handle: Handler, **settings: Any) -> AsyncIterator[str]:
    """Run a server that passes each request to ``handle`` and then closes the connection; yields its URL."""
    tasks: set[asyncio.Task[Any]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await handle(await _request(reader, writer), writer)
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, **settings)
    try:
        scheme = "https" if settings.get("ssl") else "http"
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    if "expect" in headers:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        head = head.replace(f"Expect: {headers['expect']}\r\n".encode(), b"")
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, path, _ = first.split(" ")
    return Request(method=method, path=path, head=head, body=body)


def response(status: int, document: object, *headers: str) -> bytes:
    """A complete response with a JSON body."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    lines = (f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers, "Connection: close", "", "")
    return "\r\n".join(lines).encode() + body


LOGIN: Final = {"access_token": "an-access-token", "refresh_token": "a-refresh-token", "expires_in": 3600}


@asynccontextmanager
async def between(emulator: Emulator, change: Callable[[Request, bytes], bytes]) -> AsyncIterator[str]:
    """Run a proxy in front of an emulator that responds with ``change(request, response)``; yields its URL."""
    there = urlsplit(emulator.url)

    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        reader, onward = await asyncio.open_connection(there.hostname, there.port)
        try:
            onward.write(request.head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) + request.body)
            response_bytes = await reader.read()
        finally:
            onward.close()
        writer.write(change(request, response_bytes))
        await writer.drain()

    async with serving(handle) as url:
        yield url


# JSON texts that replace a value of the service.
_ODD_JSON: Final = (
    "null", "[]", "{}", '""', '"x"', "0", "-1", "true", "1.5", '"123"', "1e999", "NaN", "-Infinity", "9" * 5000,
    "9" * 400, '"\\ud800"', '"\\u001b[31m\\r\\nX-Evil: 1"', "[null, null]", '[{"key": null}, 7]',
    "[" * 2000 + "]" * 2000,
    '{"0": 1, "2": null}', '{"a": ' * 500 + "1" + "}" * 500, '"' + "y" * 100_000 + '"', '"/../"', '"é"',
)  # fmt: skip
_ODD_BODIES: Final = (
    b"",
    b"[]",
    b"null",
    b"<html>",
    b'{"a"',
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"\xff\xfe\x00",
    b"7",
)
_ODD_NUMBERS: Final = ("9" * 400, "9" * 5000, "-1", "nan", "inf", "1e300", "", "x", "\xb2", "0x10", "1_0", "1.5")
_ODD_HEADERS: Final = (
    *(f"{name}: {value}" for name in ("X-RateLimit-Limit", "X-RateLimit-Remaining") for value in _ODD_NUMBERS),
    *(f"X-RateLimit-Retry-After: {value}" for value in _ODD_NUMBERS),
    *(f"Retry-After: {value}" for value in (*_ODD_NUMBERS, "Mon, 01 Jan 99999 00:00:00 GMT", "Fri, 32 Foo")),
    "Content-Type: \xff/\xfe; charset=nothing", "Content-Encoding: gzip", "Content-Encoding: br",
    "Date: yesterday",
    "Set-Cookie: \x01=;;;=", "X-Long: " + "a" * 7000, "Transfer-Encoding: chunked", "Content-Length: 5",
)  # fmt: skip
_HOLE: Final = "here goes something odd"


def mutated(response_bytes: bytes, rng: random.Random) -> bytes:
    """A response with one change: to a field, the body, a header or the status line."""
    head, _, body = response_bytes.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    choice = rng.random()
    if choice < 0.6:
        body = _with_changed_field(body, rng)
    elif choice < 0.7:
        body = rng.choice(_ODD_BODIES)
    elif choice < 0.95:
        odd = rng.choice(_ODD_HEADERS)
        name = odd.partition(":")[0].lower().encode()
        lines = [line for line in lines if not line.lower().startswith(name + b":")] + [odd.encode("latin-1")]
    else:
        lines[0] = rng.choice(
            (b"HTTP/1.1 200 \xff\xfe", b"HTTP/1.1 999 x", b"HTTP/9.9 200 OK", b"", b"HTTP/1.1 204 x")
        )
    if not any(line.lower().startswith(b"transfer-encoding") for line in lines) or choice < 0.7:
        lines = [line for line in lines if not line.lower().startswith((b"content-length", b"transfer-encoding"))]
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _with_changed_field(body: bytes, rng: random.Random) -> bytes:
    try:
        document = json.loads(body)
    except ValueError:
        return rng.choice(_ODD_BODIES)
    holders = list(_holders(document))
    if not holders:
        return rng.choice(_ODD_BODIES)
    holder = rng.choice(holders)
    key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    if isinstance(holder, dict) and rng.random() < 0.1:
        del holder[key]
    else:
        holder[key] = _HOLE
    return json.dumps(document).replace(f'"{_HOLE}"', rng.choice(_ODD_JSON)).encode()


def _holders(value: Any) -> Any:
    if value and isinstance(value, dict | list):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _holders(inner)
