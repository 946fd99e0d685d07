"""Translates exceptions of aiohttp and the system into :class:`TransportError`. No other module names them."""

from __future__ import annotations

import errno
import os
import ssl
from typing import Final

import aiohttp

from async_uploader._errors import TransportError, UploaderError
from async_uploader._parsing import single_line

from .tls import certificate_problem, is_permanent, tls_problem

CONNECT_TIMEOUT_SECONDS: Final = 30.0


class LostConnectionError(aiohttp.ClientError):
    """Wraps aiohttp's exception for a lost connection (its ``__cause__``)."""


class HiddenError(Exception):
    """Replaces an exception that contains a request, and therefore the secrets in its URL and headers."""


def without_request(exc: BaseException | None) -> BaseException | None:
    """The same chain of exceptions, with those that contain a request replaced by :class:`HiddenError`."""
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


def has_no_server(exc: BaseException) -> bool:
    """Whether the host name was not found, or the other machine has refused the connection."""
    lost = exc.__cause__ if isinstance(exc, LostConnectionError) else exc
    return isinstance(lost, aiohttp.ClientConnectorDNSError) or (
        isinstance(lost, aiohttp.ClientConnectorError) and lost.os_error.errno == errno.ECONNREFUSED
    )


def translate(exc: BaseException | None) -> TransportError:
    """Translate an exception of aiohttp or the system."""
    maybe_received, retryable = False, True
    match exc:
        case ssl.SSLCertVerificationError() | aiohttp.ClientConnectorCertificateError():
            reason, retryable = certificate_problem(getattr(exc, "certificate_error", exc)), False
        # Without an errno, it is asyncio's own error for a connection that was lost during the handshake.
        case (
            aiohttp.ClientConnectorSSLError() | aiohttp.ClientConnectorError(os_error=ConnectionError(errno=None))
        ):
            reason = f"TLS handshake with {exc.host}:{exc.port} failed: {tls_problem(exc.os_error)}"
            retryable = not is_permanent(exc.os_error)
        case aiohttp.ClientConnectorDNSError():
            reason = f"the host name {exc.host!r} was not found"
        case aiohttp.ConnectionTimeoutError():
            reason = f"no connection within {CONNECT_TIMEOUT_SECONDS:g} s"
        case aiohttp.ClientConnectorError():
            # asyncio replaces the system's reason with its own text, which repeats the address.
            reason = f"no connection to {exc.host}:{exc.port}{_why(exc.os_error)}"
        case ssl.SSLError():
            reason, maybe_received = f"the TLS connection failed: {tls_problem(exc)}", True
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            reason, retryable = "the URL cannot be used", False
        case aiohttp.ClientHttpProxyError():
            reason = f"the proxy responded with status {exc.status}"
        case aiohttp.ServerDisconnectedError():
            reason, maybe_received = "it closed the connection", True
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError():
            reason, maybe_received = "the response was cut off or is not HTTP", True
        case OSError() | aiohttp.ClientConnectionError() | TimeoutError():
            reason, maybe_received = f"the connection was lost{_why(exc)}", True
        case _:
            reason, maybe_received = "the response could not be read", True
    return TransportError(reason, maybe_received=maybe_received, retryable=retryable)


def _why(exc: BaseException) -> str:
    """The system's reason in parentheses; empty if there is none. Class names do not help users."""
    number = getattr(exc, "errno", None)
    text = os.strerror(number) if isinstance(number, int) and number > 0 else ""
    if not text and isinstance(exc, OSError) and not isinstance(exc, aiohttp.ClientError):
        text = single_line(str(exc)) or ""
    return f" ({text})" if text else ""
