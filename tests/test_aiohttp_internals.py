"""Internals of aiohttp that the package relies on.

If a test here fails after an update of aiohttp, the package is probably broken with that version: adapt the named
module, or exclude the version in pyproject.toml.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from aiohttp import payload
from aiohttp.http_writer import StreamWriter
from yarl import URL

from async_uploader import TransportError
from async_uploader._api import http, multipart
from async_uploader._api.http import Http, Response

from .test_multipart import body_of

#: Long enough for a loaded machine, and shorter than the timeout of a test.
_PATIENCE_SECONDS: Final = 30.0
_NEVER_SECONDS: Final = 3600.0
_OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.mark.parametrize(
    ("owner", "name", "user"),
    [
        (aiohttp.ClientRequest, "update_expect_continue", "http.Request overrides"),
        (aiohttp.ClientRequest, "_continue", "http.Request ends the wait for `100 Continue` by setting"),
        (payload.Payload, "size", "multipart.PartBody gives its length by overriding"),
        (payload.Payload, "write_with_length", "multipart.PartBody sends itself by overriding"),
        (StreamWriter, "transport", "multipart.PartBody reads the connection from"),
        (StreamWriter, "drain", "multipart.PartBody waits for the transport by"),
        (aiohttp.ClientResponse, "connection", "body_receiver.receive_body takes over"),
        (aiohttp.StreamReader, "read_nowait", "body_receiver.receive_body takes what has arrived by"),
        (aiohttp.StreamReader, "feed_eof", "body_receiver.receive_body returns the connection by"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_attribute(owner: type, name: str, user: str) -> None:
    """aiohttp still has it."""
    assert hasattr(owner, name), (
        f"aiohttp {aiohttp.__version__} has no `{owner.__name__}.{name}` any more. {user} it."
    )


def test_overridden_methods_have_the_same_parameters() -> None:
    """aiohttp calls what the package overrides with the arguments that the package expects."""
    for ours, base in ((http.Request, aiohttp.ClientRequest), (multipart.PartBody, payload.Payload)):
        for name, method in vars(ours).items():
            theirs = getattr(base, name, None)
            if name.startswith("__") or not inspect.isfunction(theirs) or not inspect.isfunction(method):
                continue
            expected = [parameter.lstrip("_") for parameter in inspect.signature(theirs).parameters]
            actual = [parameter.lstrip("_") for parameter in inspect.signature(method).parameters]
            assert actual == expected, (
                f"aiohttp {aiohttp.__version__} has changed the parameters of `{base.__name__}.{name}` "
                f"to {expected}; {ours.__module__}.{ours.__name__} overrides it with {actual}."
            )


@pytest.mark.parametrize(
    ("module", "cls", "base", "used"),
    [
        (http, "Request", aiohttp.ClientRequest, {"_continue", "loop", "update_expect_continue"}),
        (multipart, "PartBody", payload.Payload, {"write", "write_with_length", "decode", "size"}),
    ],
    ids=["http.Request", "multipart.PartBody"],
)
def test_no_other_names_of_the_base_class_are_used(module: Any, cls: str, base: Any, used: set[str]) -> None:
    """A subclass uses no private name by accident, for instance one that a new version of aiohttp introduces."""
    names = _own_names(Path(module.__file__), cls) - {"__init__"}
    shared = names & _names_of(base)
    unexpected = {name for name in shared - used if name.startswith("_") or name not in dir(base)}
    assert not unexpected, (
        f"`{cls}` and aiohttp {aiohttp.__version__}'s `{base.__name__}` both use {sorted(unexpected)}. "
        f"Rename it in {module.__name__}, or add it here with a test of what the package relies on."
    )


def _own_names(path: Path, cls: str) -> set[str]:
    """The methods of a class, and all attributes of ``self`` that it uses."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (body,) = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == cls)
    methods = {node.name for node in body.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return methods | {
        node.attr
        for node in ast.walk(body)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }


def _names_of(base: type) -> set[str]:
    """The attributes of a class and its bases, including those that they set on ``self``."""
    names = set(dir(base))
    for each in base.__mro__[:-1]:
        if each.__module__.partition(".")[0] == "aiohttp":
            names |= _own_names(Path(inspect.getfile(each)), each.__name__)
    return names


@pytest.mark.parametrize("after_100", [False, True], ids=["server-is-silent", "server-says-100"])
async def test_the_body_is_sent_after_100_continue_or_a_timeout(after_100: bool) -> None:
    """Never before."""

    class Request(http.Request):
        continue_timeout_seconds = _NEVER_SECONDS if after_100 else 0.05

    sent_with_head = b""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent_with_head
        head, _, sent_with_head = (await reader.read(65536)).partition(b"\r\n\r\n")
        assert b"Expect: 100-continue" in head
        if after_100:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while b"0123456789" not in await reader.readuntil(b"\r\n"):
            pass
        writer.write(_OK)

    async with _listening(talk) as url:
        response = await _within_patience(
            _exchange(url, Request, headers={"Expect": "100-continue"}, body=body_of(b"0123456789")),
            "sends no body without `100 Continue`: it no longer calls `update_expect_continue`, or it no longer "
            "waits for the future in `ClientRequest._continue`, which http.Request sets after a timeout",
        )
    assert response.status == 200
    assert sent_with_head == b"", (
        f"aiohttp {aiohttp.__version__} does not wait for `100 Continue` before it sends the body."
    )


async def test_no_body_is_sent_after_a_refusal() -> None:
    """If the service refuses a request that expects `100 Continue`, no byte of the body is sent."""
    body = body_of(b"0123456789")

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    async with _listening(talk) as url:
        response = await _within_patience(
            _exchange(url, headers={"Expect": "100-continue"}, body=body), "does not read an early refusal"
        )
    assert response.status == 400
    assert body.transport is None, f"aiohttp {aiohttp.__version__} sends the body of a refused request."


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_aiohttp_does_not_retry(method: str) -> None:
    """aiohttp would retry a request whose kept-alive connection is lost; `http._without_retry` prevents that."""
    requests = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        while await reader.readuntil(b"\r\n\r\n"):
            requests += 1
            if requests > 1:
                return
            writer.write(_OK)

    async with _listening(talk) as url, Http(URL(url), headers={}) as session:
        await session.exchange(method, "/", stall_seconds=_PATIENCE_SECONDS)
        with pytest.raises(TransportError) as caught:
            await session.exchange(method, "/", stall_seconds=_PATIENCE_SECONDS)
    assert caught.value.maybe_received
    assert requests == 2, (
        f"aiohttp {aiohttp.__version__} retried a request whose connection was lost: it no longer passes every "
        f"attempt through the middleware `http._without_retry`, or it retries after a `LostConnectionError`."
    )


async def _exchange(url: str, request_class: type[http.Request] = http.Request, **options: Any) -> Response:
    async with Http(URL(url), headers={}, request_class=request_class) as session:
        return await session.exchange("POST", "/", stall_seconds=_PATIENCE_SECONDS, **options)


async def _within_patience(exchange: Awaitable[Response], otherwise: str) -> Response:
    try:
        return await exchange
    except TransportError as error:
        pytest.fail(f"aiohttp {aiohttp.__version__} {otherwise}. ({error})")


@asynccontextmanager
async def _listening(talk: Talk) -> AsyncIterator[str]:
    """A server that runs ``talk`` for each connection and then closes it. Exceptions of ``talk`` fail the test."""
    tasks: set[asyncio.Task[None]] = set()
    errors: list[Exception] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await talk(reader, writer)
            await writer.drain()
        except Exception as error:  # noqa: BLE001 - raised below
            errors.append(error)
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        yield f"http://{host}:{port}/"
        if tasks:
            await asyncio.wait(tasks)
        assert errors == []
    finally:
        server.close()
        await server.wait_closed()
