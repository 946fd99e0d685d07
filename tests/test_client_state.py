"""A client that is used where it cannot be used says so, and what to do."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Final

import pytest
import trio

from async_uploader import Client, ConfigurationError, Uploaded, upload
from async_uploader.emulator import Emulator

KEY: Final = "local-key"

NOT_OPEN: Final = "The client is not open: use it inside 'async with Client() as client:'."
CLOSED: Final = "The client is closed: create a new one."
OPEN_TWICE: Final = "The client is already open: open it once, and share it among all uploads."
REOPENED: Final = "The client is closed and cannot be opened again: create a new one."
OTHER_LOOP: Final = (
    "The client was opened in another event loop: use one client in each loop, or call "
    "asyncio.run_coroutine_threadsafe() with the loop of this one."
)
NO_LOOP: Final = (
    "No event loop runs in this thread: use asyncio.run(), or asyncio.run_coroutine_threadsafe() with the loop of "
    "an open client."
)
TRIO: Final = "The client needs asyncio, and this code runs under trio: call it with asyncio.run()."


@pytest.fixture
def client(emulator: Emulator) -> Client:
    """Not open yet."""
    return Client(api_key=KEY, base_url=emulator.url)


async def _session(client: Client) -> None:
    async with client.upload_session():
        pass


async def _many(client: Client) -> None:
    client.upload_many([b"x"])


USES: Final[dict[str, Callable[[Client], Awaitable[object]]]] = {
    "upload": lambda client: client.upload(b"x"),
    "upload_many": _many,
    "upload_session": _session,
    "check_source": lambda client: client.check_source(b"x"),
    "create_video": lambda client: client.create_video(title="x"),
    "import_video": lambda client: client.import_video("vi1"),
    "update_video": lambda client: client.update_video("vi1", title="x"),
    "get_video": lambda client: client.get_video("vi1"),
    "get_status": lambda client: client.get_status("vi1"),
    "list_videos": lambda client: client.list_videos(),
    "delete_video": lambda client: client.delete_video("vi1"),
    "wait_until_playable": lambda client: client.wait_until_playable("vi1"),
    "create_upload_token": lambda client: client.create_upload_token(),
    "list_upload_tokens": lambda client: client.list_upload_tokens(),
    "get_upload_token": lambda client: client.get_upload_token("to1"),
    "delete_upload_token": lambda client: client.delete_upload_token("to1"),
}


def test_every_method_is_tried() -> None:
    methods = {name for name in dir(Client) if not name.startswith("_") and callable(getattr(Client, name))}
    assert methods == USES.keys()


@pytest.mark.parametrize("use", USES.values(), ids=USES)
async def test_a_client_that_is_not_open(client: Client, use: Callable[[Client], Awaitable[object]]) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(NOT_OPEN)):
        await use(client)
    async with client:
        pass
    with pytest.raises(ConfigurationError, match=re.escape(CLOSED)):
        await use(client)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
async def test_a_client_in_another_event_loop(client: Client, use: Callable[[Client], Awaitable[object]]) -> None:
    """In a thread with an event loop of its own. Nothing is sent."""
    async with client:
        with pytest.raises(ConfigurationError, match=re.escape(OTHER_LOOP)):
            await asyncio.to_thread(lambda: asyncio.run(_await(use(client))))


async def _await(awaitable: Awaitable[object]) -> object:
    return await awaitable


async def test_entering_twice(client: Client, emulator: Emulator) -> None:
    """The client stays open after the second attempt, and closed after it was closed."""
    async with client:
        with pytest.raises(ConfigurationError, match=re.escape(OPEN_TWICE)):
            await client.__aenter__()
        await client.upload(b"x")
    with pytest.raises(ConfigurationError, match=re.escape(REOPENED)):
        await client.__aenter__()
    assert len(emulator.videos) == 1


async def test_a_thread_without_an_event_loop(client: Client) -> None:
    """Its coroutines can be sent to the loop of the client; what needs a loop at once is refused."""
    async with client:
        loop = asyncio.get_running_loop()

        def in_thread() -> str:
            with pytest.raises(ConfigurationError, match=re.escape(NO_LOOP)):
                client.upload_many([b"x"])
            return asyncio.run_coroutine_threadsafe(client.upload(b"x"), loop).result().video_id

        assert await asyncio.to_thread(in_thread)


async def test_iterating_results_in_another_event_loop(client: Client) -> None:
    async with client:
        results = client.upload_many([b"x"])

        async def iterate() -> list[object]:
            return [result async for result in results]

        with pytest.raises(ConfigurationError, match=re.escape(OTHER_LOOP)):
            await asyncio.to_thread(lambda: asyncio.run(iterate()))
        (result,) = [result async for result in results]
        assert isinstance(result, Uploaded)


def test_no_event_loop() -> None:
    """A coroutine that is driven by neither asyncio nor trio, although trio is imported."""
    with pytest.raises(ConfigurationError, match=re.escape(NO_LOOP)):
        upload(b"x", api_key=KEY, base_url="http://127.0.0.1:9").send(None)


def test_trio() -> None:
    with pytest.raises(ConfigurationError, match=re.escape(TRIO)):
        trio.run(lambda: upload(b"x", api_key=KEY, base_url="http://127.0.0.1:9"))


async def test_a_client_that_could_not_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that is malformed is reported, and the client is of no further use."""
    monkeypatch.setenv("https_proxy", "http://proxy:99999")
    client = Client(api_key=KEY)
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY variable is malformed"):
        await client.__aenter__()
    with pytest.raises(ConfigurationError, match=re.escape(CLOSED)):
        await client.get_video("vi1")
