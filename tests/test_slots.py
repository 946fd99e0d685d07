"""What uploads have in common that share a line, against the emulator's simulated ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from async_uploader import Client, UploadFailed, events
from async_uploader._flow.rate_limit import RateLimiter
from async_uploader._flow.slots import UploadSlots
from async_uploader.emulator import Emulator, Fault

from .conftest import MIB

KEY = "local-key"
MakeFile = Callable[..., Path]


def _connections(told: list[events.UploadEvent]) -> list[int]:
    return [event.concurrency for event in told if isinstance(event, events.ConcurrencyChanged)]


async def test_an_upload_begins_with_what_the_last_one_has_found(make_file: MakeFile) -> None:
    path = make_file(40 * MIB)
    stories: list[list[events.UploadEvent]] = [[], []]
    async with (
        Emulator(connection_rate=8_000_000) as emulator,
        Client(api_key=KEY, base_url=emulator.url) as client,
    ):
        for story in stories:
            await client.upload(path, on_event=story.append)
    first, second = map(_connections, stories)
    assert first[:2] == [2, 6]
    assert second[0] == first[-1] > 2


@pytest.mark.parametrize("is_many", [False, True], ids=["uploads at once", "upload_many"])
async def test_uploads_at_once_do_not_crowd_a_shared_link(make_file: MakeFile, *, is_many: bool) -> None:
    paths = [make_file(6 * MIB, f"{number}.mp4") for number in range(8)]
    async with (
        Emulator(connection_rate=30_000_000, link_rate=40_000_000) as emulator,
        Client(api_key=KEY, base_url=emulator.url) as client,
    ):
        if is_many:
            assert all([one.video async for one in client.upload_many(paths)])
        else:
            await asyncio.gather(*map(client.upload, paths))
        # A few more where the machine is busy and hard to measure; each for itself, they would have 16.
        assert emulator.statistics().peak_uploads_in_flight <= 12


async def test_uploads_with_a_concurrency_of_their_own_have_a_line_of_their_own(make_file: MakeFile) -> None:
    paths = [make_file(20 * MIB, f"{number}.mp4") for number in range(2)]
    async with (
        Emulator(connection_rate=10_000_000) as emulator,
        Client(api_key=KEY, base_url=emulator.url) as client,
    ):
        await asyncio.gather(*(client.upload(path, concurrency=3) for path in paths))
        assert emulator.statistics().peak_uploads_in_flight == 6


async def test_a_listener_that_fails_ends_its_own_upload_only(make_file: MakeFile) -> None:
    """Whichever of the uploads it is that watches the line."""
    paths = [make_file(30 * MIB, f"{number}.mp4") for number in range(3)]

    def fail(event: events.UploadEvent) -> None:
        if isinstance(event, events.ConcurrencyChanged) and event.concurrency > 2:
            raise RuntimeError("no more")

    async with (
        Emulator(connection_rate=5_000_000) as emulator,
        Client(api_key=KEY, base_url=emulator.url) as client,
    ):
        uploads = [
            client.upload(path, on_event=fail if number == 1 else None) for number, path in enumerate(paths)
        ]
        ended = await asyncio.gather(*uploads, return_exceptions=True)
    assert [isinstance(one, UploadFailed) for one in ended] == [False, True, False]


async def test_a_part_that_waits_for_another_try_leaves_its_place_to_others(make_file: MakeFile) -> None:
    """Two connections are what a line begins with; both of their parts are told to come back much later."""
    faults = [Fault.parse(f"part={number},times=1:status=503,retry-after=30") for number in (1, 2)]
    is_waiting = asyncio.Event()

    def look(event: events.UploadEvent) -> None:
        if isinstance(event, events.RetryScheduled):
            waiting.append(event)
            if len(waiting) == 2:
                is_waiting.set()

    waiting: list[events.UploadEvent] = []
    async with (
        Emulator(faults=faults) as emulator,
        Client(api_key=KEY, base_url=emulator.url) as client,
    ):
        first = asyncio.create_task(client.upload(make_file(30 * MIB), on_event=look))
        await is_waiting.wait()
        async with asyncio.timeout(10):
            await client.upload(make_file(MIB, "other.mp4"))
        assert not first.done()
        first.cancel()
        await asyncio.wait([first])


async def test_when_the_upload_that_watches_ends_another_one_does() -> None:
    line = UploadSlots(RateLimiter())
    is_told = asyncio.Event()
    told: list[int] = []

    def tell(connections: int) -> None:
        told.append(connections)
        is_told.set()

    watching = asyncio.create_task(line.adapt(lambda _: None))
    other = asyncio.create_task(line.adapt(tell))
    await is_told.wait()
    is_told.clear()
    watching.cancel()
    for _ in range(2):
        line.failed()
    await is_told.wait()
    other.cancel()
    await asyncio.wait([watching, other])
    assert told == [2, 1]
