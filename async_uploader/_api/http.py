"""HTTP exchanges with one host, through aiohttp. Each request is sent once; every failure is an UploaderError."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self
from weakref import ref

import aiohttp
from msgspec import Struct
from yarl import URL

from async_uploader._errors import ApiError, AuthenticationError, TransportError, UploaderError
from async_uploader._limits import MIB
from async_uploader._parsing import json_object, retry_after_seconds, single_line

from .base_url import environment_proxy
from .stall import RESPONSE_STALLS, StallDetector
from .transport_errors import (
    CONNECT_TIMEOUT_SECONDS,
    LostConnectionError,
    has_no_server,
    translate,
    without_request,
)

if TYPE_CHECKING:
    from aiohttp.connector import Connection

    from .multipart import PartBody


# No response of the service is nearly as large. The page of a proxy may be larger; the rest of it is not read.
_MAX_RESPONSE_BYTES: Final = 16 * MIB
# Shorter values are not secrets, and may occur within other words.
_MIN_SECRET_LENGTH: Final = 8


class Response(Struct, frozen=True, kw_only=True):
    """A response with any status.

    :param secrets: the request's secrets. If the response quotes one, it is removed from the error's message
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes
    secrets: Sequence[str] = ()

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; an empty one if the body is anything else (HTML, for example)."""
        return json_object(self.body)

    def raise_for_status(self) -> Self:
        """Return this response if it is a 2xx.

        :raises ApiError: it is not. Redirects are errors, too: following one would send credentials to another
            host
        """
        if 200 <= self.status < 300:
            return self
        raise self._error()

    def _error(self) -> ApiError:
        problem = json_object(self._without_secrets())
        kind = AuthenticationError if self.status in (401, 403) else ApiError
        title, detail = single_line(problem.get("title")), single_line(problem.get("detail"))
        if title is None or not title.strip("."):
            title = single_line(self.reason) or "no reason given"
        if 300 <= self.status < 400:
            detail = "It redirects elsewhere, and redirects are not followed; check the base URL"
        problems = problem.get("problems")
        if not isinstance(problems, list):
            problems = []
        return kind(
            status=self.status,
            type=single_line(problem.get("type")),
            title=title,
            name=single_line(problem.get("name")),
            detail=detail,
            problems=[item for item in problems if isinstance(item, dict)],
            retry_after_seconds=retry_after_seconds(self.status, self.headers),
        )

    def _without_secrets(self) -> bytes:
        body = self.body
        for secret in self.secrets:
            if len(secret) >= _MIN_SECRET_LENGTH:
                body = body.replace(secret.encode(), b"***")
        return body


class Request(aiohttp.ClientRequest):
    """A request that passes its connection to the stall detector, and limits the wait for ``100 Continue``.

    Not every server sends ``100 Continue``, so RFC 9110, section 10.1.1, does not allow an indefinite wait.
    aiohttp would wait indefinitely.
    """

    continue_timeout_seconds: ClassVar[float] = 1.0

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        if (detector := _STALL_DETECTOR.get()()) is not None:
            detector.transport = conn.transport
        return await super().send(conn)

    def update_expect_continue(self, expect: bool = False) -> None:  # noqa: FBT001, FBT002 - aiohttp's signature
        super().update_expect_continue(expect)
        if (received_continue := self._continue) is not None:
            self.loop.call_later(self.continue_timeout_seconds, _set_result, received_continue)


# The stall detector of the current task's exchange. aiohttp creates the request, so it cannot be passed as an
# argument. It is a weak reference, because timers of pooled connections keep the context in which they were set.
_STALL_DETECTOR: Final[ContextVar[Callable[[], StallDetector | None]]] = ContextVar(
    "_STALL_DETECTOR", default=lambda: None
)


async def _without_retry(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Prevent aiohttp from retrying a GET or DELETE whose connection was lost.

    Only the caller retries, because it must know whether a request was sent before.
    """
    try:
        return await send(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as exc:
        raise LostConnectionError from exc


def _set_result(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(True)


class Http:
    """A session with one host. Use as an async context manager.

    :param headers: sent with every request
    :param request_class: creates the requests
    :ivar response_stalls: time for a whole response, in multiples of the stall timeout
    """

    def __init__(
        self, base_url: URL, *, headers: Mapping[str, str], request_class: type[Request] = Request
    ) -> None:
        self.base_url = base_url
        self.response_stalls: int = RESPONSE_STALLS
        self._headers = dict(headers)
        self._request_class = request_class
        self._session: aiohttp.ClientSession | None = None
        self._has_responded = False

    async def __aenter__(self) -> Self:
        self._proxy, self._proxy_headers = environment_proxy(self.base_url)
        self._session = aiohttp.ClientSession(
            headers={"User-Agent": f"async-uploader Python/{platform.python_version()}", **self._headers},
            # Upload slots limit the connections, not the pool. Only connecting has a timeout here; the stall
            # detector limits everything after it.
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=None),
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            request_class=self._request_class,
            middlewares=(_without_retry,),
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        stall_seconds: float,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str | list[str]] | None = None,
        json_body: object | None = None,
        body: PartBody | None = None,
        on_moved: Callable[[], None] | None = None,
        secrets: Sequence[str] = (),
    ) -> Response:
        """Send one request and return its response, with any status.

        :param stall_seconds: give up after this time without movement; ``math.inf``: the caller has its own limit
        :param on_moved: called when bytes have moved
        :param secrets: values in the request that must not appear in an error
        :raises UploaderError: there was no usable response, or the source of the body failed
        """
        assert self._session is not None, "used outside of its context"
        detector = StallDetector(stall_seconds, body, on_moved=on_moved, response_stalls=self.response_stalls)
        _STALL_DETECTOR.set(ref(detector))
        try:
            with detector:
                async with self._session.request(
                    method,
                    self.base_url.join(URL(path)),
                    params=query,
                    headers=headers,
                    json=json_body,
                    data=body,
                    allow_redirects=False,
                    proxy=self._proxy,
                    proxy_headers=self._proxy_headers,
                ) as response:
                    detector.moved()
                    self._has_responded = True
                    return Response(
                        status=response.status,
                        reason=response.reason or "",
                        headers=response.headers.copy(),
                        body=await _read(response.content, on_moved=detector.moved),
                        secrets=secrets,
                    )
        except Exception as exc:  # noqa: BLE001 - every exception becomes an UploaderError
            failure, cause = self._failure_and_cause(exc, body)
        # Raised outside the handler. Inside, aiohttp's exception would become the context of this one, and expose
        # the URL and the headers.
        raise failure from cause

    def _failure_and_cause(
        self, exc: Exception, body: PartBody | None
    ) -> tuple[UploaderError, BaseException | None]:
        failure, cause = _failure_and_cause(exc, body)
        if isinstance(failure, TransportError):
            failure.unreachable = not self._has_responded and has_no_server(exc)
        return failure, cause


def _failure_and_cause(exc: Exception, body: PartBody | None) -> tuple[UploaderError, BaseException | None]:
    if isinstance(exc, UploaderError):
        exc.__context__ = None
        return exc, without_request(exc.__cause__)
    lost = exc.__cause__ if isinstance(exc, LostConnectionError) else exc
    failure, cause = translate(lost), without_request(lost)
    if body is not None and body.failure is not None:
        return body.failure, body.failure.__cause__
    return failure, cause


async def _read(content: aiohttp.StreamReader, *, on_moved: Callable[[], None]) -> bytes:
    body = b""
    while more := await content.read(_MAX_RESPONSE_BYTES - len(body)):
        on_moved()
        body += more
    return body
