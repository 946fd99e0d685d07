"""Checks the `Host` of every request, and the `Origin` of requests for the page and the control endpoints.

A web page of any site can make the browser send requests to the emulator. The browser hides the responses from
that page, unless the site's host name resolves to the emulator's address (DNS rebinding): then both are the same
site. Such a request still has the site's name as its `Host`, which is not one of the emulator's names.

An IP address as `Host` cannot be rebound. Even so, only loopback addresses and the address of the connection are
served.
"""

from __future__ import annotations

import logging
import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final, TypeAlias

from async_uploader.emulator._problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web

Name: TypeAlias = str | IPv4Address | IPv6Address

#: A host and a port as in RFC 9110, without user names and percent-encoding, which no client sends.
_HOST: Final = re.compile(r"(?:\[(?P<literal>[^\[\]]+)\]|(?P<name>[^\[\]:@/?#\s]+))(?::[0-9]*)?")
_NAME: Final = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")
_MAX_QUOTED_LENGTH: Final = 100
#: Each refused name is logged once, up to this number of names.
_MAX_LOGGED_NAMES: Final = 20
logger = logging.getLogger("async_uploader.emulator")


def parse_name(host: str) -> Name | None:
    """Normalize a host name or an IP address without a port; None for anything else."""
    address, _, _ = host.partition("%")  # the zone of a link-local address
    try:
        found = ip_address(address)
    except ValueError:
        name = host.lower()
        return name.removesuffix(".") if _NAME.fullmatch(name) else None
    return getattr(found, "ipv4_mapped", None) or found


def _parse_host_header(host: str) -> Name | None:
    match = _HOST.fullmatch(host)
    if match is None:
        return None
    if match["name"]:
        return parse_name(match["name"])
    found = parse_name(match["literal"])
    return None if isinstance(found, str) else found


class HostCheck:
    """Serves the name that the emulator listens on, allowed names, `localhost` and this machine's addresses."""

    def __init__(self, listening: str, allowed: Iterable[str]) -> None:
        self._names = {parse_name(host) for host in (listening, *allowed)} - {None}
        self._logged: set[str] = set()

    def refusal(self, request: web.BaseRequest) -> Problem | None:
        """Why a request is refused; None if it is served."""
        hosts = request.headers.getall("Host", [])
        arrived_at = _arrived_at(request)
        if len(hosts) == 1 and self._serves(_parse_host_header(hosts[0]), arrived_at):
            # In a request for an absolute URL, the URL's host replaces the header (RFC 9112, 3.2.2).
            if request.host == hosts[0] or self._serves(parse_name(request.host), arrived_at):
                return None
            hosts = [request.host]
        return self._refuse(", ".join(hosts))

    def _serves(self, name: Name | None, arrived_at: Name | None) -> bool:
        if isinstance(name, str):
            return name == "localhost" or name.endswith(".localhost") or name in self._names
        return name is not None and (name.is_loopback or name == arrived_at or name in self._names)

    def _refuse(self, host: str) -> Problem:
        quoted = repr(host[:_MAX_QUOTED_LENGTH]) if host else "no host"
        if quoted not in self._logged and len(self._logged) < _MAX_LOGGED_NAMES:
            self._logged.add(quoted)
            logger.warning(
                "Refused a request for %s; use --allow-host (allowed_hosts) to serve more names.", quoted
            )
        return Problem(
            "misdirected-request",
            name="Host",
            detail=f"The request is for {quoted}. This emulator serves localhost, the address that it listens on, "
            "and the names given with --allow-host (allowed_hosts).",
        )


def check_origin(request: web.BaseRequest) -> Problem | None:
    """The refusal of a request from another site; None for any other request.

    For the emulator's own page and its control endpoints: other sites have no reason to request these. Browsers
    send `Origin` with every request that changes anything, form posts included, and `Sec-Fetch-Site` with images
    and scripts, too. Following a link to the page is allowed.
    """
    origin = request.headers.get("Origin")
    if origin is not None:
        is_own = origin.lower().partition("://")[2] == request.headers.get("Host", "").lower()
    else:
        is_link = request.headers.get("Sec-Fetch-Mode") == "navigate" and request.method in ("GET", "HEAD")
        is_own = is_link or request.headers.get("Sec-Fetch-Site") not in ("cross-site", "same-site")
    return None if is_own else Problem("forbidden-origin", name="Origin")


def _arrived_at(request: web.BaseRequest) -> Name | None:
    """The local address of a request's connection."""
    address = None if request.transport is None else request.transport.get_extra_info("sockname")
    return parse_name(str(address[0])) if isinstance(address, tuple) else None
