"""The table of methods, URLs and endpoints."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from aiohttp import web

from async_uploader.emulator._http.rate_limit import Budget

if TYPE_CHECKING:
    from async_uploader.emulator._faults import Endpoint

Handler = Callable[..., Awaitable[web.StreamResponse]]

#: The endpoint, the method, the path (`ID` stands for any segment) and the handler.
Row: TypeAlias = "tuple[Endpoint, str, str, Handler]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A method and URL. `budget` is None without a rate limit; `is_open` is true if no Authorization is
    required."""

    endpoint: Endpoint
    method: str
    path: str
    pattern: re.Pattern[str]
    handler: Handler
    budget: Budget | None
    is_open: bool = False


def make_routes(rows: Iterable[Row]) -> list[Route]:
    """Routes with the rate limits of the service: `/auth` has none, uploads their own, GET counts as a read."""
    return [
        Route(
            endpoint=endpoint,
            method=method,
            path=path,
            pattern=re.compile(re.escape(path).replace("ID", "([^/]+)")),
            handler=handler,
            budget=_budget(endpoint, method),
            is_open=endpoint in ("auth", "refresh") or path == "/upload",
        )
        for endpoint, method, path, handler in rows
    ]


def _budget(endpoint: Endpoint, method: str) -> Budget | None:
    if endpoint in ("auth", "refresh"):
        return None
    if endpoint == "upload":
        return Budget.UPLOADS
    return Budget.READS if method == "GET" else Budget.WRITES
