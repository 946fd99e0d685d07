"""Which requests are meant for this emulator: by their `Host`, and on the page also by their `Origin`.

A web page of any site can have the browser send requests here. The browser keeps the responses from it, unless
the page's own host name comes to resolve to this address (DNS rebinding): then all of this is the page's own site.
Such a request still carries the site's name as its `Host`, which is no name of ours.

An IP address as a `Host` was not looked up, so nobody can have changed what it stands for. Even so, only loopback
addresses and the one that the connection arrived at are served.
"""

from __future__ import annotations

import logging
import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final, TypeAlias

from ._problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web

Name: TypeAlias = str | IPv4Address | IPv6Address

#: A host and a port as in RFC 9110, less what no client sends: no user name, no percent-encoding.
_HOST: Final = re.compile(r"(?:\[(?P<literal>[^\[\]]+)\]|(?P<name>[^\[\]:@/?#\s]+))(?::[0-9]*)?")
_NAME: Final = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")
_MAX_SHOWN: Final = 100
#: Each name is said once in the log, up to so many names.
_MAX_LOGGED: Final = 20
logger = logging.getLogger("async_uploader.emulator")


def name_of(host: str) -> Name | None:
    """What a host name or an IP address without a port stands for; None for anything else."""
    address, _, _ = host.partition("%")  # the zone of a link-local address
    try:
        found = ip_address(address)
    except ValueError:
        name = host.lower()
        return name.removesuffix(".") if _NAME.fullmatch(name) else None
    return getattr(found, "ipv4_mapped", None) or found


def _name_of_header(host: str) -> Name | None:
    match = _HOST.fullmatch(host)
    if match is None:
        return None
    if match["name"]:
        return name_of(match["name"])
    found = name_of(match["literal"])
    return None if isinstance(found, str) else found


class Hosts:
    """The names of one emulator: what it listens on, those that are allowed, and this machine's own."""

    def __init__(self, listening: str, allowed: Iterable[str]) -> None:
        self._names = {name_of(host) for host in (listening, *allowed)} - {None}
        self._logged: set[str] = set()

    def refusal(self, request: web.BaseRequest) -> Problem | None:
        """Why a request is not for this emulator; None if it is."""
        hosts = request.headers.getall("Host", [])
        arrived_at = _arrived_at(request)
        if len(hosts) == 1 and self._serves(_name_of_header(hosts[0]), arrived_at):
            # A request for a whole URL names its host there, and the header says nothing (RFC 9112, 3.2.2).
            if request.host == hosts[0] or self._serves(name_of(request.host), arrived_at):
                return None
            hosts = [request.host]
        return self._refuse(", ".join(hosts))

    def _serves(self, name: Name | None, arrived_at: Name | None) -> bool:
        if isinstance(name, str):
            return name == "localhost" or name.endswith(".localhost") or name in self._names
        return name is not None and (name.is_loopback or name == arrived_at or name in self._names)

    def _refuse(self, host: str) -> Problem:
        shown = repr(host[:_MAX_SHOWN]) if host else "no host"
        if shown not in self._logged and len(self._logged) < _MAX_LOGGED:
            self._logged.add(shown)
            logger.warning("Refused a request for %s; --allow-host (allowed_hosts) serves more names.", shown)
        return Problem(
            "misdirected-request",
            name="Host",
            detail=f"The request is for {shown}. This emulator serves localhost, the address that it listens on, "
            "and the names given with --allow-host (allowed_hosts).",
        )


def foreign_origin(request: web.BaseRequest) -> Problem | None:
    """The refusal of a request that a page of another site makes; None for any other.

    For what the emulator's own page uses: nobody else's has a reason to ask for it.
    """
    origin = request.headers.get("Origin")
    if origin is None or origin.lower().partition("://")[2] == request.headers.get("Host", "").lower():
        return None
    return Problem("forbidden-origin", name="Origin")


def _arrived_at(request: web.BaseRequest) -> Name | None:
    """The local address of a request's connection."""
    address = None if request.transport is None else request.transport.get_extra_info("sockname")
    return name_of(str(address[0])) if isinstance(address, tuple) else None
