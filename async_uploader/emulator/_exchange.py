"""One request and its answer: reading the body, the seams where faults strike, and the answer's making."""

from __future__ import annotations

import asyncio
import html
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from ._faults import FOREVER, ArmedFaults, Fault, When, fault_title
from ._problems import CATALOGUE, DOCS, Problem
from ._records import RequestRecord
from ._throttle import Pacer, pace

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from ._credentials import Credentials
    from ._faults import Endpoint
    from ._records import Ledger
    from ._rules import Range

MAX_JSON_BYTES: Final = 1 << 20

_STATUS_SLUGS: Final = {
    401: "authentication-invalid-access-token",
    403: "account-suspended",
    404: "resource-not-found",
    405: "method-not-allowed",
    413: "uploaded-file-too-large",
    429: "too-many-requests",
}


class Cut(Exception):
    """Drop the connection instead of answering."""


class Answer(Exception):
    """A fault's answer takes the place of the real one."""

    def __init__(self, fault: Fault, status: int) -> None:
        super().__init__(status)
        self.fault = fault
        self.status = status


class Exchange:
    """What the emulator knows about the request that it is answering."""

    def __init__(
        self,
        request: web.BaseRequest,
        *,
        endpoint: Endpoint,
        path: str,
        wanted: Range | None,
        target: str | None,
        attempt: int,
        faults: ArmedFaults,
        ledger: Ledger,
        credentials: Credentials,
        pacers: Sequence[Pacer],
        refusal: Problem | None = None,
    ) -> None:
        self.request = request
        self.endpoint = endpoint
        self.path = path
        self.wanted = wanted  # what its Content-Range says, if that can be understood
        self.target = target  # the video that an upload means, whether it may or not
        self.attempt = attempt
        self.refusal = refusal  # why it is not for this emulator
        self.faults = faults
        self.ledger = ledger
        self.started_s = asyncio.get_running_loop().time()
        self.body_bytes = 0
        self.status: int | None = None
        self.video_id: str | None = None
        self.stored = False
        self.again = False
        self.completing = False
        self.is_behind_proxy = False
        self._credentials = credentials
        self._pacers = pacers

    @property
    def is_on_a_line(self) -> bool:
        """Whether the bytes come at a rate: then the answer comes when the line says, and at no other time."""
        return bool(self._pacers)

    @property
    def has_unread_body(self) -> bool:
        return self.request.body_exists and not self.request.content.at_eof()

    async def seam(self, when: When) -> None:
        """Let the faults of this moment strike.

        :raises Cut, Answer: as they order.
        """
        for fault in self.faults.strike(when, completing=self.completing):
            self.ledger.bell.ring()
            if fault.expire_tokens:
                self._credentials.expire_access_tokens()
            if fault.revoke_tokens:
                self._credentials.revoke_refresh_tokens()
            if fault.stall:
                await _stall(fault.stall)
            if fault.cut:
                raise Cut
            if (status := fault.answer_status) is not None:
                raise Answer(fault, status)

    async def expect_body(self) -> None:
        """Tell a client that asked (`Expect: 100-continue`) to send its body: every header check has passed."""
        if self.request.headers.get("Expect", "").lower() == "100-continue":
            await self.request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives, at the line's pace; the seams `middle` and `late` are passed on the way."""
        await self.expect_body()
        half = (self.request.content_length or 0) // 2
        is_before_middle = True
        while block := await self.request.content.readany():
            await self._count(len(block))
            if is_before_middle and half and self.body_bytes >= half:
                is_before_middle = False
                await self.seam("middle")
            yield block
        if is_before_middle:
            await self.seam("middle")
        await self.seam("late")

    async def json(self) -> object:
        body = bytearray()
        async with aclosing(self.blocks()) as blocks:
            async for block in blocks:
                body += block
                if len(body) > MAX_JSON_BYTES:
                    raise Problem("invalid-payload", detail=f"At most {MAX_JSON_BYTES} bytes.")
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            raise Problem("invalid-payload") from error

    async def linger(self, seconds: float) -> None:
        """Take and drop what a refused client still sends, so that it gets to read its answer.

        Closing a socket with unread bytes in it resets the connection, and the reset may overtake the answer.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while block := await self.request.content.readany():
                    await self._count(len(block))

    def enter(self) -> None:
        """Write this request down, as it is answered or given up."""
        self._record = RequestRecord(
            method=self.request.method,
            path=self.path,
            endpoint=self.endpoint,
            video_id=self.video_id,
            content_range=self.request.headers.get("Content-Range"),
            status=self.status,
            body_bytes=self.body_bytes,
            attempt=self.attempt,
            faults=tuple(map(str, self.faults.struck)),
            started_s=self.started_s,
            ended_s=asyncio.get_running_loop().time(),
        )
        if self.target and self.wanted and (self.status is None or self.status >= 400):
            self.ledger.refusals.note(self.target, self.wanted, self.status)
        self.ledger.enter(self._record)

    def settle(self) -> None:
        """Account for the body, now that no more of it will be read."""
        self.ledger.settle(self._record, self.body_bytes, stored=self.stored, again=self.again)

    async def _count(self, count: int) -> None:
        self.body_bytes += count
        self.ledger.received(count)
        await pace(self._pacers, count)


def json_answer(status: int, payload: object, *, media_type: str = "application/json") -> web.Response:
    """JSON under a bare media type: the official Node client refuses a charset."""
    return web.Response(status=status, body=msgspec.json.encode(payload), headers={"Content-Type": media_type})


def problem_answer(problem: Problem) -> web.Response:
    return json_answer(problem.status, problem.body(), media_type="application/problem+json")


def fault_answer(fault: Fault, status: int) -> web.Response:
    """The answer that a fault orders; pages and empty bodies look like a proxy's."""
    body = fault.body or ("problem" if status >= 400 else "empty")
    if body == "html":
        title = html.escape(f"{status} {fault_title(status)}")
        page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
        answer = web.Response(status=status, body=page.encode(), headers={"Content-Type": "text/html"})
    elif body == "empty":
        answer = web.Response(status=status)
    else:
        answer = json_answer(status, _fault_problem(fault, status), media_type="application/problem+json")
    if fault.retry_after is not None:
        answer.headers["Retry-After"] = str(fault.retry_after)
        if status == 429:
            answer.headers["X-RateLimit-Remaining"] = "0"
            answer.headers["X-RateLimit-Retry-After"] = str(fault.retry_after)
    answer.headers.update(fault.headers)
    return answer


def _fault_problem(fault: Fault, status: int) -> dict[str, object]:
    slug = fault.problem or _STATUS_SLUGS.get(status, "server-error")
    title = CATALOGUE[slug][1] if slug != "server-error" else fault_title(status)
    return {"type": DOCS + slug, "title": title, "status": status}


async def _stall(seconds: float) -> None:
    if seconds == FOREVER:
        await asyncio.get_running_loop().create_future()
    await asyncio.sleep(seconds)
