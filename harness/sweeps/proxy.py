"""A proxy between a command and an emulator that forwards requests and can change responses.

It implements only what this needs of HTTP: one request at a time on a connection, and bodies of known length.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from harness.service import Service

Headers = tuple[tuple[bytes, bytes], ...]

_ENDPOINTS: Final = (
    ("auth", r"POST /auth/api-key"),
    ("refresh", r"POST /auth/refresh"),
    ("create", r"POST /videos$"),
    ("upload", r"POST /(videos/[^/]+/source|upload)"),
    ("status", r"GET /videos/[^/]+/status"),
    ("list", r"GET /videos$"),
    ("get", r"GET /videos/[^/]+$"),
    ("update", r"PATCH /videos/[^/]+$"),
    ("delete", r"DELETE /videos/[^/]+$"),
    ("tokens", r".* /upload-tokens"),
)
_BLOCK_BYTES: Final = 256 * 1024
_LINGER_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request.

    :ivar title: the title of its video, if known
    :ivar number: the Nth request of this endpoint and title
    """

    endpoint: str
    method: str
    path: str
    title: str | None
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A response, and how it is sent.

    :ivar status: the status in the first line; it may be invalid
    :ivar raw: sent instead of everything else
    :ivar trickle_seconds: pause after each byte
    :ivar keep: how many bytes to send before the connection is closed; None: all
    :ivar endless: sent again and again instead of the response, until the client disconnects
    :ivar own_length: whether ``Content-Length`` is set to the length of the body
    """

    status: str
    reason: bytes
    headers: Headers
    body: bytes
    raw: bytes | None = None
    trickle_seconds: float = 0.0
    keep: int | None = None
    endless: bytes = b""
    own_length: bool = True

    def header(self, name: bytes) -> bytes | None:
        """The value of a header."""
        return next((value for known, value in self.headers if known.lower() == name.lower()), None)

    def with_header(self, name: bytes, value: bytes) -> Response:
        """A copy with this header instead of the existing one."""
        kept = tuple((known, one) for known, one in self.headers if known.lower() != name.lower())
        return replace(self, headers=(*kept, (name, value)))

    def data(self) -> bytes:
        """The bytes to send."""
        if self.raw is not None:
            return self.raw
        headers = self.headers
        if self.own_length:
            kept = tuple((name, value) for name, value in headers if name.lower() != b"content-length")
            headers = (*kept, (b"Content-Length", b"%d" % len(self.body)))
        lines = [b"HTTP/1.1 %s %s" % (self.status.encode(), self.reason), *(b"%s: %s" % one for one in headers)]
        return b"\r\n".join([*lines, b"", self.body])


Transform = Callable[[Request, Response], Response]


def unchanged(_: Request, response: Response) -> Response:
    """Return the response as it is."""
    return response


@dataclass(eq=False)
class Proxy:
    """See the module.

    :ivar transform: changes each response
    :ivar on_request: called before a request is forwarded
    :ivar is_down: close every connection at once
    """

    url: str
    transform: Transform = unchanged
    on_request: Callable[[Request], Awaitable[None]] | None = None
    is_down: bool = False
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    _titles: dict[str, str] = field(default_factory=dict)
    _counts: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    def cut_all(self) -> None:
        """Close all connections."""
        for writer in list(self._open):
            writer.transport.abort()

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
        """Listen on any free port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=tls, limit=2**20)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut_all()
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if not self.is_down:
                while await self._exchange(reader, writer):
                    pass
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            pass
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Handle one request. Returns whether the connection can be used for another one."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = _length(head)
        address = urlsplit(self.url)
        upstream_reader, upstream = await asyncio.open_connection(address.hostname, address.port, limit=2**20)
        self._open.add(upstream)
        try:
            start = (
                await reader.readexactly(length) if length < _BLOCK_BYTES and b"100-continue" not in head else b""
            )
            request = self._request(head, start)
            if self.on_request is not None:
                await self.on_request(request)
            upstream.write(head + start)
            pump = asyncio.create_task(_pump(reader, upstream, length - len(start)))
            try:
                response = await _response(upstream_reader, writer, request)
                self._remember_title(request, response)
                is_whole = await _send(self.transform(request, response), writer)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LINGER_SECONDS):
                        await pump
                return is_whole and pump.done() and not pump.cancelled()
            finally:
                pump.cancel()
                await asyncio.gather(pump, return_exceptions=True)
        finally:
            self._open.discard(upstream)
            upstream.transport.abort()

    def _request(self, head: bytes, body: bytes) -> Request:
        method, target = head.split(b"\r\n")[0].decode("latin-1").split(" ")[:2]
        path = urlsplit(target).path
        endpoint = next((name for name, like in _ENDPOINTS if re.match(like, f"{method} {path}")), "other")
        title = next((title for video_id, title in self._titles.items() if f"/{video_id}" in path), None)
        if endpoint == "create":
            with suppress(ValueError, AttributeError):
                title = json.loads(body).get("title")
        self._counts[endpoint, title] += 1
        request = Request(
            endpoint=endpoint, method=method, path=path, title=title, number=self._counts[endpoint, title]
        )
        self.requests.append(request)
        return request

    def _remember_title(self, request: Request, response: Response) -> None:
        if request.endpoint == "create" and request.title is not None:
            with suppress(ValueError, KeyError, TypeError):
                self._titles[json.loads(response.body)["videoId"]] = request.title


def _length(head: bytes) -> int:
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)\r\n", head)
    return int(found[1]) if found else 0


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int) -> None:
    while left:
        block = await reader.read(min(left, _BLOCK_BYTES))
        if not block:
            writer.transport.abort()
            return
        left -= len(block)
        writer.write(block)
        await writer.drain()


async def _response(
    upstream_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request
) -> Response:
    while True:
        head = await upstream_reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].split(b"\r\n")
        _, status, *reason = first.split(b" ", 2)
        if not status.startswith(b"1"):
            break
        writer.write(head)
    headers = tuple((name, value.strip()) for name, _, value in (line.partition(b":") for line in lines))
    has_body = status not in (b"204", b"304") and request.method != "HEAD"
    body = await upstream_reader.readexactly(_length(head)) if has_body else b""
    return Response(status=status.decode(), reason=b" ".join(reason), headers=headers, body=body)


async def _send(response: Response, writer: asyncio.StreamWriter) -> bool:
    """Send a response. Returns whether the connection can be used again."""
    while response.endless:
        writer.write(response.endless)
        await writer.drain()
        await asyncio.sleep(0.02)
        if writer.transport.is_closing():
            return False
    data = response.data()
    is_whole = response.raw is None and response.keep is None and response.own_length
    data = data[: response.keep]
    if response.trickle_seconds:
        for byte in data:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(response.trickle_seconds)
            if writer.transport.is_closing():
                return False
    else:
        writer.write(data)
    await writer.drain()
    if not is_whole:
        with suppress(OSError, RuntimeError):
            writer.write_eof()
    return is_whole


@contextmanager
def proxied(
    service: Service,
    transform: Transform = unchanged,
    *,
    on_request: Callable[[Request], Awaitable[None]] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Proxy]:
    """Run a proxy in front of a service."""
    proxy = Proxy(url=service.emulator.url, transform=transform, on_request=on_request)

    async def running() -> object:
        return proxy.running(tls)

    with service.portal.wrap_async_context_manager(service.portal.call(partial(_made, proxy, tls))):
        yield proxy


async def _made(proxy: Proxy, tls: ssl.SSLContext | None):  # type: ignore[no-untyped-def]
    return proxy.running(tls)
