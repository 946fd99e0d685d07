"""Cross-origin requests to the API: pages of every site can upload, as to the service.

The contract ("Browsers") lists the allowed headers. The emulator's own page and its control endpoints are not part
of the API, and refuse requests of other sites (`hosts.check_origin`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Iterable

ALLOWED_HEADERS: Final = (
    "Authorization",
    "Content-Type",
    "Content-Range",
    "AV-Origin-Client",
    "AV-Origin-App",
    "AV-Origin-Sdk",
)
#: Every origin. Credentials of the browser are not used, so no origin needs to be named.
ALLOW_ORIGIN: Final = {"Access-Control-Allow-Origin": "*"}
_MAX_AGE_SECONDS: Final = 600


def is_preflight(request: web.BaseRequest) -> bool:
    """Whether a browser asks for permission to send a cross-origin request."""
    return (
        request.method == "OPTIONS"
        and "Origin" in request.headers
        and "Access-Control-Request-Method" in request.headers
    )


def preflight_response(methods: Iterable[str]) -> web.Response:
    """Allow cross-origin requests with these methods."""
    return web.Response(
        status=204,
        headers={
            **ALLOW_ORIGIN,
            "Access-Control-Allow-Methods": ", ".join(sorted(methods)),
            "Access-Control-Allow-Headers": ", ".join(ALLOWED_HEADERS),
            "Access-Control-Max-Age": str(_MAX_AGE_SECONDS),
        },
    )
