"""A small HTTP server of one object, read by ranges as from a web server or S3, with faults as data."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Self

_HEAD_END: Final = b"\r\n\r\n"
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d+)")
_BLOCK_BYTES: Final = 256 * 1024
_LAST_MODIFIED: Final = "Wed, 01 Jan 2025 00:00:00 GMT"
_NEW_LAST_MODIFIED: Final = "Thu, 01 Jan 2026 00:00:00 GMT"
_ETAG: Final = '"version-1"'
_NEW_ETAG: Final = '"version-2"'


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFault:
    """What is wrong with some responses.

    :ivar skip: number of requests before the first affected one; the first request inspects the object
    :ivar times: number of affected requests; None: all
    :ivar status: the status instead of 206, with an empty body
    :ivar cut_after: share of the body after which the connection is cut
    :ivar stall_after: share of the body after which nothing more is sent
    :ivar is_silent: no response at all
    :ivar bytes_per_second: rate of the body
    :ivar headers: replaced headers; None removes one
    :ivar ignores_range: the whole object, with status 200
    :ivar shifts_range: the range that follows the requested one
    :ivar surplus_bytes: how much longer the response is than the requested range
    :ivar changes: from the first affected request on, the object has another version
    """

    skip: int = 1
    times: int | None = 1
    status: int | None = None
    cut_after: float | None = None
    stall_after: float | None = None
    is_silent: bool = False
    bytes_per_second: int | None = None
    headers: Mapping[str, str | None] | None = None
    ignores_range: bool = False
    shifts_range: bool = False
    surplus_bytes: int = 0
    changes: bool = False

    def affects(self, number: int) -> bool:
        """Whether this fault affects a request, counted from 0."""
        return self.skip <= number and (self.times is None or number < self.skip + self.times)


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeRequest:
    """A request that the server has received. Names of headers are in lower case."""

    target: str
    headers: Mapping[str, str]


class RangeServer:
    """Serves one object at every path, in the running event loop. Use as an async context manager.

    :ivar connections: number of connections so far
    :ivar sent_bytes: bytes of bodies that the operating system has accepted so far

    :param headers: headers of all responses, besides those of ranges; None removes one
    :param honors_conditions: whether ``If-Match`` is checked
    :param tls: serve https with this context; None: http
    """

    def __init__(
        self,
        content: bytes,
        *faults: SourceFault,
        headers: Mapping[str, str | None] | None = None,
        honors_conditions: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._content = content
        self._faults = faults
        self._headers = {"ETag": _ETAG, "Last-Modified": _LAST_MODIFIED, **(headers or {})}
        self._honors_conditions = honors_conditions
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[RangeRequest] = []
        self.connections = self.sent_bytes = 0
        self.is_changed = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def url(self, target: str = "movie.mp4") -> str:
        """The URL of the object."""
        return f"{self._address}/{target}"

    @property
    def _address(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def clear_faults(self) -> None:
        """Serve the object without faults from now on."""
        self._faults = ()

    @property
    def s3_environment(self) -> dict[str, str]:
        """The variables with which obstore reads this server as S3."""
        return s3_environment(self._address)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections += 1
        self._tasks.add(task)
        try:
            # Cancelled, asyncio's callback for connections would log an error.
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._respond((await reader.readuntil(_HEAD_END)).decode("latin-1"), writer):
                    pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _respond(self, head: str, writer: asyncio.StreamWriter) -> bool:
        """Send a response; returns False if the connection is to be cut."""
        request_line, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        number = len(self.requests)
        self.requests.append(RangeRequest(target=request_line.split(" ")[1], headers=headers))
        fault = next((fault for fault in self._faults if fault.affects(number)), SourceFault())
        self.is_changed |= fault.changes
        if fault.is_silent:
            await asyncio.Event().wait()
        status, fields, body = self._response(headers, fault)
        lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
        writer.write(
            "\r\n".join((f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *lines, "", "")).encode("latin-1")
        )
        return await self._send_body(writer, body, fault)

    def _response(
        self, request: Mapping[str, str], fault: SourceFault
    ) -> tuple[int, dict[str, str | None], memoryview]:
        fields: dict[str, str | None] = {**self._headers, **(fault.headers or {})}
        if self.is_changed and fields["ETag"]:
            fields["ETag"] = _NEW_ETAG
        if self.is_changed and fields["Last-Modified"]:
            fields["Last-Modified"] = _NEW_LAST_MODIFIED
        status, body, total = self._select(request, fields["ETag"], fault)
        if isinstance(body, range):
            if status == HTTPStatus.PARTIAL_CONTENT:
                fields.setdefault("Content-Range", f"bytes {body.start}-{body.stop - 1}/{total}")
            content = memoryview(self._content)[body.start : body.stop]
        else:
            content = memoryview(b"")
            if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                fields["Content-Range"] = f"bytes */{total}"
        fields["Content-Length"] = str(len(content))
        return status, fields, content

    def _select(
        self, request: Mapping[str, str], etag: str | None, fault: SourceFault
    ) -> tuple[int, range | None, int]:
        total = len(self._content)
        if fault.status is not None:
            return fault.status, None, total
        if self._honors_conditions and request.get("if-match", etag) != etag:
            return HTTPStatus.PRECONDITION_FAILED, None, total
        match = _RANGE.fullmatch(request.get("range", ""))
        if match is None or fault.ignores_range:
            return HTTPStatus.OK, range(total), total
        first, last = int(match[1]), int(match[2])
        if first >= total:
            return HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, None, total
        shift = last + 1 - first if fault.shifts_range else 0
        stop = min(total, last + 1 + fault.surplus_bytes + shift)
        return HTTPStatus.PARTIAL_CONTENT, range(min(first + shift, stop - 1), stop), total

    async def _send_body(self, writer: asyncio.StreamWriter, body: memoryview, fault: SourceFault) -> bool:
        shares = [share for share in (fault.cut_after, fault.stall_after) if share is not None]
        count = int(len(body) * shares[0]) if shares else len(body)
        for start in range(0, count, _BLOCK_BYTES):
            block = body[start : min(start + _BLOCK_BYTES, count)]
            writer.write(block)
            await writer.drain()
            self.sent_bytes += len(block)
            if fault.bytes_per_second is not None:
                await asyncio.sleep(len(block) / fault.bytes_per_second)
        await writer.drain()
        if fault.stall_after is not None:
            await asyncio.Event().wait()
        if fault.cut_after is not None:
            writer.transport.close()  # after the bytes that are buffered
            await asyncio.sleep(0.01)
            return False
        return True


def s3_environment(endpoint: str) -> dict[str, str]:
    """The variables of S3 for an endpoint that accepts any credentials."""
    return {
        "AWS_ACCESS_KEY_ID": S3_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": S3_SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
    }


#: Credentials that must appear nowhere.
S3_KEY_ID: Final = "AKIAKEYIDOFTHETESTS"
S3_SECRET: Final = "secret-key-of-the-tests"
