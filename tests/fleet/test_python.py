"""`Fleet` in Python, on three workers that share nothing but the file system of the sources."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from async_uploader import (
    ConfigurationError,
    Progress,
    Source,
    SourceError,
    Uploaded,
    UploaderError,
    UploadItem,
    UploadOptions,
    UploadResult,
    telemetry,
)
from async_uploader.emulator import Emulator, Fault
from async_uploader.events import PartBegan, PartEnded, UploadBegan, UploadEnded, UploadEvent
from async_uploader.fleet import Fleet, FleetItem
from harness.cluster import Cluster
from harness.service import KEY

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
async def emulator(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Emulator]:
    async with Emulator(api_key=KEY) as emulator:
        monkeypatch.setenv("APIVIDEO_API_KEY", KEY)
        monkeypatch.setenv("APIVIDEO_BASE_URL", emulator.url)
        yield emulator


def make_files(tmp_path: Path, count: int) -> list[Path]:
    paths = [tmp_path / f"{number}.mp4" for number in range(count)]
    for path in paths:
        path.write_bytes(path.name.encode() * 1000)
    return paths


async def upload_all(fleet: Fleet, items: Sequence[Source | UploadItem]) -> list[UploadResult]:
    return [result async for result in fleet.upload_many(items)]


async def until(predicate: Callable[[], bool]) -> None:
    while not predicate():  # noqa: ASYNC110 - reports of workers set no event
        await asyncio.sleep(0.02)


async def test_results_are_recorded_and_finished_items_are_skipped(
    emulator: Emulator, cluster: Cluster, tmp_path: Path
) -> None:
    delivered: list[str] = []
    options = UploadOptions(on_video=lambda video: delivered.append(video.video_id))
    items = [UploadItem(source=path, options=options) for path in make_files(tmp_path, 3)]
    missing = tmp_path / "missing.mp4"
    for _ in range(2):
        async with Fleet(cluster.address, results=tmp_path / "r.jsonl") as fleet:
            results = await upload_all(fleet, [*items, missing, b"bytes"])
        videos = [result.video.video_id for result in results if isinstance(result, Uploaded)]
        assert sorted(videos) == sorted(emulator.videos)
        errors = {str(result.item.source): str(result.error) for result in results if result.error is not None}
        assert errors.pop("b'bytes'") == "A fleet uploads paths and URLs, not bytes."
        assert errors[str(missing)].startswith("On the worker tcp://127.0.0.1:")
        assert errors[str(missing)].endswith("missing.mp4 does not exist.")
    assert sorted(delivered) == sorted(emulator.videos)
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert sum("video" in line for line in lines) == 3


async def test_one_key_results_in_one_video_of_two_fleets(
    emulator: Emulator, cluster: Cluster, tmp_path: Path
) -> None:
    paths = make_files(tmp_path, 4)
    items = [UploadItem(source=paths[0], idempotency_key=key) for key in ("a", "a", "b")]
    async with Fleet(cluster.address) as first, Fleet(cluster.address) as second:
        results = await asyncio.gather(*(upload_all(fleet, [*items, *paths[1:]]) for fleet in (first, second)))
    assert [result.error for each in results for result in each] == [None] * 12
    assert len(emulator.videos) == 2 + 3


async def test_events_and_progress_arrive_with_the_spans_of_their_items(
    emulator: Emulator, cluster: Cluster, tmp_path: Path
) -> None:
    seen: dict[str, list[UploadEvent]] = {}
    progress: dict[str, Progress] = {}
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    def item(path: Path) -> UploadItem:
        async def on_progress(each: Progress) -> None:
            await asyncio.sleep(0)
            progress[path.name] = each

        events = seen.setdefault(path.name, [])
        return UploadItem(source=path, options=UploadOptions(on_event=events.append, on_progress=on_progress))

    began_at_seconds = asyncio.get_running_loop().time()
    with (
        telemetry.instrument(tracer_provider=provider),
        provider.get_tracer("test").start_as_current_span("catalogue"),
    ):
        async with Fleet(cluster.address) as fleet:
            results = await upload_all(fleet, [item(path) for path in make_files(tmp_path, 3)])
            assert len(fleet.workers) == 3
    assert [result.error for result in results] == [None] * 3
    for name, events in seen.items():
        types = [type(event) for event in events]
        assert (types[0], types[-1]) == (UploadBegan, UploadEnded)
        assert types.index(PartBegan) < types.index(PartEnded)
        assert {event.source for event in events} == {name}
        # Workers report twice a second; the clocks of machines differ, and theirs are translated.
        assert all(began_at_seconds - 1 < event.at_seconds for event in events)
        assert progress[name].fraction_acknowledged == 1
    assert len({events[0].upload for events in seen.values()}) == 3
    spans = exporter.get_finished_spans()
    (catalogue,) = (span for span in spans if span.name == "catalogue")
    uploads = [span for span in spans if span.name == "upload"]
    assert {span.attributes["file.name"] for span in uploads if span.attributes} == set(seen)
    assert {span.parent.span_id for span in uploads if span.parent} == {catalogue.context.span_id}


@pytest.mark.parametrize("name", ["on_event", "on_progress", "on_video"])
async def test_an_exception_of_a_callback_fails_its_item_alone(
    name: str, emulator: Emulator, cluster: Cluster, tmp_path: Path
) -> None:
    def fail(_: object) -> None:
        raise LookupError("no such row")

    first, second = make_files(tmp_path, 2)
    options: Any = {name: fail}
    async with Fleet(cluster.address) as fleet:
        results = await upload_all(fleet, [UploadItem(source=first, options=options), second])
    errors = {Path(str(result.item.source)).name: result.error for result in results}
    assert str(errors[first.name]) == "The upload ended with an unexpected LookupError: no such row."
    assert errors[second.name] is None


async def test_an_item_runs_where_its_source_is(emulator: Emulator, cluster: Cluster, tmp_path: Path) -> None:
    """The error of a missing file names the worker."""
    near = cluster.start_worker("near the camera", resources={"camera": 2})
    try:
        items = [
            FleetItem(source=tmp_path / "0", workers=["worker 1"]),
            FleetItem(source=tmp_path / "1", workers=[cluster.addresses["worker 2"]]),
            *(FleetItem(source=tmp_path / f"camera {number}", resources={"camera": 1}) for number in range(4)),
        ]
        async with Fleet(cluster.address) as fleet:
            results = await upload_all(fleet, items)
    finally:
        cluster.kill("near the camera")
    assert all(isinstance(result.error, SourceError) for result in results)
    workers = {Path(str(result.item.source)).name: str(result.error).split()[3][:-1] for result in results}
    expected = {"0": cluster.addresses["worker 1"], "1": cluster.addresses["worker 2"]}
    assert workers == {**expected, **{f"camera {number}": near for number in range(4)}}
    assert not emulator.videos


async def test_leaving_early_stops_the_uploads(emulator: Emulator, cluster: Cluster, tmp_path: Path) -> None:
    emulator.add_fault(Fault.parse("upload:stall=60"))
    async with Fleet(cluster.address) as fleet:
        uploads = fleet.upload_many([*make_files(tmp_path, 2), b"cannot be sent"])
        assert (await anext(uploads)).error is not None
        with anyio.fail_after(20):
            await until(lambda: sum(status.uploads for status in fleet.workers) == 2)
            await uploads.aclose()
            await until(lambda: not any(status.uploads for status in fleet.workers))


@pytest.mark.parametrize(
    "options", [{"workers": 0}, {"workers": 1, "scheduler": "tcp://127.0.0.1:1"}, {"concurrency": 0}]
)
async def test_wrong_parameters(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Fleet(**options)


async def test_there_is_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("async_uploader.fleet._cluster._CONNECT_SECONDS", 0.2)
    with pytest.raises(UploaderError, match="There is no Dask scheduler"):
        async with Fleet("tcp://127.0.0.1:1"):
            pass


async def test_a_fleet_that_is_not_open() -> None:
    with pytest.raises(ConfigurationError, match="async with"):
        await upload_all(Fleet(), [])
