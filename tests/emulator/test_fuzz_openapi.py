"""Requests made from the OpenAPI description, valid and malformed, never cause an internal error.

`make soak` does this for two minutes.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from itertools import count
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from async_uploader.emulator import Emulator

from .conftest import Api, basic, form
from .endpoint_table import DESCRIPTION, endpoints
from .test_fuzz import anything
from .test_tracks import VTT

pytestmark = pytest.mark.anyio

SOAK_SECONDS = 120
BATCH = 300
#: Imports would connect to other hosts, and webhooks would be delivered to them.
NEVER_SENT = {"source", "url"}
Request = tuple[str, str, dict[str, str], Any, bytes | None]


@pytest.fixture(scope="module")
async def emulator() -> AsyncIterator[Emulator]:
    """One emulator for all examples."""
    async with Emulator(video_restore=True) as running:
        yield running


@pytest.fixture(scope="module")
async def api(emulator: Emulator) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
        yield Api(session, emulator.url, basic("local-key"))


def resolve(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    kind, name = schema["$ref"].split("/")[-2:]
    found: dict[str, Any] = DESCRIPTION["components"][kind][name]
    return resolve(found)


def from_schema(schema: dict[str, Any], depth: int = 0) -> st.SearchStrategy[Any]:
    """Values of a schema, and sometimes any other value."""
    schema = resolve(schema)
    if "enum" in schema:
        return st.sampled_from(schema["enum"]) | anything
    match schema.get("type"):
        case "object" if depth < 4:
            fields = {name: from_schema(each, depth + 1) for name, each in schema.get("properties", {}).items()}
            fields = {name: value for name, value in fields.items() if name not in NEVER_SENT}
            return st.fixed_dictionaries({}, optional=fields) | anything
        case "array":
            return st.lists(from_schema(schema["items"], depth + 1), max_size=3) | anything
        case "integer" | "number":
            return st.integers(-5, 10**20) | anything
        case "boolean":
            return st.booleans() | anything
    return st.text(max_size=20) | st.sampled_from(["en", "00:00:01", "", "0"]) | anything


def of_endpoint(endpoint: tuple[str, str]) -> st.SearchStrategy[Request]:
    """Requests for one endpoint: a path, a query, JSON or a file."""
    method, path = endpoint
    operation = DESCRIPTION["paths"][path][method.lower()]
    texts = st.text(min_size=1, max_size=30).filter(lambda text: text.strip("."))
    ids = st.sampled_from(["KNOWN", "en", "fr-CA"]) | texts
    paths = st.tuples(*[ids] * path.count("{")).map(lambda values: fill(path, values))
    parameters = [resolve(each) for each in operation.get("parameters", [])]
    queries = [each["name"] for each in parameters if each["in"] == "query"]
    values = st.text(max_size=8) | st.sampled_from(["1", "asc", "createdAt"])
    query = st.dictionaries(st.sampled_from(queries or ["x"]), values, max_size=3)
    content = operation.get("requestBody", {}).get("content", {})
    payload = from_schema(content["application/json"]["schema"]) if "application/json" in content else anything
    files: st.SearchStrategy[bytes | None] = st.none()
    if "multipart/form-data" in content:
        files |= st.binary(max_size=60) | st.sampled_from([VTT, b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
    return st.tuples(st.just(method), paths, query, payload, files)


def fill(path: str, values: tuple[str, ...]) -> str:
    remaining = iter(values)
    return re.sub(r"{\w+}", lambda _: quote(next(remaining), safe="", errors="replace"), path)


requests = st.sampled_from(endpoints()).flatmap(of_endpoint)


async def send(api: Api, request: Request) -> None:
    method, path, query, payload, file = request
    if "KNOWN" in path:
        path = path.replace("KNOWN", await api.create())
    query = {name: value.encode("utf-8", "replace").decode() for name, value in query.items()}
    body: dict[str, Any] = {"json": payload} if file is None else {"data": form(file)}
    if method == "GET":
        body = {}
    reply = await api.call(method, path, params=query, **body)
    assert reply.status < 500 or reply.status == 501, (request, reply)
    if reply.status >= 400:
        assert reply.headers["Content-Type"] == "application/problem+json"
        assert reply.json["status"] == reply.status


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(request=requests)
async def test_requests(api: Api, request: Request) -> None:
    """Every method and path of the description."""
    await send(api, request)


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS * 2)
async def test_requests_for_two_minutes(api: Api) -> None:
    """The same for longer, in batches with other random numbers."""
    loop = asyncio.get_running_loop()

    @settings(max_examples=BATCH, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(request=requests)
    def explore(request: Request) -> None:
        asyncio.run_coroutine_threadsafe(send(api, request), loop).result()

    started_s = time.monotonic()
    for batch in count():
        if time.monotonic() - started_s > SOAK_SECONDS:
            break
        await asyncio.to_thread(seed(batch)(explore))
