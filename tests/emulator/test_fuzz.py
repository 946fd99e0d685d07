"""Malformed requests never cause an internal error."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from async_uploader.emulator import Emulator
from async_uploader.emulator._api.attributes import CREATE

from .conftest import Api, basic
from .raw import Raw

pytestmark = pytest.mark.anyio

many_examples = settings(max_examples=75, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
async def emulator() -> AsyncIterator[Emulator]:
    """One emulator for all examples."""
    async with Emulator() as running:
        yield running


@pytest.fixture(scope="module")
async def api(emulator: Emulator) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
        yield Api(session, emulator.url, basic("local-key"))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ids = st.sampled_from(["viX", "VIDEO", "..", "%2e%2e", "%00", "%ff", "a" * 300, "é", ""])
paths = st.one_of(
    st.sampled_from(["/", "/videos", "/upload", "/upload-tokens", "/auth/api-key", "/auth/refresh", "//", "/?"]),
    st.builds(lambda i, end: f"/videos/{i}{end}", ids, st.sampled_from(["", "/source", "/status", "/"])),
    st.builds(lambda i: f"/upload-tokens/{i}", ids),
)
methods = st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"])
numbers = st.integers(-5, 10**30) | st.sampled_from([0, 1, 2, 9_999, 10_000, 10_001])
ranges = st.one_of(
    st.builds("part {}/{}".format, numbers, numbers | st.just("*")),
    st.builds("bytes {}-{}/{}".format, numbers, numbers, numbers | st.just("*")),
    st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20),
)
header_text = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30)


def is_success_or_client_error(status: int) -> bool:
    return 200 <= status < 500 and status != 426


@many_examples
@given(
    method=st.sampled_from(["POST", "PATCH"]),
    path=st.sampled_from(["/videos", "/videos/VIDEO", "/upload-tokens", "/auth/api-key", "/auth/refresh"]),
    payload=anything
    | st.dictionaries(st.sampled_from([*CREATE, "ttl", "apiKey", "refreshToken"]), anything, max_size=4),
)
async def test_json(api: Api, method: str, path: str, payload: Any) -> None:
    """JSON of any structure."""
    if "VIDEO" in path:
        path = path.replace("VIDEO", await api.create())
    if isinstance(payload, dict) and isinstance(payload.get("source"), str) and "://" in payload["source"]:
        return
    reply = await api.call(method, path, json=payload)
    assert is_success_or_client_error(reply.status)


@many_examples
@given(method=methods, path=paths, query=st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3))
async def test_urls(api: Api, method: str, path: str, query: dict[str, str]) -> None:
    """Any method, path and query."""
    query = {
        name.encode("utf-8", "replace").decode(): value.encode("utf-8", "replace").decode()
        for name, value in query.items()
    }
    reply = await api.call(method, path, params=query)
    assert is_success_or_client_error(reply.status)


@many_examples
@given(
    content_range=ranges,
    headers=st.tuples(
        header_text | st.just("multipart/form-data; boundary=XX"), header_text | st.just(basic("local-key"))
    ),
    body=st.binary(max_size=200)
    | st.binary(max_size=60).map(
        lambda value: (
            b'--XX\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\n' + value + b"\r\n--XX--"
        )
    ),
)
async def test_uploads(
    api: Api, emulator: Emulator, content_range: str, headers: tuple[str, str], body: bytes
) -> None:
    """Any headers and forms."""
    video_id = await api.create()
    head = (
        f"POST /videos/{video_id}/source HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Range: {content_range}\r\nContent-Type: {headers[0]}\r\nAuthorization: {headers[1]}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    async with Raw(emulator.url) as raw:
        await raw.send(head.encode("latin-1") + body)
        response = await raw.response()
    assert is_success_or_client_error(response.status)
    if response.status >= 400:
        assert response.headers["content-type"] == "application/problem+json"


@many_examples
@given(
    st.binary(max_size=200)
    | st.builds(
        lambda m, rest: m + b" /videos HTTP/1.1\r\n" + rest,
        st.sampled_from([b"GET", b"POST", b"X"]),
        st.binary(max_size=200),
    )
)
async def test_bytes(emulator: Emulator, data: bytes) -> None:
    """Bytes that are not HTTP get status 400 or no response."""
    async with Raw(emulator.url) as raw:
        await raw.send(data + b"\r\n\r\n")
        raw._writer.write_eof()
        received = await raw.read_to_end()
    for line in received.split(b"\r\n"):
        if line.startswith(b"HTTP/1."):
            assert is_success_or_client_error(int(line.split()[1]))
