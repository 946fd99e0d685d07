"""One HTTP conversation with one host: requests out, answers in, every failure as one of ours.

This is the only module that knows aiohttp's exceptions. It knows no endpoint, and it tries nothing twice.
"""

from __future__ import annotations

import asyncio
import os
import platform
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Self
from weakref import ref

import aiohttp
from msgspec import Struct
from yarl import URL

from async_uploader._errors import ApiError, AuthenticationError, TransportError, UploaderError
from async_uploader._limits import MIB
from async_uploader._parsing import json_object, retry_after_seconds, sentence

from .base_url import environment_proxy
from .stall import StallDetector
from .tls import is_lasting, why_no_tls, why_not_trusted

if TYPE_CHECKING:
    from aiohttp.connector import Connection

    from .multipart import PartBody

CONNECT_TIMEOUT_SECONDS: Final = 30.0
CONTINUE_TIMEOUT_SECONDS: Final = 1.0

# No answer of the service comes near it; a proxy's page that does is cut off.
_MAX_ANSWER_BYTES: Final = 16 * MIB
_LEAST_SECRET: Final = 8


class Response(Struct, frozen=True, kw_only=True):
    """What came back: any status, the body as it is.

    :param secrets: what the request carried. A refusal that quotes one must not put it into an error
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes
    secrets: Sequence[str] = ()

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; an empty one if it is something else (HTML, say, or nothing)."""
        return json_object(self.body)

    def raise_for_status(self) -> Self:
        """This answer, if it is a 2xx.

        :raises ApiError: it is anything else; a redirect too, since following one would carry credentials away
        """
        if 200 <= self.status < 300:
            return self
        raise self._error()

    def _error(self) -> ApiError:
        problem = json_object(self._without_secrets())
        kind = AuthenticationError if self.status in (401, 403) else ApiError
        title, detail = sentence(problem.get("title")), sentence(problem.get("detail"))
        if title is None or not title.strip("."):
            title = sentence(self.reason) or "no reason given"
        if 300 <= self.status < 400:
            detail = "It redirects elsewhere, and redirects are not followed; check the base URL"
        problems = problem.get("problems")
        return kind(
            status=self.status,
            type=sentence(problem.get("type")),
            title=title,
            name=sentence(problem.get("name")),
            detail=detail,
            problems=[one for one in problems if isinstance(one, dict)] if isinstance(problems, list) else (),
            retry_after_seconds=retry_after_seconds(self.status, self.headers),
        )

    def _without_secrets(self) -> bytes:
        body = self.body
        for secret in self.secrets:
            # A shorter one is no real secret, and may be a part of any word.
            if len(secret) >= _LEAST_SECRET:
                body = body.replace(secret.encode(), b"***")
        return body


class _Request(aiohttp.ClientRequest):
    """A request that shows its connection to the watchdog, and that does not wait for ``100 Continue`` for ever.

    RFC 9110, 10.1.1, has the body sent all the same after a while, since not every server knows the word. aiohttp
    would wait on.
    """

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        if (watch := _WATCH.get()()) is not None:
            watch.transport = conn.transport
        return await super().send(conn)

    def update_expect_continue(self, expect: bool = False) -> None:  # noqa: FBT001, FBT002 - aiohttp's signature
        super().update_expect_continue(expect)
        if (go_on := self._continue) is not None:
            self.loop.call_later(CONTINUE_TIMEOUT_SECONDS, _settle, go_on)


# The watchdog of this task's exchange: aiohttp makes the request, so it cannot be passed as an argument. Weak,
# because timers of pooled connections keep the context in which they were set.
_WATCH: Final[ContextVar[Callable[[], StallDetector | None]]] = ContextVar("_WATCH", default=lambda: None)


class _LostError(aiohttp.ClientError):
    """Wraps what made aiohttp lose a connection (its ``__cause__``)."""


async def _once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from quietly repeating a DELETE or GET whose connection was lost.

    What is tried again is decided elsewhere, by who knows that there has been a first time.
    """
    try:
        return await send(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as exc:
        raise _LostError from exc


def _settle(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(True)


class Http:
    """A session with one host. Use as an async context manager."""

    def __init__(self, base_url: URL, *, headers: Mapping[str, str]) -> None:
        self.base_url = base_url
        self._headers = dict(headers)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._proxy, self._proxy_headers = environment_proxy(self.base_url)
        self._session = aiohttp.ClientSession(
            headers={"User-Agent": f"async-uploader Python/{platform.python_version()}", **self._headers},
            # The workers bound the connections, no limit of the pool does. No total timeout either: only
            # connecting is timed here, everything after it is the watchdog's.
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=None),
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            request_class=_Request,
            middlewares=(_once,),
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
        """Send one request and read its answer, whatever its status.

        :param stall_seconds: give up when nothing has moved for so long; math.inf: the caller watches
        :param on_moved: called when bytes have moved, and not for each of them
        :param secrets: what of the request must not appear in an error
        :raises TransportError: no usable answer came back
        :raises SourceError: the body's source failed
        """
        assert self._session is not None, "used outside its context"
        watch = StallDetector(stall_seconds, body, on_moved=on_moved)
        _WATCH.set(ref(watch))
        try:
            with watch:
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
                    watch.moved()
                    content = await response.content.read(_MAX_ANSWER_BYTES)
                    while more := await response.content.read(_MAX_ANSWER_BYTES - len(content)):
                        watch.moved()
                        content += more
                    return Response(
                        status=response.status,
                        reason=response.reason or "",
                        headers=response.headers.copy(),
                        body=content,
                        secrets=secrets,
                    )
        except UploaderError as exc:
            failure, cause = exc, without_request(exc.__cause__)
            failure.__context__ = None
        except Exception as exc:  # noqa: BLE001 - no response may cause anything but an error of ours
            lost = exc.__cause__ if isinstance(exc, _LostError) else exc
            failure, cause = translated(lost), without_request(lost)
            if body is not None and body.failure is not None:
                failure, cause = body.failure, body.failure.__cause__
        # Not in the handlers: there the exception that is handled would become the context of ours, with the URL
        # and the headers that aiohttp's exceptions carry.
        raise failure from cause


class HiddenError(Exception):
    """Stands for an exception that carries a request, and so the secrets in its URL and headers."""


def without_request(exc: BaseException | None) -> BaseException | None:
    """The same chain of exceptions, with stand-ins for those that carry a request."""
    if exc is None:
        return None
    earlier = without_request(exc.__cause__ or exc.__context__)
    is_of_system = isinstance(exc, OSError) and not isinstance(exc, aiohttp.ClientError) and "://" not in str(exc)
    if not is_of_system and not isinstance(exc, UploaderError):
        number = getattr(exc, "errno", None)
        why = f": {os.strerror(number)}" if isinstance(number, int) else ""
        exc = HiddenError(f"{type(exc).__name__}{why}").with_traceback(exc.__traceback__)
    exc.__cause__, exc.__context__ = earlier, None
    return exc


def translated(exc: BaseException | None) -> TransportError:
    """Our error for one of aiohttp's or the system's. The one place where foreign exceptions are named."""
    maybe_received, retryable = False, True
    match exc:
        case ssl.SSLCertVerificationError() | aiohttp.ClientConnectorCertificateError():
            reason, retryable = why_not_trusted(getattr(exc, "certificate_error", exc)), False
        # Without a number it is asyncio's own error, for a connection that is lost in the handshake.
        case (
            aiohttp.ClientConnectorSSLError() | aiohttp.ClientConnectorError(os_error=ConnectionError(errno=None))
        ):
            reason = f"TLS handshake with {exc.host}:{exc.port} failed: {why_no_tls(exc.os_error)}"
            retryable = not is_lasting(exc.os_error)
        case aiohttp.ClientConnectorDNSError():
            reason = f"the host name {exc.host!r} was not found"
        case aiohttp.ConnectionTimeoutError():
            reason = f"no connection within {CONNECT_TIMEOUT_SECONDS:g} s"
        case aiohttp.ClientConnectorError():
            # asyncio puts words and addresses of its own where the system's reason was.
            why = os.strerror(exc.os_error.errno) if exc.os_error.errno else str(exc.os_error)
            reason = f"no connection to {exc.host}:{exc.port} ({sentence(why) or type(exc.os_error).__name__})"
        case ssl.SSLError():
            reason, maybe_received = f"the TLS connection failed: {why_no_tls(exc)}", True
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            reason, retryable = "its address cannot be used", False
        case aiohttp.ClientHttpProxyError():
            reason = f"the proxy answered {exc.status}"
        case aiohttp.ServerDisconnectedError():
            reason, maybe_received = "it closed the connection", True
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError():
            reason, maybe_received = "what came was cut off or is not HTTP", True
        case OSError() | aiohttp.ClientConnectionError() | TimeoutError():
            reason, maybe_received = f"the connection was lost ({type(exc).__name__})", True
        case _:
            reason, maybe_received = f"the response could not be read ({type(exc).__name__})", True
    return TransportError(reason, maybe_received=maybe_received, retryable=retryable)
