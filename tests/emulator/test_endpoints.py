"""Every endpoint of the OpenAPI description is implemented, or refused with 501."""

from __future__ import annotations

import re

import pytest

from .conftest import Api
from .endpoint_table import documented, endpoints, is_implemented, table

pytestmark = pytest.mark.anyio


async def test_every_endpoint(api: Api) -> None:
    """Unimplemented endpoints get a problem that says so. All others are found, and need credentials."""
    for method, path in endpoints():
        url = re.sub(r"{\w+}", "en", path)
        reply = await api.call(method, url)
        if is_implemented(method, path):
            assert reply.status in (200, 400, 401, 404), (method, path)
            assert reply.status == 200 or reply.slug not in ("unrecognized-request-url", "not-implemented")
        else:
            assert (reply.status, reply.slug) == (501, "not-implemented"), (method, path)
            assert f"{method} {url}" in reply.json["detail"]
        if not (path.startswith("/auth/") or path == "/upload"):
            reply = await api.call(method, url, headers={"Authorization": "none"}, expect=401)


def test_the_documented_table() -> None:
    """The table is current. `python -m tests.emulator.endpoint_table` writes it."""
    assert documented() == table()
