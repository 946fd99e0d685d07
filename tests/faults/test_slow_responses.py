"""Long waits that the service requests, and slow and endless responses."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from async_uploader import (
    ApiError,
    TransportError,
    UploaderError,
    Video,
)
from async_uploader.events import RateLimitWait, RequestKind, UploadEvent
from harness.world import HANG_SECONDS, KEY, QuickClient, check_sentence, service

from .proxy import LOGIN, Handler, Request, response, serving

pytestmark = pytest.mark.anyio

SHORT: Final = 0.3
# For connections without stalls: longer than a busy machine may delay a process.
STALL: Final = 1.0
SMALL: Final = b"a small video"


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
async def test_request_to_wait_for_hours_fails_at_once(status: int, wait: str) -> None:
    async with (
        serving(_refusing(status, f"Retry-After: {wait}")) as url,
        QuickClient(api_key=KEY, base_url=url) as client,
        asyncio.timeout(10),
    ):
        for _ in range(2):  # the first time because of the response, after a 429 then because of the window
            with pytest.raises(
                ApiError, match=r"It asks to wait .*; the longest accepted wait is 1 h\."
            ) as caught:
                await client.get_video("vi1")
            assert caught.value.status == status
            check_sentence(str(caught.value))


class DefaultWindowClient(QuickClient):
    """A client with the service's rate limit window of one minute."""

    _rate_window_seconds = 60.0


@pytest.mark.parametrize("name", ["Retry-After", "X-RateLimit-Retry-After"])
@pytest.mark.parametrize("value", ["0.4", "a date"])
async def test_fraction_or_date_in_a_429(name: str, value: str) -> None:
    """The client waits for the requested time, not for a minute."""
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


async def test_long_wait_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """The log and an event report it, also for uploads that were not refused themselves."""
    waits = asyncio.Event()

    def listen(event: UploadEvent) -> None:
        if isinstance(event, RateLimitWait):
            waits.set()

    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        await client.list_videos()
        refusal = {"X-RateLimit-Retry-After": "1800"}
        client._limiter.update(RequestKind.WRITE, 429, refusal)
        task = asyncio.create_task(client.upload(SMALL, on_event=listen))
        await asyncio.wait_for(waits.wait(), 10)
        task.cancel()
        await asyncio.wait([task])
    assert "stream: the account's rate limit is used up; waiting 30 min." in caplog.text


async def test_timestamp_instead_of_reset_seconds_is_ignored() -> None:
    """Only a refusal can close the window for a long time."""

    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        limits = ("X-RateLimit-Limit: 100", "X-RateLimit-Remaining: 0", "X-RateLimit-Retry-After: 1790000000")
        writer.write(response(200, LOGIN if request.path.startswith("/auth") else {"videoId": "vi1"}, *limits))

    async with serving(handle) as url, QuickClient(api_key=KEY, base_url=url) as client, asyncio.timeout(10):
        for _ in range(3):
            await client.get_video("vi1")


# Slow and endless responses


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


async def test_endless_response_is_given_up() -> None:
    """Bytes keep arriving, so only the limit for the complete response ends it."""
    stalls = 4
    bound_seconds = stalls * STALL

    async def check(first: bytes, piece: bytes, *, of_a_part: bool) -> None:
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

    await asyncio.gather(*(check(*one, of_a_part=part) for one in ENDLESS for part in (True, False)))


async def test_duration_of_the_body_does_not_count() -> None:
    """The limit starts when the body is sent: a slow upload that makes progress is not given up."""
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


async def test_slow_login_that_makes_progress_is_not_given_up() -> None:
    """It takes longer than the stall timeout, but never stalls that long."""
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


async def test_each_caller_waits_for_a_login_with_its_own_timeout() -> None:
    """Two callers with different stall timeouts wait for the same login, which gets no response."""

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
