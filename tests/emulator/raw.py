"""HTTP over a plain socket, for requests that no client library sends."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from .conftest import basic


@dataclass(frozen=True)
class RawResponse:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def slug(self) -> str:
        problem: Any = json.loads(self.body)
        return str(problem["type"]).rpartition("/")[2]


class Raw:
    """One connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname, parts.port

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(*self._address)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def response(self) -> RawResponse:
        """Read the next response; a 100 has no body."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return RawResponse(int(first.split()[1]), headers, body)

    async def read_to_end(self) -> bytes:
        try:
            return await self._reader.read()
        except ConnectionError:
            return b""


def upload_head(
    video_id: str, content_range: str | None, size: int, more: str = "", *, authorization: str = basic("local-key")
) -> bytes:
    """An upload's headers and its form up to the first byte of the file; `\\r\\n--XX--\\r\\n` ends it."""
    before = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    length = len(before) + size + len(b"\r\n--XX--\r\n")
    ranged = "" if content_range is None else f"Content-Range: {content_range}\r\n"
    head = (
        f"POST /videos/{video_id}/source HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: {authorization}\r\n{ranged}{more}"
        f"Content-Type: multipart/form-data; boundary=XX\r\nContent-Length: {length}\r\n\r\n"
    )
    return head.encode() + before
