"""Where the service is, and how one gets there."""

from __future__ import annotations

import base64
import ipaddress
import urllib.request
from typing import Final

from yarl import URL

from async_uploader._errors import ConfigurationError

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
        problem = _problem_of_host(url)
    except ValueError as exc:  # UnicodeError is one, too
        raise ConfigurationError(f"The base URL {_shown(text)} is malformed: {_plain(exc)}.") from exc
    if problem:
        raise ConfigurationError(f"The base URL {_shown(text)} is malformed: {problem}.")
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
    name = f"{url.scheme.upper()}_PROXY"
    try:
        proxy = URL(address if "://" in address else f"http://{address}")
        login = f"{proxy.user}:{proxy.password or ''}".encode()
        problem = _problem_of_host(proxy)
    except ValueError as exc:
        # Not chained: the text of the cause may have the proxy's password.
        raise ConfigurationError(f"The {name} variable is malformed: {_plain(exc)}.") from None
    if proxy.scheme not in ("http", "https") or not proxy.host or proxy.port == 0:
        problem = "expected http://HOST[:PORT] or https://HOST[:PORT]"
    if problem:
        raise ConfigurationError(f"The {name} variable is malformed: {problem}.")
    if not proxy.user:
        return proxy, {}
    header = f"Basic {base64.b64encode(login).decode()}"
    return proxy.with_user(None), {"Proxy-Authorization": header}


_MAX_HOST_LENGTH: Final = 253


def _problem_of_host(url: URL) -> str:
    """Why no resolver can look up the host of a URL, as a part of a sentence; empty if one can.

    :raises ValueError: the host cannot even be read
    """
    if not (host := url.raw_host) or _is_ip_address(host) or not url.host:
        return ""
    if len(host.rstrip(".")) > _MAX_HOST_LENGTH:
        return f"its host name has more than {_MAX_HOST_LENGTH} characters"
    if not all(0 < len(label) <= 63 for label in host.removesuffix(".").split(".")):
        return "its host name has an empty part, or one of more than 63 characters"
    return (
        "" if host.isascii() and host.isprintable() and " " not in host else "its host name has a wrong character"
    )


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _plain(exc: ValueError) -> str:
    """A reason as a part of a sentence: that of Python's codecs is for programmers."""
    return "its host name is not valid (IDNA)" if isinstance(exc, UnicodeError) else str(exc).rstrip(".")


def _shown(text: str) -> str:
    # A URL that is wrong may hold a password all the same.
    return repr(text if "@" not in text else "…@" + text.rpartition("@")[2])
