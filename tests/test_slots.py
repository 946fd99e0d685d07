"""Upload slots that several uploads share, against simulated links of the emulator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from async_uploader import Client, UploadFailed, UploadItem, events
from async_uploader._flow.rate_limit import RateLimiter
from async_uploader._flow.slots import UploadSlots
from async_uploader.emulator import Emulator, Fault

from .conftest import MIB

KEY = "local-key"
MakeFile = Callable[..., Path]


def _connections(received: list[events.UploadEvent]) -> list[int]:
    return [event.concurrency for event in received if isinstance(event, events.ConcurrencyChanged)]


async def test_an_upload_starts_with_the_concurrency_of_the_last_one(make_file: MakeFile) -> None:
    path = make_file(40 * MIB)
    received: list[list[events.UploadEvent]] = [[], []]
    async with (
        Emulator(connection_rate=8_000_000) as emulator,
        Client(api_key=KEY, base_url=emulator.url) as client,
    ):
        for uploaded in received:
            await client.upload(path, on_event=uploaded.append)
    first, second = map(_connections, received)
    assert first[:2] == [2, 6]
    assert second[0] == first[-1] > 2


@pytest.mark.parametrize("is_many", [False, True], ids=["upload", "upload_many"])
async def test_concurrent_uploads_share_a_link(make_file: MakeFile, *, is_many: bool) -> None:
    paths = [make_file(6 * MIB, f"{number}.mp4") for number in range(8)]
    allowed = [2]  # at the start

    def listen(event: events.UploadEvent) -> None:
        if isinstance(event, events.ConcurrencyChanged):
            allowed.append(event.concurrency)

    async with (
        Emulator(connection_rate=30_000_000, link_rate=40_000_000) as emulator,
        Client(api_key=KEY, base_url=emulator.url) as client,
    ):
        if is_many:
            items = [UploadItem(source=path, options={"on_event": listen}) for path in paths]
            assert all([result.video async for result in client.upload_many(items)])
        else:
            await asyncio.gather(*(client.upload(path, on_event=listen) for path in paths))
        # Without shared slots, there would be as many for each upload.
        assert emulator.statistics().peak_uploads_in_flight <= max(allowed)


async def test_a_fixed_concurrency_has_separate_slots(make_file: MakeFile) -> None:
    paths = [make_file(20 * MIB, f"{number}.mp4") for number in range(2)]
    async with (
        Emulator(connection_rate=10_000_000) as emulator,
        Client(api_key=KEY, base_url=emulator.url) as client,
    ):
        await asyncio.gather(*(client.upload(path, concurrency=3) for path in paths))
        assert emulator.statistics().peak_uploads_in_flight == 6


async def test_a_listener_that_raises_ends_only_its_own_upload(make_file: MakeFile) -> None:
    """No matter which of the uploads adapts the slots."""
    paths = [make_file(30 * MIB, f"{number}.mp4") for number in range(3)]

    def fail(event: events.UploadEvent) -> None:
        if isinstance(event, events.ConcurrencyChanged) and event.concurrency > 2:
            raise RuntimeError("too many")

    async with (
        Emulator(connection_rate=5_000_000) as emulator,
        Client(api_key=KEY, base_url=emulator.url) as client,
    ):
        uploads = [
            client.upload(path, on_event=fail if number == 1 else None) for number, path in enumerate(paths)
        ]
        results = await asyncio.gather(*uploads, return_exceptions=True)
    assert [isinstance(result, UploadFailed) for result in results] == [False, True, False]


async def test_a_part_releases_its_slot_during_the_backoff(make_file: MakeFile) -> None:
    """There are two slots at first. The parts in both of them get a long ``Retry-After``."""
    faults = [Fault.parse(f"part={number},times=1:status=503,retry-after=30") for number in (1, 2)]
    is_waiting = asyncio.Event()

    def on_event(event: events.UploadEvent) -> None:
        if isinstance(event, events.RetryScheduled):
            waiting.append(event)
            if len(waiting) == 2:
                is_waiting.set()

    waiting: list[events.UploadEvent] = []
    async with (
        Emulator(faults=faults) as emulator,
        Client(api_key=KEY, base_url=emulator.url) as client,
    ):
        first = asyncio.create_task(client.upload(make_file(30 * MIB), on_event=on_event))
        await is_waiting.wait()
        async with asyncio.timeout(10):
            await client.upload(make_file(MIB, "other.mp4"))
        assert not first.done()
        first.cancel()
        await asyncio.wait([first])


async def test_the_slots_adapt_until_the_last_upload_ends() -> None:
    slots = UploadSlots(RateLimiter())
    has_changed = asyncio.Event()
    changes: list[int] = []

    def on_change(connections: int) -> None:
        changes.append(connections)
        has_changed.set()

    with slots.adapting(on_change):
        with slots.adapting(lambda _: None):
            pass
        has_changed.clear()
        for _ in range(2):
            slots.connection_failed()
        await has_changed.wait()
    assert changes == [2, 1]
