"""Options, starting, stopping, and the public class."""

from __future__ import annotations

import asyncio
import stat
import threading
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from blockbuster import blockbuster_ctx

import async_uploader.emulator as package
from async_uploader.emulator import Emulator, Fault

from .conftest import PART, Api, basic, content

pytest_anyio = pytest.mark.anyio


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"host": ""}, "The host must not be empty."),
        ({"port": 65536}, "The port must be between 0 and 65535."),
        ({"api_key": ""}, "The API key must not be empty."),
        ({"rate_limit": 0}, "The rate limit must be at least 1 upload per window."),
        ({"rate_window": 0}, "The rate window must be longer than 0 seconds."),
        ({"connection_rate": 0}, "The connection rate must be above 0 bytes per second."),
        ({"link_rate": -1}, "The link rate must be above 0 bytes per second."),
        ({"latency": -1}, "The latency must not be negative."),
        ({"token_ttl": 0}, "The lifetime of tokens must be longer than 0 seconds."),
    ],
)
def test_impossible_options(options: dict[str, Any], sentence: str) -> None:
    """Each raises a ValueError with one sentence, before anything is started."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Emulator(**options)
    assert str(caught.value) == sentence


def test_exports() -> None:
    """`__all__` is sorted and complete."""
    assert sorted(package.__all__) == package.__all__
    public = {
        name for name, value in vars(package).items() if getattr(value, "__module__", "").startswith("async_up")
    }
    assert public == set(package.__all__)


@pytest_anyio
async def test_no_secrets_in_representations(api: Api, emulator: Emulator) -> None:
    """Representations and records contain no key or token."""
    pair = (await api.post("/auth/api-key", json={"apiKey": "local-key"})).json
    token = await api.token()
    await api.send_with_token(token, b"x")
    await api.get(f"/upload-tokens/{token}")
    text = repr(
        (emulator, emulator._config, emulator.requests, emulator.statistics(), emulator._store.tokens.bearers)
    )
    text += repr(list(emulator._store.tokens.upload_tokens.values()))
    for secret in ("local-key", token, pair["access_token"], pair["refresh_token"]):
        assert secret not in text


@pytest_anyio
async def test_token_files_are_private(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    """Files with tokens are readable only by their owner."""
    async with Emulator(data=tmp_path) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        await api.post("/auth/api-key", json={"apiKey": "local-key"}, expect=200)
        await api.token()
        for file in (tmp_path / "bearers.json", *(tmp_path / "upload-tokens").iterdir()):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest_anyio
async def test_records(api: Api, emulator: Emulator) -> None:
    """A record has the request, its size, its times and its attempt."""
    video_id = await api.create()
    await api.send(video_id, content(PART), "part 1/*", expect=201)
    await api.send(video_id, content(PART), "part 1/*", expect=400)
    await emulator.wait_for(lambda e: e.statistics().bytes_again)
    first, second = emulator.requests[-2:]
    assert (first.method, first.path, first.endpoint) == ("POST", f"/videos/{video_id}/source", "upload")
    assert (first.video_id, first.content_range, first.status) == (video_id, "part 1/*", 201)
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.body_bytes > PART
    assert first.started_s < first.ended_s <= second.started_s


@pytest_anyio
async def test_wait_timeout(emulator: Emulator) -> None:
    """A predicate that never holds raises TimeoutError."""
    with pytest.raises(TimeoutError):
        await emulator.wait_for(lambda _: False, timeout=0.01)


@pytest_anyio
async def test_cancelled_wait(api: Api, emulator: Emulator) -> None:
    """Cancelling one waiter does not affect the others."""
    waits = [asyncio.create_task(emulator.wait_for(lambda e: len(e.videos) == 2)) for _ in range(3)]
    await api.create()
    waits[0].cancel()
    await asyncio.wait(waits[:1])
    await api.create()
    await asyncio.gather(*waits[1:])


@pytest_anyio
async def test_nothing_is_left(session: aiohttp.ClientSession) -> None:
    """Closing leaves no task, thread, descriptor or file, also with idle and stalled connections."""
    async with Emulator():
        pass  # creates everything that is kept (DNS threads, modules)
    process = psutil.Process()
    before = asyncio.all_tasks(), threading.active_count(), process.num_fds()
    emulator = await Emulator(faults=[Fault.parse("status:stall=forever")]).__aenter__()
    async with aiohttp.ClientSession() as own:
        api = Api(own, emulator.url, basic("local-key"))
        video_id = await api.create()
        await asyncio.gather(*(api.send(video_id, content(PART), f"part {n}/5", expect=201) for n in (1, 2, 3)))
        stalled = asyncio.create_task(api.status(video_id))
        await emulator.wait_for(lambda e: e._server._tasks)
        root = emulator._store.directory.root
        await emulator.__aexit__(None, None, None)
        with pytest.raises(aiohttp.ClientError):
            await stalled
    await asyncio.sleep(0)
    assert (asyncio.all_tasks(), threading.active_count(), process.num_fds()) == before
    assert not root.exists()


@pytest_anyio
async def test_the_event_loop_is_never_blocked(tmp_path: Path) -> None:
    """Files are used only in threads."""
    with blockbuster_ctx("async_uploader.emulator") as detector:
        # the last thread is joined when it is idle
        detector.functions["threading.Lock.acquire"].can_block_in("concurrent/futures/thread.py", "shutdown")
        for _ in range(2):
            async with aiohttp.ClientSession() as session, Emulator(data=tmp_path) as emulator:
                api = Api(session, emulator.url, basic("local-key"))
                await api.post("/auth/api-key", json={"apiKey": "local-key"}, expect=200)
                video_id, token = await api.create(), await api.token()
                await api.send(video_id, content(PART), "part 1/2", expect=201)
                await api.send(video_id, content(PART), "part 1/2", expect=400)
                await api.send(video_id, content(PART), "part 2/2", expect=201)
                await emulator.finished(video_id)
                await api.create(source=video_id)
                await api.send_with_token(token, b"x")
                await api.delete(f"/upload-tokens/{token}", expect=204)
                await api.delete(f"/videos/{video_id}", expect=204)


@pytest_anyio
async def test_port_in_use(emulator: Emulator) -> None:
    """A port in use raises OSError, and leaves nothing open."""
    before = psutil.Process().num_fds()
    with pytest.raises(OSError, match="in use"):
        await Emulator(port=int(emulator.url.rpartition(":")[2])).__aenter__()
    assert psutil.Process().num_fds() == before


@pytest_anyio
async def test_ipv6() -> None:
    """An IPv6 address has brackets in the URL."""
    try:
        async with Emulator(host="::1") as emulator:
            assert emulator.url.startswith("http://[::1]:")
    except OSError:
        pytest.skip("no IPv6 here")
