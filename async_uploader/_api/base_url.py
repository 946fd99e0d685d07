"""The base URL of the service, and the proxy for it."""

from __future__ import annotations

import base64
import ipaddress
import urllib.request
from typing import Final

from yarl import URL

from async_uploader._errors import ConfigurationError

ENVIRONMENTS: Final = {"production": "https://ws.api.video", "sandbox": "https://sandbox.api.video"}


def parse_base_url(text: str, *, allow_plain_http: bool) -> URL:
    """The base URL for ``"production"``, ``"sandbox"`` or a URL.

    :param allow_plain_http: accept ``http://`` to another machine, which sends credentials unencrypted
    :raises ConfigurationError: the URL is invalid, or uses plain HTTP without ``allow_plain_http``
    """
    try:
        url = URL(ENVIRONMENTS.get(text, text))
        port = url.port
        problem = _host_problem(url)
    except ValueError as exc:  # UnicodeError is one, too
        raise ConfigurationError(f"The base URL {_display(text)} is malformed: {_reason(exc)}.") from exc
    if problem:
        raise ConfigurationError(f"The base URL {_display(text)} is malformed: {problem}.")
    if url.scheme not in ("http", "https") or not url.host or port == 0:
        raise ConfigurationError(
            f"The base URL {_display(text)} is malformed; expected https://HOST[:PORT], 'production' or 'sandbox'."
        )
    if url.user or url.password or url.query_string or url.fragment:
        raise ConfigurationError("The base URL must not contain credentials, a query or a fragment.")
    if url.scheme == "http" and not is_loopback(url.host) and not allow_plain_http:
        raise ConfigurationError(
            f"The base URL {_display(text)} would send credentials unencrypted; use https://, or pass "
            "allow_plain_http=True."
        )
    return url.with_path(url.path.rstrip("/") + "/")


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def environment_proxy(url: URL) -> tuple[URL | None, dict[str, str]]:
    """The proxy of ``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY``, and its headers; None for this machine.

    aiohttp's ``trust_env`` is not used: it would also send credentials from ``~/.netrc``.

    :raises ConfigurationError: a variable is malformed
    """
    host = url.host or ""
    address = urllib.request.getproxies().get(url.scheme)
    if not address or is_loopback(host) or urllib.request.proxy_bypass(host):
        return None, {}
    name = f"{url.scheme.upper()}_PROXY"
    try:
        proxy = URL(address if "://" in address else f"http://{address}")
        login = f"{proxy.user}:{proxy.password or ''}".encode()
        problem = _host_problem(proxy)
    except ValueError as exc:
        # Not chained: the cause may contain the password of the proxy.
        raise ConfigurationError(f"The {name} variable is malformed: {_reason(exc)}.") from None
    if proxy.scheme not in ("http", "https") or not proxy.host or proxy.port == 0:
        problem = "expected http://HOST[:PORT] or https://HOST[:PORT]"
    if problem:
        raise ConfigurationError(f"The {name} variable is malformed: {problem}.")
    if not proxy.user:
        return proxy, {}
    header = f"Basic {base64.b64encode(login).decode()}"
    return proxy.with_user(None), {"Proxy-Authorization": header}


_MAX_HOST_LENGTH: Final = 253


def _host_problem(url: URL) -> str:
    """Why the host name of a URL is invalid, as part of a sentence; empty if it is valid.

    :raises ValueError: yarl cannot read the host
    """
    if not (host := url.raw_host) or _is_ip_address(host) or not url.host:
        return ""
    if len(host.rstrip(".")) > _MAX_HOST_LENGTH:
        return f"its host name has more than {_MAX_HOST_LENGTH} characters"
    if not all(0 < len(label) <= 63 for label in host.removesuffix(".").split(".")):
        return "its host name has an empty label, or one of more than 63 characters"
    is_valid = host.isascii() and host.isprintable() and " " not in host
    return "" if is_valid else "its host name has an invalid character"


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _reason(exc: ValueError) -> str:
    """The reason as part of a sentence. Messages of Python's codecs are replaced: they are for programmers."""
    return "its host name is not valid (IDNA)" if isinstance(exc, UnicodeError) else str(exc).rstrip(".")


def _display(text: str) -> str:
    # An invalid URL may contain a password.
    return repr(text if "@" not in text else "…@" + text.rpartition("@")[2])
