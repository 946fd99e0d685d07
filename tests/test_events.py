"""The events that an upload emits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from async_uploader import TransportError, UploadFailed, events, upload
from async_uploader._limits import MIB
from async_uploader.emulator import Emulator, Fault

KEY = "local-key"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of three parts."""
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(12 * MIB))
    return path


async def test_events_of_an_upload(source: Path) -> None:
    """Events cover the plan, the container, each attempt, retries and waits, in order of time."""
    received: list[events.UploadEvent] = []
    fault = Fault.parse("part=2,attempt=1:cut,when=middle")
    async with Emulator(faults=[fault], rate_limit=2, rate_window=1.5) as emulator:
        video = await upload(
            source, api_key=KEY, base_url=emulator.url, part_size=5 * MIB, on_event=received.append
        )
    assert received[0] == events.UploadBegan(
        upload=received[0].upload,
        source="a.mp4",
        at_seconds=received[0].at_seconds,
        total_bytes=12 * MIB,
        parts_total=3,
        part_bytes=5 * MIB,
        concurrency=32,
        adapts=True,
    )
    assert {(event.upload, event.source) for event in received} == {(received[0].upload, "a.mp4")}
    assert sorted(event.at_seconds for event in received) == [event.at_seconds for event in received]
    attempts = [event for event in received if isinstance(event, events.PartEnded)]
    assert sorted((one.part_number, one.attempt, one.outcome) for one in attempts) == [
        (1, 1, "stored"),
        (2, 1, "unknown"),
        (2, 2, "stored"),
        (3, 1, "stored"),
    ]
    assert all(one.connection and one.began_at_seconds <= one.at_seconds for one in attempts)
    began = [event for event in received if isinstance(event, events.PartBegan)]
    assert len(began) == len(attempts)
    (retry,) = (event for event in received if isinstance(event, events.RetryScheduled))
    assert (retry.operation, retry.part_number, retry.request) == ("part", 2, "part 2")
    assert isinstance(retry.error, TransportError)
    assert "connection was lost" in str(retry.error)
    assert {event.kind for event in received if isinstance(event, events.RateLimitWait)} == {"upload"}
    (ready,) = (event for event in received if isinstance(event, events.ContainerReady))
    assert (ready.video_id, ready.parts_done, ready.parts_total) == (video.video_id, 0, 3)
    assert received[-1] == events.UploadEnded(
        upload=received[0].upload,
        source="a.mp4",
        at_seconds=received[-1].at_seconds,
        video_id=video.video_id,
        outcome=events.UploadOutcome.FINISHED,
        error=None,
    )


async def test_failure_and_cancellation_are_reported(source: Path) -> None:
    """The last event has the reason, and attempts in flight end as cancelled."""
    received: list[events.UploadEvent] = []
    async with Emulator(faults=[Fault.parse("part=2:status=400")]) as emulator:
        with pytest.raises(UploadFailed) as failed:
            await upload(source, api_key=KEY, base_url=emulator.url, on_event=received.append)
    assert isinstance(received[-1], events.UploadEnded)
    assert received[-1].error is failed.value
    assert (received[-1].outcome, received[-1].container) == ("failed", "deleted")
    assert any(isinstance(event, events.PartEnded) and event.outcome == "refused" for event in received)

    in_flight = asyncio.Event()

    def listener(event: events.UploadEvent) -> None:
        received.append(event)
        if isinstance(event, events.PartBegan):
            in_flight.set()

    async with Emulator(faults=[Fault.parse("upload:stall=60")]) as emulator:
        task = asyncio.create_task(upload(source, api_key=KEY, base_url=emulator.url, on_event=listener))
        await in_flight.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert isinstance(received[-1], events.UploadEnded)
    assert received[-1].outcome is events.UploadOutcome.CANCELLED
    assert received[-1].error is None
    assert any(isinstance(event, events.PartEnded) and event.outcome == "cancelled" for event in received)


async def test_listen_receives_the_events_of_all_uploads(source: Path) -> None:
    """``listen`` covers the uploads that begin inside its block, each with its own number."""
    received: list[events.UploadEvent] = []
    async with Emulator() as emulator:
        with events.listen(received.append):
            for _ in range(2):
                await upload(source, api_key=KEY, base_url=emulator.url)
        count = len(received)
        await upload(source, api_key=KEY, base_url=emulator.url)
    assert len({event.upload for event in received}) == 2
    assert len(received) == count


async def test_an_exception_of_a_listener_ends_the_upload(source: Path) -> None:
    """The exception is the cause of UploadFailed, and the container is deleted."""

    def listener(event: events.UploadEvent) -> None:
        if isinstance(event, events.PartEnded):
            raise RuntimeError("no more")  # noqa: TRY004 - the type does not matter

    async with Emulator() as emulator:
        with pytest.raises(UploadFailed) as failed:
            await upload(source, api_key=KEY, base_url=emulator.url, on_event=listener)
        assert isinstance(failed.value.__cause__, RuntimeError)
        assert not emulator.videos


async def test_listeners_do_not_hide_events_from_each_other(source: Path) -> None:
    """A failing listener ends the upload; those after it still get the event."""

    def fails(event: events.UploadEvent) -> None:
        if isinstance(event, events.PartEnded):
            raise RuntimeError("no more")  # noqa: TRY004 - any error will do

    received: list[events.UploadEvent] = []
    async with Emulator() as emulator:
        with events.listen(fails), pytest.raises(UploadFailed, match="no more"):
            await upload(source, api_key="local-key", base_url=emulator.url, on_event=received.append)
    began, ended = (
        sorted((event.part_number, event.attempt) for event in received if isinstance(event, kind))
        for kind in (events.PartBegan, events.PartEnded)
    )
    assert began == ended != []
