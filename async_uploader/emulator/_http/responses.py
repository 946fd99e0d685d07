"""Makes responses: JSON, problems, and those of injected faults."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from async_uploader.emulator._faults import Body, Fault, fault_title
from async_uploader.emulator._problems import CATALOGUE, DOCS

if TYPE_CHECKING:
    from async_uploader.emulator._problems import Problem

_STATUS_SLUGS: Final = {
    401: "authentication-invalid-access-token",
    403: "account-suspended",
    404: "resource-not-found",
    405: "method-not-allowed",
    413: "uploaded-file-too-large",
    429: "too-many-requests",
}


def json_response(status: int, payload: object, *, media_type: str = "application/json") -> web.Response:
    """JSON with a bare media type: the official Node client refuses a charset."""
    return web.Response(status=status, body=msgspec.json.encode(payload), headers={"Content-Type": media_type})


def problem_response(problem: Problem) -> web.Response:
    return json_response(problem.status, problem.body(), media_type="application/problem+json")


def fault_response(fault: Fault, status: int) -> web.Response:
    """The response of a fault. HTML and empty bodies look like those of a proxy."""
    body = _fault_body(fault, status)
    if body == "html":
        title = html.escape(f"{status} {fault_title(status)}")
        page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
        response = web.Response(status=status, body=page.encode(), headers={"Content-Type": "text/html"})
    elif body == "empty":
        response = web.Response(status=status)
    else:
        response = json_response(status, _fault_problem(fault, status), media_type="application/problem+json")
    if fault.retry_after is not None:
        response.headers["Retry-After"] = str(fault.retry_after)
        if status == 429:
            response.headers["X-RateLimit-Remaining"] = "0"
            response.headers["X-RateLimit-Retry-After"] = str(fault.retry_after)
    response.headers.update(fault.headers)
    return response


def fault_slug(fault: Fault, status: int) -> str | None:
    """The slug of the problem in the response of a fault; None if the body is not a problem."""
    if _fault_body(fault, status) != "problem":
        return None
    return fault.problem or _STATUS_SLUGS.get(status, "server-error")


def _fault_body(fault: Fault, status: int) -> Body:
    return fault.body or ("problem" if status >= 400 else "empty")


def _fault_problem(fault: Fault, status: int) -> dict[str, object]:
    slug = fault_slug(fault, status) or "server-error"
    title = CATALOGUE[slug][1] if slug != "server-error" else fault_title(status)
    return {"type": DOCS + slug, "title": title, "status": status}
