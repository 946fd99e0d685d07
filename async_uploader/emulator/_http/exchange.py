"""One request and its response: reads the body, triggers faults, and logs the request."""

from __future__ import annotations

import asyncio
import socket
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from async_uploader.emulator._faults import FOREVER, Endpoint, Fault, RequestFaults, When
from async_uploader.emulator._problems import Problem
from async_uploader.emulator._records import MessageHeaders, RequestRecord

from .throttle import MIN_BUFFER_BYTES, Pacer, pace

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from aiohttp import web

    from async_uploader.emulator._credentials import Credentials
    from async_uploader.emulator._records import RequestLog
    from async_uploader.emulator._rules import ContentRange

MAX_JSON_BYTES: Final = 1 << 20


class ConnectionCut(Exception):
    """A fault cuts the connection instead of a response."""


class FaultTriggered(Exception):
    """The response of a fault replaces the real one."""

    def __init__(self, fault: Fault, status: int) -> None:
        super().__init__(status)
        self.fault = fault
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestInfo:
    """What the URL and the headers of a request state.

    `path` is the path for the log, without secrets. `content_range` is None for a header that cannot be parsed,
    and for everything but uploads. `video_id` is the container that an upload names in its URL.
    """

    endpoint: Endpoint
    path: str
    attempt: int
    content_range: ContentRange | None
    video_id: str | None


class Exchange:
    """The state of one request while it is processed.

    :param refusal: why the request is refused before anything else; None if it is not
    :param pacers: limit how fast the body is read

    `video_id` is the container that the request used, `upload_target` the one that an upload names, even if the
    upload is refused.
    """

    def __init__(
        self,
        request: web.BaseRequest,
        info: RequestInfo,
        *,
        faults: RequestFaults,
        log: RequestLog,
        credentials: Credentials,
        pacers: Sequence[Pacer],
        refusal: Problem | None = None,
    ) -> None:
        self.request = request
        self.info = info
        self.refusal = refusal
        self.upload_target = info.video_id
        self.started_s = asyncio.get_running_loop().time()
        self.body_bytes = 0
        self.response: web.StreamResponse | None = None
        self.problem: str | None = None
        self.detail: str | None = None
        self.video_id: str | None = None
        self.is_stored = False
        self.is_duplicate = False
        self.is_completing = False
        self.is_behind_proxy = False
        self._faults = faults
        self._log = log
        self._credentials = credentials
        self._pacers = pacers

    @property
    def is_throttled(self) -> bool:
        """Whether the body is read at a limited rate. Then nothing else may delay the response."""
        return bool(self._pacers)

    @property
    def status(self) -> int | None:
        """The status of the response; None if none was sent."""
        return None if self.response is None else self.response.status

    @property
    def has_unread_body(self) -> bool:
        return self.request.body_exists and not self.request.content.at_eof()

    async def inject_faults(self, when: When) -> None:
        """Trigger the faults of this moment.

        :raises ConnectionCut, FaultTriggered: a fault ends the request
        """
        for fault in self._faults.trigger(when, is_completing=self.is_completing):
            self._log.notifier.notify()
            if fault.expire_tokens:
                self._credentials.expire_access_tokens()
            if fault.revoke_tokens:
                self._credentials.revoke_refresh_tokens()
            if fault.stall:
                await _stall(fault.stall)
            if fault.slow is not None:
                self._slow_down(fault.slow)
            if fault.cut:
                raise ConnectionCut
            if (status := fault.answer_status) is not None:
                raise FaultTriggered(fault, status)

    async def expect_body(self) -> None:
        """Send 100 to a client that waits for it (`Expect: 100-continue`). All header checks have passed."""
        if self.request.headers.get("Expect", "").lower() == "100-continue":
            await self.request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """Read the body at the limited rate, and trigger the faults of `middle` and `late`."""
        await self.expect_body()
        half = (self.request.content_length or 0) // 2
        is_before_middle = True
        while block := await self.request.content.readany():
            await self._count(len(block))
            if is_before_middle and half and self.body_bytes >= half:
                is_before_middle = False
                await self.inject_faults("middle")
            yield block
        if is_before_middle:
            await self.inject_faults("middle")
        await self.inject_faults("late")

    async def json(self) -> object:
        """Read the body as JSON.

        :raises Problem: it is not JSON, or too long
        """
        body = bytearray()
        async with aclosing(self.blocks()) as blocks:
            async for block in blocks:
                body += block
                if len(body) > MAX_JSON_BYTES:
                    raise Problem("invalid-payload", detail=f"The body has at most {MAX_JSON_BYTES} bytes.")
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            raise Problem("invalid-payload") from error

    async def drain(self, seconds: float) -> None:
        """Read and drop the rest of the body, for at most `seconds`, so that a refused client reads its response.

        Closing a socket with unread bytes resets the connection, and the reset may overtake the response.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while block := await self.request.content.readany():
                    await self._count(len(block))

    def log_response(self) -> None:
        """Log the request when its response is sent, or without one."""
        info = self.info
        self._record = RequestRecord(
            method=self.request.method,
            path=info.path,
            endpoint=info.endpoint,
            video_id=self.video_id,
            content_range=self.request.headers.get("Content-Range"),
            status=self.status,
            body_bytes=self.body_bytes,
            attempt=info.attempt,
            faults=tuple(map(str, self._faults.triggered)),
            fault_specs=tuple(fault.spec for fault in self._faults.triggered),
            problem=self.problem,
            detail=self.detail,
            number=self._log.next_number(),
            started_s=self.started_s,
            ended_s=asyncio.get_running_loop().time(),
        )
        if self.upload_target and info.content_range and (self.status is None or self.status >= 400):
            self._log.failed_parts.add(self.upload_target, info.content_range, self.status)
        response_headers = {} if self.response is None else self.response.headers
        self._log.add(self._record, MessageHeaders(self.request.headers, response_headers))

    def log_body(self) -> None:
        """Count the body, when no more of it will be read."""
        self._log.add_body(self._record, self.body_bytes, is_stored=self.is_stored, is_duplicate=self.is_duplicate)

    def _slow_down(self, bytes_per_second: float) -> None:
        self._pacers = [*self._pacers, Pacer(bytes_per_second, asyncio.get_running_loop().time())]
        # With a large buffer, the client's kernel would deliver the whole part at once.
        transport = self.request.transport
        if transport is not None:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIN_BUFFER_BYTES)

    async def _count(self, count: int) -> None:
        self.body_bytes += count
        self._log.bytes_received(count)
        await pace(self._pacers, count)


async def _stall(seconds: float) -> None:
    if seconds == FOREVER:
        await asyncio.get_running_loop().create_future()
    await asyncio.sleep(seconds)
