"""The service's endpoints that the emulator does not have: players, live streams, summaries and analytics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from async_uploader.emulator._problems import Problem

if TYPE_CHECKING:
    from aiohttp import web

    from async_uploader.emulator._http.exchange import Exchange

    from .routing import Row

# The OpenAPI file of the service; `tests/emulator/test_conformance.py` compares them.
_PATHS: Final = {
    "/summaries": ("GET", "POST"),
    "/summaries/ID": ("DELETE",),
    "/summaries/ID/source": ("GET", "PATCH"),
    "/live-streams": ("GET", "POST"),
    "/live-streams/ID": ("GET", "DELETE", "PATCH"),
    "/live-streams/ID/thumbnail": ("POST", "DELETE"),
    "/live-streams/ID/complete": ("PUT",),
    "/players": ("GET", "POST"),
    "/players/ID": ("GET", "DELETE", "PATCH"),
    "/players/ID/logo": ("POST", "DELETE"),
    "/data/metrics/ID/ID": ("GET",),
    "/data/buckets/ID/ID": ("GET",),
    "/data/timeseries/ID": ("GET",),
}


def unimplemented_rows() -> list[Row]:
    return [("other", method, path, refuse) for path, methods in _PATHS.items() for method in methods]


async def refuse(exchange: Exchange, *_: str) -> web.Response:
    """:raises Problem: always"""
    request = f"{exchange.request.method} {exchange.request.path}"
    detail = f"The service has this endpoint, but the emulator does not implement it: {request}."
    raise Problem("not-implemented", detail=detail)
