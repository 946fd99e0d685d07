"""What listeners are told of an upload."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from async_uploader import UploadFailed, events, upload
from async_uploader._limits import MIB
from async_uploader.emulator import Emulator, Fault

KEY = "local-key"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three parts."""
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(12 * MIB))
    return path


async def test_an_upload_tells_its_story(source: Path) -> None:
    """From the plan to the video, with each attempt, retry and wait; all of one upload, in order of time."""
    told: list[events.UploadEvent] = []
    fault = Fault.parse("part=2,attempt=1:cut,when=middle")
    async with Emulator(faults=[fault], rate_limit=2, rate_window=1.5) as emulator:
        video = await upload(source, api_key=KEY, base_url=emulator.url, part_size=5 * MIB, on_event=told.append)
    assert told[0] == events.UploadBegan(
        upload=told[0].upload,
        source="a.mp4",
        at_seconds=told[0].at_seconds,
        total_bytes=12 * MIB,
        parts_total=3,
        part_bytes=5 * MIB,
        concurrency=32,
        adapts=True,
    )
    assert {(event.upload, event.source) for event in told} == {(told[0].upload, "a.mp4")}
    assert sorted(event.at_seconds for event in told) == [event.at_seconds for event in told]
    attempts = [event for event in told if isinstance(event, events.PartEnded)]
    assert sorted((one.part_number, one.attempt, one.outcome) for one in attempts) == [
        (1, 1, "stored"),
        (2, 1, "unknown"),
        (2, 2, "stored"),
        (3, 1, "stored"),
    ]
    assert all(one.connection and one.began_at_seconds <= one.at_seconds for one in attempts)
    began = [event for event in told if isinstance(event, events.PartBegan)]
    assert len(began) == len(attempts)
    (retry,) = (event for event in told if isinstance(event, events.RetryScheduled))
    assert (retry.what, retry.part_number) == ("part 2", 2)
    assert "connection was lost" in retry.reason
    assert {event.kind for event in told if isinstance(event, events.RateLimitWait)} == {"upload"}
    (ready,) = (event for event in told if isinstance(event, events.ContainerReady))
    assert (ready.video_id, ready.parts_done, ready.parts_total) == (video.video_id, 0, 3)
    assert told[-1] == events.UploadEnded(
        upload=told[0].upload,
        source="a.mp4",
        at_seconds=told[-1].at_seconds,
        video_id=video.video_id,
        error=None,
    )


async def test_failure_and_cancellation_are_told(source: Path) -> None:
    """The last event has the reason; what was in flight is told as cancelled."""
    told: list[events.UploadEvent] = []
    async with Emulator(faults=[Fault.parse("part=2:status=400")]) as emulator:
        with pytest.raises(UploadFailed) as failed:
            await upload(source, api_key=KEY, base_url=emulator.url, on_event=told.append)
    assert isinstance(told[-1], events.UploadEnded)
    assert told[-1].error == str(failed.value)
    assert any(isinstance(event, events.PartEnded) and event.outcome == "refused" for event in told)

    in_flight = asyncio.Event()

    def listener(event: events.UploadEvent) -> None:
        told.append(event)
        if isinstance(event, events.PartBegan):
            in_flight.set()

    async with Emulator(faults=[Fault.parse("upload:stall=60")]) as emulator:
        task = asyncio.create_task(upload(source, api_key=KEY, base_url=emulator.url, on_event=listener))
        await in_flight.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert isinstance(told[-1], events.UploadEnded)
    assert told[-1].error == "cancelled"
    assert any(isinstance(event, events.PartEnded) and event.outcome == "cancelled" for event in told)


async def test_listeners_of_the_process(source: Path) -> None:
    """``listen`` is told of all uploads that begin inside, each with a number of its own."""
    told: list[events.UploadEvent] = []
    async with Emulator() as emulator:
        with events.listen(told.append):
            for _ in range(2):
                await upload(source, api_key=KEY, base_url=emulator.url)
        count = len(told)
        await upload(source, api_key=KEY, base_url=emulator.url)
    assert len({event.upload for event in told}) == 2
    assert len(told) == count


async def test_a_listener_that_fails_ends_the_upload(source: Path) -> None:
    """Its error is the upload's cause, and the container is taken back."""

    def listener(event: events.UploadEvent) -> None:
        if isinstance(event, events.PartEnded):
            raise RuntimeError("no more")  # noqa: TRY004 - any error will do

    async with Emulator() as emulator:
        with pytest.raises(UploadFailed) as failed:
            await upload(source, api_key=KEY, base_url=emulator.url, on_event=listener)
        assert isinstance(failed.value.__cause__, RuntimeError)
        assert not emulator.videos
