"""One HTTP conversation with one host: requests out, answers in, every failure as one of ours.

This is the only module that knows aiohttp's exceptions. It knows no endpoint, and it tries nothing twice.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import platform
import ssl
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
from msgspec import Struct
from yarl import URL

from ._address import environment_proxy
from ._errors import ApiError, AuthenticationError, TransportError
from ._limits import MIB
from ._watch import StallWatch

if TYPE_CHECKING:
    from ._body import PartBody

CONNECT_TIMEOUT_SECONDS: Final = 30.0
CONTINUE_TIMEOUT_SECONDS: Final = 1.0

# No answer of the service comes near it; a proxy's page that does is cut off.
_MAX_ANSWER_BYTES: Final = 16 * MIB


class Answer(Struct, frozen=True, kw_only=True):
    """What came back: any status, the body as it is."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; an empty one where it is something else (HTML, say, or nothing)."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def raise_for_status(self) -> Self:
        """This answer, if it is a 2xx.

        :raises ApiError: it is anything else; a redirect too, since following one would carry credentials away
        """
        if 200 <= self.status < 300:
            return self
        raise self._error()

    def _error(self) -> ApiError:
        problem = self.json()
        kind = AuthenticationError if self.status in (401, 403) else ApiError
        detail = _text(problem.get("detail"))
        if 300 <= self.status < 400:
            detail = "It redirects elsewhere, and redirects are not followed; check the base URL"
        problems = problem.get("problems")
        return kind(
            status=self.status,
            type=_text(problem.get("type")),
            title=_text(problem.get("title")) or self.reason or "no reason given",
            name=_text(problem.get("name")),
            detail=detail,
            problems=[one for one in problems if isinstance(one, dict)] if isinstance(problems, list) else (),
            retry_after_seconds=self._retry_after_seconds(),
        )

    def _retry_after_seconds(self) -> float | None:
        names = ["Retry-After"]
        if self.status == 429:
            names.append("X-RateLimit-Retry-After")
        waits = [_seconds(self.headers.get(name)) for name in names]
        return max((wait for wait in waits if wait is not None), default=None)


class _Request(aiohttp.ClientRequest):
    """A request that does not wait for ``100 Continue`` for ever: RFC 9110, 10.1.1, has it sent all the same
    after a while, since not every server knows the word. aiohttp would wait on.
    """

    def update_expect_continue(self, expect: bool = False) -> None:  # noqa: FBT001, FBT002 - aiohttp's signature
        super().update_expect_continue(expect)
        if (go_on := self._continue) is not None:
            self.loop.call_later(CONTINUE_TIMEOUT_SECONDS, _settle, go_on)


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
    ) -> Answer:
        """Send one request and read its answer, whatever its status.

        :param stall_seconds: give up when nothing has moved for so long
        :raises TransportError: no usable answer came back
        :raises SourceError: the body's source failed
        """
        assert self._session is not None, "used outside its context"
        try:
            with StallWatch(stall_seconds, body) as watch:
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
                    return Answer(
                        status=response.status,
                        reason=response.reason or "",
                        headers=response.headers.copy(),
                        body=content,
                    )
        except (aiohttp.ClientError, OSError) as exc:
            if body is not None and body.failure is not None:
                raise body.failure from exc
            cause = exc.__cause__ if isinstance(exc, _LostError) else exc
            raise translated(cause) from cause


def translated(exc: BaseException | None) -> TransportError:
    """Our error for one of aiohttp's or the system's. The one place where foreign exceptions are named."""
    maybe_received, retryable = False, True
    match exc:
        case ssl.SSLCertVerificationError() | aiohttp.ClientConnectorCertificateError():
            why = getattr(getattr(exc, "certificate_error", exc), "verify_message", "") or str(exc)
            reason = f"its certificate is not trusted ({why}); SSL_CERT_FILE can name a CA of your own"
            retryable = False
        case aiohttp.ClientConnectorDNSError():
            reason = f"the host name {exc.host!r} was not found"
        case aiohttp.ConnectionTimeoutError():
            reason = f"no connection within {CONNECT_TIMEOUT_SECONDS:g} s"
        case aiohttp.ClientConnectorError():
            # asyncio puts words and addresses of its own where the system's reason was.
            why = os.strerror(exc.os_error.errno) if exc.os_error.errno else exc.os_error
            reason = f"no connection to {exc.host}:{exc.port} ({why})"
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            reason, retryable = "its address cannot be used", False
        case aiohttp.ClientHttpProxyError():
            reason = f"the proxy answered {exc.status}"
        case aiohttp.ServerDisconnectedError():
            reason, maybe_received = "it closed the connection", True
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError():
            reason, maybe_received = "what came was cut off or is not HTTP", True
        case _:
            reason, maybe_received = f"the connection was lost ({type(exc).__name__})", True
    return TransportError(reason, maybe_received=maybe_received, retryable=retryable)


def _text(value: object) -> str | None:
    """A string on one line, or None: what a service says may come from anywhere."""
    if not isinstance(value, str):
        return None
    return " ".join(value.split()) or None


def _seconds(value: str | None) -> float | None:
    """``Retry-After`` (RFC 9110, 10.2.3): a number of seconds, or a date, which proxies send."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
