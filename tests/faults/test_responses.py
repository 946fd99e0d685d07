"""Responses that nobody expects: none causes anything but a result or one of our errors."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import random
import signal
import ssl
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from unittest import mock

import aiohttp.connector
import pytest
import trustme
from anyio.from_thread import start_blocking_portal

from async_uploader import (
    ApiError,
    Client,
    ConfigurationError,
    TransportError,
    UploaderError,
    UploadFailed,
    UploadItem,
    Video,
    upload,
)
from async_uploader._flow.retries import RetryPolicy
from async_uploader.cli._main import run
from async_uploader.emulator import Emulator
from async_uploader.events import RateLimitWait, RequestKind, UploadEvent
from harness.world import HANG_SECONDS, KEY, QuickClient, check_sentence, service

from .proxy import LOGIN, Handler, Request, between, mutated, response, serving

pytestmark = pytest.mark.anyio

TOKEN: Final = "to1Secret/that+must=not&show"
SHORT: Final = 0.3
# For what moves all the time: longer than a busy machine keeps a process waiting.
STALL: Final = 1.0
SMALL: Final = b"a small video"

RUNS: Final = 200
COMMANDS: Final = 60


# Mutated responses to everything


async def _upload(client: Client) -> object:
    return await client.upload(SMALL, stall_timeout=SHORT, max_attempts=2)


async def _upload_two_parts(client: Client) -> object:
    return await client.upload(
        bytes(6 * 1024 * 1024), stall_timeout=SHORT, max_attempts=2, part_size=5 * 1024 * 1024
    )


async def _status(client: Client) -> object:
    video = await client.create_video(title="x")
    return await client.get_status(video.video_id)


async def _list(client: Client) -> object:
    return (await client.list_videos(), await client.list_upload_tokens())


async def _tokens(client: Client) -> object:
    token = await client.create_upload_token()
    found = await client.get_upload_token(token.token)
    await client.delete_upload_token(token.token)
    return found


async def _delete(client: Client) -> object:
    video = await client.create_video(title="x", metadata={"a": "b"}, tags=["c"])
    await client.delete_video(video.video_id)
    return video


async def _change(client: Client) -> object:
    video = await client.create_video(title="x", metadata={"a": "b"})
    return await client.update_video(video.video_id, title="y")


async def _import(client: Client) -> object:
    return await client.import_video((await client.list_videos(limit=1))[0].video_id)


CALLS: Final = (_upload, _upload, _upload_two_parts, _status, _list, _tokens, _delete, _change, _import)


class ImpatientClient(QuickClient):
    """Two attempts of each request, with backoffs of milliseconds."""

    _retry_policy = RetryPolicy(max_attempts=2, first_backoff_seconds=0.001, max_wait_seconds=5)
    _first_poll_seconds = 0.01


async def test_every_call_with_mutated_responses() -> None:
    """A result that can be used, or one of our errors; nothing hangs."""
    dice = random.Random(11)

    def change(_: Request, answer: bytes) -> bytes:
        return mutated(answer, dice) if dice.random() < 0.4 else answer

    ended = {"result": 0, "error": 0}
    errors: list[UploaderError] = []
    async with service() as emulator, between(emulator, change) as url:
        async with QuickClient(api_key=KEY, base_url=emulator.url) as direct:
            await direct.upload(SMALL)
        for number in range(RUNS):
            call = CALLS[number % len(CALLS)]
            try:
                async with asyncio.timeout(HANG_SECONDS), ImpatientClient(api_key=KEY, base_url=url) as client:
                    assert repr(await call(client))
                ended["result"] += 1
            except UploaderError as exc:
                ended["error"] += 1
                errors.append(exc)
    assert min(ended.values()) > RUNS // 10, ended
    for error in errors:
        assert str(error).isprintable()
        pickle.loads(pickle.dumps(error))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Commands run in this process, in a directory of their own, and leave no signal handler or log handler."""
    monkeypatch.chdir(tmp_path)
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.getsignal(number) for number in numbers}
    logger = logging.getLogger("async_uploader")
    before = (logger.handlers[:], logger.propagate, logger.level)
    # The commands create their clients themselves.
    quick = ("_retry_policy", "_rate_window_seconds", "_settling_policy", "_first_poll_seconds")
    with mock.patch.multiple(Client, **{name: getattr(ImpatientClient, name) for name in quick}):
        yield tmp_path
    logger.handlers[:], logger.propagate = before[:2]
    logger.setLevel(before[2])
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_every_command_with_mutated_responses(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0 with the document, or 1 with a message; no traceback."""
    dice = random.Random(12)
    odds = [0.0]

    def change(_: Request, answer: bytes) -> bytes:
        return mutated(answer, dice) if dice.random() < odds[0] else answer

    for name in "abc":
        (here / f"{name}.mp4").write_bytes(SMALL + name.encode())
    transfer = ("--stall-timeout", str(SHORT), "--max-attempts", "2")
    with start_blocking_portal() as portal:
        emulator = portal.call(_made)
        with (
            portal.wrap_async_context_manager(emulator),
            portal.wrap_async_context_manager(between(emulator, change)) as url,
        ):
            monkeypatch.setenv("APIVIDEO_API_KEY", KEY)
            monkeypatch.setenv("APIVIDEO_BASE_URL", url)
            assert run(["upload", "a.mp4", "--no-resume"]) == 0
            video_id = capfd.readouterr().out.split()[0]
            commands = (
                ["upload", "a.mp4", *transfer, "--json"],
                ["upload", "a.mp4", "b.mp4", "c.mp4", *transfer, "--json", "--wait", "--wait-timeout", "3"],
                ["upload", "a.mp4", "b.mp4", *transfer, "--results", "r.jsonl"],
                ["status", video_id],
                ["status", video_id, "--json"],
                ["import", video_id],
                ["import", video_id, "--json"],
                ["delete", "viNothing"],
                ["tokens", "create", "--json"],
                ["tokens", "list"],
                ["tokens", "delete", "toNothing"],
                ["uploads", "--json"],
            )
            odds[0] = 0.4
            for number in range(COMMANDS):
                command = commands[number % len(commands)]
                code = run(command)
                out, err = capfd.readouterr()
                assert code in (0, 1), (command, code, err)
                assert "Traceback" not in err, (command, err)
                assert "unexpected" not in err, (command, err)
                if "--json" in command and (code == 0 or command[:3] == ["upload", "a.mp4", "b.mp4"]):
                    json.loads(out, parse_constant=pytest.fail)


async def _made() -> Emulator:
    return service()


@pytest.mark.parametrize(
    "odd",
    [
        {"receivedBytes": None}, {"receivedParts": []}, {"receivedParts": [None]}, {"receivedBytes": {"a": None}},
        {"filesize": "13"}, {"receivedParts": "all"}, {"status": None},
    ],
    ids=str,
)  # fmt: skip
async def test_an_odd_sibling_in_ingest_does_not_fail_a_finished_video(odd: dict[str, Any]) -> None:
    def change(request: Request, answer: bytes) -> bytes:
        if not request.path.endswith("/status"):
            return answer
        status = json.loads(answer.partition(b"\r\n\r\n")[2])
        return response(200, {**status, "ingest": {**status["ingest"], **odd}})

    async with service() as emulator, between(emulator, change) as url:
        async with QuickClient(api_key=KEY, base_url=url) as client:
            video = await client.upload(SMALL, stall_timeout=1)
        assert (await emulator.finished(video.video_id)).size_bytes == len(SMALL)


@pytest.mark.parametrize("assets", [None, [], "x", [None], {"player": 7}], ids=str)
async def test_odd_assets_of_a_finished_video(assets: object) -> None:
    def change(request: Request, answer: bytes) -> bytes:
        if request.path.startswith("/auth") or request.path.endswith("/status"):
            return answer
        return response(201, {**json.loads(answer.partition(b"\r\n\r\n")[2]), "assets": assets})

    async with (
        service() as emulator,
        between(emulator, change) as url,
        QuickClient(api_key=KEY, base_url=url) as client,
    ):
        video = await client.upload(SMALL)
    assert (video.title, video.assets.player) == ("stream", None)


async def test_a_list_that_never_ends_and_items_without_an_id(caplog: pytest.LogCaptureFixture) -> None:
    asked = []

    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        asked.append(request.path)
        page = {"data": [{"videoId": "vi1"}, {"title": "lost"}, None], "pagination": {"pagesTotal": 10**9}}
        writer.write(response(200, LOGIN if request.path.startswith("/auth") else page))

    async with serving(handle) as url, QuickClient(api_key=KEY, base_url=url) as client:
        assert [video.video_id for video in await client.list_videos()] == ["vi1"]
    assert len(asked) == 3
    assert "it has no videoId" in caplog.text


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b"", b"[" * 100_000], ids=lambda body: ascii(body)[:8])
async def test_a_read_that_cannot_be_read_is_repeated(body: bytes) -> None:
    """Three times, as it may be a portal's page; and then the error says what to look at."""
    asked: list[str] = []

    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        is_login = request.path.startswith("/auth")
        asked.append(request.path)
        writer.write(response(200, LOGIN if is_login else body))

    async with serving(handle) as url, QuickClient(api_key=KEY, base_url=url) as client:
        with pytest.raises(TransportError, match="200 with something that is not a status; check the base URL"):
            await client.get_status("vi1")
    assert asked == ["/auth/api-key", *["/videos/vi1/status"] * 3]


# Logins


@pytest.mark.parametrize(
    "odd",
    [
        {"access_token": "a\r\nX-Evil: 1"}, {"access_token": "é"}, {"access_token": "a b"}, {"access_token": None},
        {"access_token": "a" * 100_000}, {"access_token": "\ud800"},
    ],
    ids=lambda odd: ascii(odd["access_token"])[:12],
)  # fmt: skip
async def test_a_login_that_cannot_be_used(odd: dict[str, Any]) -> None:
    async def handle(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(response(200, {**LOGIN, **odd}))

    async with serving(handle) as url, QuickClient(api_key=KEY, base_url=url) as client:
        with pytest.raises(UploaderError, match="200 with something that is not a bearer token") as caught:
            await client.get_video("vi1")
    check_sentence(str(caught.value))


@pytest.mark.parametrize(
    "expires_in",
    [
        "1e999",
        pytest.param("1" + "0" * 400, id="10^400"),
        "-5",
        "NaN",
        "true",
        '"3600"',
        '"soon"',
        "null",
        "0",
        "[]",
    ],
)
async def test_any_lifetime_of_a_token(expires_in: str) -> None:
    paths = []

    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        paths.append(request.path)
        login = json.dumps({**LOGIN, "refresh_token": "bad\n", "expires_in": "?"}).replace('"?"', expires_in)
        video = json.dumps({"videoId": "vi1"})
        writer.write(response(200, (login if request.path.startswith("/auth") else video).encode()))

    async with serving(handle) as url, QuickClient(api_key=KEY, base_url=url) as client:
        for _ in range(3):
            assert (await client.get_video("vi1")).video_id == "vi1"
    assert paths == ["/auth/api-key", *["/videos/vi1"] * 3]


# Waits that the service asks for


def _refusing(status: int, *headers: str) -> Handler:
    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path.startswith("/auth"):
            writer.write(response(200, LOGIN))
        else:
            writer.write(response(status, {"title": "Busy"}, *headers))

    return handle


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    "wait", ["1000000000", "9" * 400, "1e300", "Fri, 31 Dec 2999 23:59:59 GMT", "3601"], ids=lambda wait: wait[:12]
)
async def test_a_wait_beyond_reason_fails_at_once(status: int, wait: str) -> None:
    async with (
        serving(_refusing(status, f"Retry-After: {wait}")) as url,
        QuickClient(api_key=KEY, base_url=url) as client,
        asyncio.timeout(10),
    ):
        for _ in range(2):  # by the response, and then, on a 429, by the window
            with pytest.raises(
                ApiError, match=r"It asks to wait .*; the longest accepted wait is 1 h\."
            ) as caught:
                await client.get_video("vi1")
            assert caught.value.status == status
            check_sentence(str(caught.value))


class DefaultWindowClient(QuickClient):
    """The window of the service: one minute."""

    _rate_window_seconds = 60.0


@pytest.mark.parametrize("name", ["Retry-After", "X-RateLimit-Retry-After"])
@pytest.mark.parametrize("value", ["0.4", "a date"])
async def test_a_fraction_or_a_date_on_a_429(name: str, value: str) -> None:
    """It is waited for as long as that, and not for a minute."""
    times: list[float] = []

    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path.startswith("/auth"):
            writer.write(response(200, LOGIN))
            return
        times.append(time.monotonic())
        date = f"Date: {_http_date(0)}"
        header = f"{name}: {_http_date(1) if value == 'a date' else value}"
        first = len(times) == 1
        writer.write(response(429, {}, header, date) if first else response(200, {"videoId": "vi1"}))

    async with serving(handle) as url, DefaultWindowClient(api_key=KEY, base_url=url) as client:
        async with asyncio.timeout(20):
            await client.get_video("vi1")
    assert 0.4 <= times[1] - times[0] < 15


def _http_date(seconds: float) -> str:
    return (datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).strftime("%a, %d %b %Y %H:%M:%S GMT")


async def test_a_long_wait_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """In the log, and as an event; for those, too, that had no refusal themselves."""
    waits = asyncio.Event()

    def hear(event: UploadEvent) -> None:
        if isinstance(event, RateLimitWait):
            waits.set()

    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        await client.list_videos()
        refusal = {"X-RateLimit-Retry-After": "1800"}
        client._limiter.update(RequestKind.WRITE, 429, refusal)
        task = asyncio.create_task(client.upload(SMALL, on_event=hear))
        await asyncio.wait_for(waits.wait(), 10)
        task.cancel()
        await asyncio.wait([task])
    assert "stream: the account's rate limit is used up; waiting 30 min." in caplog.text


async def test_a_reset_that_is_a_timestamp_is_no_reset() -> None:
    """Only a refusal closes a window for so long; other responses are not believed."""

    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        limits = ("X-RateLimit-Limit: 100", "X-RateLimit-Remaining: 0", "X-RateLimit-Retry-After: 1790000000")
        writer.write(response(200, LOGIN if request.path.startswith("/auth") else {"videoId": "vi1"}, *limits))

    async with serving(handle) as url, QuickClient(api_key=KEY, base_url=url) as client, asyncio.timeout(10):
        for _ in range(3):
            await client.get_video("vi1")


# Responses that do not end


async def _drip(writer: asyncio.StreamWriter, pieces: AsyncIterator[bytes]) -> None:
    async for piece in pieces:
        writer.write(piece)
        await writer.drain()


async def _forever(first: bytes, piece: bytes) -> AsyncIterator[bytes]:
    yield first
    while True:
        await asyncio.sleep(STALL / 10)
        yield piece


ENDLESS: Final = (
    (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b" "),
    (b"HTTP/1.1 200 OK\r\nX-Long: ", b"a"),
    (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
)


async def test_a_response_that_never_ends_is_given_up() -> None:
    """Bytes move all the time, so that only the bound on the whole response ends it. All at once, as it takes."""
    stalls = 4
    bound_seconds = stalls * STALL

    async def given_up(first: bytes, piece: bytes, *, of_a_part: bool) -> None:
        async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
            if request.path.startswith("/auth"):
                writer.write(response(200, LOGIN))
            elif request.method == "DELETE":
                writer.write(response(204, b""))
            elif of_a_part and request.path == "/videos":
                writer.write(response(201, {"videoId": "vi1"}))
            else:
                await _drip(writer, _forever(first, piece))

        async with serving(handle) as url, QuickClient(api_key=KEY, base_url=url) as client:
            client._http.response_stalls = stalls
            began = time.monotonic()
            if of_a_part:
                call: Awaitable[Video] = client.upload(SMALL, stall_timeout=STALL, max_attempts=1)
            else:
                call = client._service.with_stall(STALL).get_video("vi1")
            with pytest.raises(UploaderError, match=f"the response was not complete after {bound_seconds:g} s"):
                await call
            assert bound_seconds <= time.monotonic() - began < 3 * bound_seconds

    await asyncio.gather(*(given_up(*one, of_a_part=part) for one in ENDLESS for part in (True, False)))


async def test_a_long_body_is_no_response() -> None:
    """The bound begins at its end: a slow upload that moves lives for ever."""
    size_bytes, stalls = 6 * 1024 * 1024, 3
    rate = size_bytes / (1.5 * stalls * STALL)
    async with (
        service(connection_rate=rate) as emulator,
        QuickClient(api_key=KEY, base_url=emulator.url) as client,
    ):
        client._http.response_stalls = stalls
        began = time.monotonic()
        await client.upload(bytes(size_bytes), stall_timeout=STALL, max_attempts=1, part_size=size_bytes)
        assert time.monotonic() - began > stalls * STALL


async def test_a_slow_login_that_moves_is_not_cut() -> None:
    """It takes longer than the stall timeout, and nothing stands still for so long."""
    body = json.dumps(LOGIN).encode()

    async def slowly() -> AsyncIterator[bytes]:
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        for piece in (head[:10], head[10:], *(body[start : start + 20] for start in range(0, len(body), 20))):
            await asyncio.sleep(STALL / 4)
            yield piece

    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path.startswith("/auth"):
            await _drip(writer, slowly())
        else:
            writer.write(response(200, {"videoId": "vi1"}))

    async with (
        serving(handle) as url,
        QuickClient(api_key=KEY, base_url=url) as client,
        asyncio.timeout(HANG_SECONDS),
    ):
        impatient = client._service.with_stall(STALL)
        videos = await asyncio.gather(*(impatient.get_video("vi1") for _ in range(3)))
    assert [video.video_id for video in videos] == ["vi1"] * 3


async def test_each_caller_waits_for_a_login_as_long_as_it_wants() -> None:
    """One is impatient, another is not; the login answers nothing."""

    async def handle(_: Request, __: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with (
        serving(handle) as url,
        QuickClient(api_key=KEY, base_url=url) as client,
        asyncio.timeout(HANG_SECONDS),
    ):
        patient = asyncio.create_task(client._service.with_stall(1000).get_video("vi1"))
        with pytest.raises(TransportError, match=r"nothing moved for 0\.3 s"):
            await client._service.with_stall(SHORT).get_video("vi1")
        assert not patient.done()
        patient.cancel()
        await asyncio.wait([patient])


# TLS


@pytest.fixture
def ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that this process trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    # aiohttp makes its context once, when it is imported.
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", trusting)
    return authority


def _server(ca: trustme.CA, *names: str, **settings: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*(names or ("127.0.0.1",)), **settings).configure_cert(context)
    return context


async def _never(_: Request, __: asyncio.StreamWriter) -> None:
    pytest.fail("a request came through")


async def _failing_with(url: str) -> TransportError:
    async with QuickClient(api_key=KEY, base_url=url) as client:
        with pytest.raises(TransportError) as caught:
            await client._service.get_video("vi1")
    check_sentence(str(caught.value))
    return caught.value


# What a server sends that refuses a handshake: an alert (RFC 8446, 6), or its own protocol.
HANDSHAKES: Final = {
    "no version in common": (
        b"\x15\x03\x01\x00\x02\x02\x46",
        "the server and this machine have no TLS version in common",
    ),
    "no cipher in common": (b"\x15\x03\x03\x00\x02\x02\x28", "the server refused it (handshake failure)"),
    "no TLS": (
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        "the server does not speak TLS; check the address and the port",
    ),
    "closed": (
        b"",
        "the connection was closed; perhaps the server and this machine have no TLS version in common",
    ),
}


@pytest.mark.parametrize(("answer", "says"), HANDSHAKES.values(), ids=HANDSHAKES)
async def test_a_handshake_that_fails(answer: bytes, says: str) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10_000)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        error = await _failing_with(f"https://127.0.0.1:{port}")
    assert str(error) == f"No response from the service: TLS handshake with 127.0.0.1:{port} failed: {says}."
    assert error.retryable is (answer == b"")


async def test_no_tls_version_in_common_with_a_real_server(ca: trustme.CA) -> None:
    context = _server(ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    trusting = aiohttp.connector._SSL_CONTEXT_VERIFIED
    trusting.minimum_version = ssl.TLSVersion.TLSv1_3
    async with serving(_never, ssl=context) as url:
        error = await _failing_with(url)
    assert f"TLS handshake with {url.removeprefix('https://')} failed: " in str(error)
    assert "have no TLS version in common" in str(error)


@pytest.mark.parametrize(
    ("names", "begins", "ends", "says"),
    [
        ((), -9, -1, "has expired; it must be renewed there, if the clock of this machine is right"),
        ((), 1, 9, "is not valid yet; check the clock of this machine"),
        (("elsewhere.example",), -1, 9,
         "is for another name (IP address mismatch, certificate is not valid for '127.0.0.1')"),
    ],
    ids=["expired", "not yet valid", "another name"],
)  # fmt: skip
async def test_a_certificate(ca: trustme.CA, names: tuple[str, ...], begins: int, ends: int, says: str) -> None:
    now = datetime.now(UTC)
    context = _server(ca, *names, not_before=now + timedelta(days=begins), not_after=now + timedelta(days=ends))
    async with serving(_never, ssl=context) as url:
        error = await _failing_with(url)
    assert str(error) == f"No response from the service: its certificate {says}."
    assert not error.retryable


# Secrets in what is chained


def _raw(answer: bytes, *, abort: bool = False) -> Handler:
    async def handle(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        if abort:
            writer.transport.abort()

    return handle


async def _stalls(_: Request, __: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


FAILURES: Final[dict[str, Handler]] = {
    "closed": _raw(b""),
    "reset": _raw(b"", abort=True),
    "cut in the headers": _raw(b"HTTP/1.1 200 OK\r\nConte"),
    "cut in the body": _raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"),
    "no HTTP": _raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    "two lengths": _raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
    "bad chunks": _raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
    "bad gzip": _raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"),
    "long header": _raw(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n"),
    "stalls": _stalls,
    "refused": _raw(response(401, {"title": f"Bad token {TOKEN}", "detail": f"{TOKEN} is not a token"})),
    "unreadable": _raw(response(200, b"<html>")),
}


def check_hides(error: BaseException, *secrets: str) -> None:
    """Neither the error nor anything that is chained to it shows a secret."""
    told = "".join(traceback.format_exception(error))
    chain: list[BaseException] = [error]
    for one in chain:
        told += f"{one!s} {one!r} {one.args!r} {vars(one)!r}"
        chain += [other for other in (one.__cause__, one.__context__) if other is not None and other not in chain]
        assert not hasattr(one, "request_info")
    told += repr(pickle.dumps(error))
    for secret in secrets:
        assert secret not in told


@pytest.mark.parametrize("big", [False, True], ids=["small", "big"])
@pytest.mark.parametrize("handle", FAILURES.values(), ids=FAILURES)
async def test_no_token_in_what_is_chained(handle: Handler, big: bool) -> None:
    source = bytes(30 * 1024 * 1024) if big else SMALL
    async with serving(handle) as url:
        with pytest.raises(UploaderError) as caught:
            await upload(source, upload_token=TOKEN, base_url=url, max_attempts=2, stall_timeout=SHORT)
    check_hides(caught.value, TOKEN, TOKEN[:9])


async def _closes_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1000)
    writer.transport.abort()


async def test_no_token_in_what_is_chained_when_the_body_cannot_be_written() -> None:
    """aiohttp names the URL then."""
    server = await asyncio.start_server(_closes_early, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(UploaderError) as caught:
            await upload(bytes(30 * 1024 * 1024), upload_token=TOKEN, base_url=url, max_attempts=2)
    check_hides(caught.value, TOKEN, TOKEN[:9])


async def test_no_token_in_what_is_chained_when_nobody_listens() -> None:
    with pytest.raises(UploaderError) as caught:
        await upload(SMALL, upload_token=TOKEN, base_url="http://127.0.0.1:9", max_attempts=1)
    check_hides(caught.value, TOKEN, TOKEN[:9])
    assert isinstance(caught.value.__cause__, TransportError)
    assert isinstance(caught.value.__cause__.__cause__, Exception)


@pytest.mark.parametrize("name", ["closed", "cut in the body", "no HTTP", "bad chunks"])
async def test_no_bearer_token_in_what_is_chained(name: str) -> None:
    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path.startswith("/auth"):
            writer.write(response(200, LOGIN))
        else:
            await FAILURES[name](request, writer)

    async with serving(handle) as url, QuickClient(api_key=KEY, base_url=url) as client:
        with pytest.raises(TransportError) as caught:
            await client._service.get_upload_token(TOKEN)
    check_hides(caught.value, TOKEN, TOKEN[:9], str(LOGIN["access_token"]), KEY)


async def test_an_unexpected_exception_while_a_response_is_read_is_one_of_ours() -> None:
    async with serving(_raw(response(200, LOGIN))) as url, QuickClient(api_key=KEY, base_url=url) as client:
        with (
            mock.patch("aiohttp.StreamReader.read", side_effect=LookupError(f"odd {TOKEN}")),
            pytest.raises(TransportError, match=r"the response could not be read \(LookupError\)") as caught,
        ):
            await client._service.get_video("vi1")
    assert caught.value.__cause__ is not None
    check_hides(caught.value, TOKEN)


# Many uploads


class Oddity(Exception):
    """What nobody expects."""


async def test_no_exception_of_one_upload_stops_the_others(tmp_path: Path) -> None:
    def odd(_: object) -> None:
        raise Oddity("out of the\nblue")

    def full(_: Video) -> None:
        raise OSError(28, "No space left on device")

    def cancelled(_: object) -> None:
        raise asyncio.CancelledError

    options: list[dict[str, Any]] = [
        {}, {"on_video": odd}, {"on_event": odd}, {"on_progress": odd}, {"on_video": full}, {"part_size": 7},
        {"on_video": cancelled}, {},
    ]  # fmt: skip
    paths = [tmp_path / f"{number}.mp4" for number in range(len(options))]
    for path in paths:
        path.write_bytes(SMALL)
    items = [UploadItem(source=path, options=more) for path, more in zip(paths, options, strict=True)]  # type: ignore[arg-type]
    items.insert(1, UploadItem(source=7))  # type: ignore[arg-type]
    errors: dict[Path, UploaderError | None] = {}
    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:

        async def all_of_them() -> None:
            async for result in client.upload_many(items, concurrency=2):
                assert isinstance(result.item.source, Path)
                errors[result.item.source] = result.error
                assert (result.video is None) is (result.error is not None)

        with pytest.raises(TypeError, match="source must be"):
            await all_of_them()
    kinds = [type(errors[path]) for path in paths]
    assert kinds == [
        type(None), UploaderError, UploaderError, UploadFailed, UploaderError, ConfigurationError,
        UploaderError, type(None),
    ]  # fmt: skip
    odd_error = errors[paths[1]]
    assert odd_error is not None
    assert str(odd_error) == "The upload ended with an unexpected Oddity: out of the blue."
    assert isinstance(odd_error.__cause__, Oddity)
    assert isinstance(getattr(errors[paths[4]], "__cause__", None), OSError)


# Addresses


HOSTS: Final = (
    "ws..api.video",
    ".ws.api.video",
    "a" * 64 + ".video",
    "xn--a.video",
    ".".join(["a" * 60] * 5),
    "a b",
)


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host[:15])
async def test_a_host_that_no_resolver_takes(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"The base URL .* is malformed: its host name ") as caught:
        QuickClient(api_key=KEY, base_url=f"https://{host}")
    assert str(caught.value).endswith(".")
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:password@{host}:3128")
    with pytest.raises(
        ConfigurationError, match="The HTTPS_PROXY variable is malformed: its host name "
    ) as caught:
        async with QuickClient(api_key=KEY):
            pass
    assert "password" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "proxy", ["socks5://127.0.0.1:1080", "http://", "http://h:99999", "http://[::1", "http://h:0"]
)
async def test_a_proxy_that_cannot_be_used(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(ConfigurationError, match="The HTTPS_PROXY variable is malformed: "):
        async with QuickClient(api_key=KEY):
            pass


@pytest.mark.parametrize("variable", ["APIVIDEO_BASE_URL", "HTTPS_PROXY"])
def test_an_impossible_address_is_wrong_usage(
    here: Path, variable: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "a.mp4").write_bytes(SMALL)
    monkeypatch.setenv("APIVIDEO_API_KEY", KEY)
    monkeypatch.setenv(variable, "https://ws..api.video")
    for command in (["upload", "a.mp4"], ["status", "vi1"], ["delete", "\udcff"]):
        assert run(command) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("error: ")
