"""Where the service is, and how one gets there."""

from __future__ import annotations

import base64
import ipaddress
import urllib.request
from typing import Final

from yarl import URL

from ._errors import ConfigurationError

ENVIRONMENTS: Final = {"production": "https://ws.api.video", "sandbox": "https://sandbox.api.video"}


def parse_base_url(text: str, *, allow_plain_http: bool) -> URL:
    """The service's address from ``"production"``, ``"sandbox"`` or a URL.

    :param allow_plain_http: accept ``http://`` to another machine, where credentials travel in clear
    :raises ConfigurationError: it is none, or plain HTTP without leave
    """
    address = ENVIRONMENTS.get(text, text)
    try:
        url = URL(address)
        port = url.port
    except ValueError as exc:
        raise ConfigurationError(f"The base URL {_shown(text)} is malformed: {exc}.") from exc
    if url.scheme not in ("http", "https") or not url.host or port == 0:
        raise ConfigurationError(
            f"The base URL {_shown(text)} is malformed; expected https://HOST[:PORT], 'production' or 'sandbox'."
        )
    if url.user or url.password or url.query_string or url.fragment:
        raise ConfigurationError("The base URL must not contain credentials, a query or a fragment.")
    if url.scheme == "http" and not is_loopback(url.host) and not allow_plain_http:
        raise ConfigurationError(
            f"The base URL {_shown(text)} would send credentials in clear; use https://, or insist with "
            "allow_plain_http=True (--allow-plain-http)."
        )
    return url.with_path(url.path.rstrip("/") + "/")


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def environment_proxy(url: URL) -> tuple[URL | None, dict[str, str]]:
    """The proxy that ``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY`` ask for, and headers for it.

    None to this machine, whatever they say.

    aiohttp's ``trust_env`` is not used: it would also send what ``~/.netrc`` says about the host, beside or
    in place of our own credentials.
    """
    host = url.host or ""
    address = urllib.request.getproxies().get(url.scheme)
    if not address or is_loopback(host) or urllib.request.proxy_bypass(host):
        return None, {}
    try:
        proxy = URL(address if "://" in address else f"http://{address}")
    except ValueError as exc:
        raise ConfigurationError(f"The {url.scheme.upper()}_PROXY variable is malformed.") from exc
    if not proxy.user:
        return proxy, {}
    login = base64.b64encode(f"{proxy.user}:{proxy.password or ''}".encode()).decode()
    return proxy.with_user(None), {"Proxy-Authorization": f"Basic {login}"}


def _shown(text: str) -> str:
    # A URL that is wrong may hold a password all the same.
    return repr(text if "@" not in text else "…@" + text.rpartition("@")[2])
