"""Uses of the public names, as in programs of users. mypy and pyright check them; they are never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, assert_type

import pytest
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

import async_uploader
from async_uploader import (
    ApiError,
    AuthenticationError,
    BytesRange,
    Client,
    ConfigurationError,
    ConflictError,
    ContainerDetails,
    Encoding,
    EncodingMetadata,
    Failed,
    Ingest,
    Metadata,
    OnEvent,
    OnProgress,
    OnStatus,
    OnVideo,
    Progress,
    Quality,
    Ranges,
    ReceivedParts,
    ResumeMode,
    Source,
    SourceError,
    SourceFailed,
    TransportError,
    UnfinishedUpload,
    Uploaded,
    UploaderError,
    UploadFailed,
    UploadItem,
    UploadOptions,
    UploadResult,
    Uploads,
    UploadSession,
    UploadToken,
    Video,
    VideoAssets,
    VideoSource,
    VideoStatus,
    events,
    forget_unfinished,
    list_unfinished,
    upload,
)
from async_uploader.emulator import Emulator, Fault, RequestRecord, Statistics, VideoView
from async_uploader.pytest_plugin import RunningEmulator, running_emulator
from async_uploader.telemetry import Instrumentation, instrument

assert_type(async_uploader.__version__, str)


async def stream() -> AsyncIterator[bytes]:
    yield b""


def on_progress(progress: Progress) -> None:
    assert_type(progress.sent_bytes, int)
    assert_type(progress.total_bytes, int | None)
    assert_type(progress.fraction_acknowledged, float | None)


async def on_progress_async(progress: Progress) -> None:
    on_progress(progress)


async def sources() -> None:
    everything = ("a.mp4", Path("a"), BytesIO(), b"", bytearray(), memoryview(b""), [b""], iter([b""]), stream())
    for source in everything:
        assert_type(await upload(source), Video)


async def options() -> None:
    await upload(
        "a.mp4",
        api_key="key",
        upload_token=None,
        base_url="sandbox",
        buffer_bytes=1,
        allow_plain_http=False,
        title="",
        description="",
        tags=["a"],
        metadata={"a": "b"},
        public=True,
        panoramic=False,
        mp4_support=True,
        player_id="",
        language="en",
        transcript=True,
        ranges="bytes",
        part_size=5_242_880,
        concurrency=4,
        max_attempts=3,
        stall_timeout=1.5,
        resume="local",
        keep_finished=True,
        on_progress=on_progress_async,
        on_video=lambda video: assert_type(video, Video),
        on_event=print,
    )
    some: UploadOptions = {"title": "a", "resume": "anywhere", "on_progress": on_progress}
    await upload("a.mp4", **some)
    details: ContainerDetails = {"title": "a"}
    async with Client() as client:
        await client.create_video(**details)


async def clients() -> None:
    async with Client(api_key="key", base_url="production") as client:
        assert_type(client, Client)
        assert_type(client.base_url, str)
        assert_type(client.delegated, bool)
        video = await client.upload("a.mp4", title="a")
        assert_type(video.video_id, str)
        assert_type(video.title, str | None)
        assert_type(video.tags, tuple[str, ...])
        assert_type(video.assets, VideoAssets)
        assert_type(video.assets.player, str | None)
        assert_type(await client.get_video(video.video_id), Video)
        status = await client.get_status(video.video_id)
        assert_type(status, VideoStatus)
        if status.ingest.received_parts:
            assert_type(status.ingest.received_parts.parts, tuple[int, ...])
        assert_type(await client.import_video("https://host.example/a.mp4"), Video)
        assert_type(await client.create_upload_token(), UploadToken)
        assert_type(await client.check_source("a.mp4"), None)
        await client.delete_video(video.video_id)


async def many() -> None:
    items = [UploadItem(source=b"", options={"title": "a"})]
    async with Client() as client, client.upload_many(["a.mp4", Path("b"), *items], concurrency=3) as results:
        async for result in results:
            assert_type(result, UploadResult)
            assert_type(result.video, Video | None)
            assert_type(result.error, UploaderError | None)
            assert_type(result.item.source, Source)
            match result:
                case Uploaded(item=item, video=video):
                    assert_type(item, UploadItem)
                    assert_type(video, Video)
                    assert_type(result.error, None)
                case Failed(error=error):
                    assert_type(error, UploaderError)
                    assert_type(result.video, None)
            if isinstance(result, Failed):
                assert_type(result.error, UploaderError)
            else:
                assert_type(result.video.created_at, datetime | None)


async def many_as_variables(client: Client, path: Path, names: list[str], more: Iterator[Source]) -> None:
    mixed = [path, UploadItem(source="a.mp4")]
    pair = (path, UploadItem(source="a.mp4"))
    paths = [path]
    annotated: list[Source | UploadItem] = [path, UploadItem(source=b"")]
    everything = (mixed, pair, paths, annotated)
    assert_type(client.upload_many(mixed), Uploads)
    assert_type(client.upload_many(pair), Uploads)
    assert_type(client.upload_many(paths), Uploads)
    assert_type(client.upload_many(annotated), Uploads)
    assert_type(client.upload_many(names), Uploads)
    assert_type(client.upload_many(more), Uploads)
    assert_type(client.upload_many([path, UploadItem(source=b"")]), Uploads)
    assert_type(client.upload_many(path for path in paths), Uploads)
    assert_type(len(everything), int)


def callbacks() -> tuple[OnProgress, OnVideo, OnStatus, OnEvent]:
    return on_progress_async, print, print, seen_events


def modes(resume: ResumeMode, ranges: Ranges) -> UploadOptions:
    return {"resume": resume, "ranges": ranges}


def models(status: VideoStatus, video: Video, token: UploadToken) -> None:
    assert_type(status.ingest, Ingest)
    assert_type(status.ingest.received_parts, ReceivedParts | None)
    assert_type(status.ingest.received_bytes, tuple[BytesRange, ...])
    assert_type(status.encoding, Encoding)
    assert_type(status.encoding.qualities, tuple[Quality, ...])
    assert_type(status.encoding.metadata, EncodingMetadata | None)
    assert_type(video.metadata, tuple[Metadata, ...])
    assert_type(video.source, VideoSource | None)
    assert_type(token.expires_at, datetime | None)
    assert_type(video.raw, Mapping[str, Any])


async def sessions() -> None:
    async with Client() as client, client.upload_session(title="a") as session:
        assert_type(session, UploadSession)
        await session.upload_part(memoryview(b""))
        assert_type(await session.upload_last_part(), Video)


async def unfinished() -> None:
    for entry in await list_unfinished():
        assert_type(entry, UnfinishedUpload)
        assert_type(entry.path, Path)
        assert_type(entry.started_at, datetime)
        assert_type(await forget_unfinished(entry.video_id), UnfinishedUpload)


async def errors() -> None:
    try:
        await upload("a.mp4")
    except SourceFailed as error:
        assert_type(error.resumable, bool)
    except UploadFailed as error:
        assert_type(error.video_id, str | None)
        assert_type(error.part_number, int | None)
    except AuthenticationError as error:
        assert_type(error.status, int)
    except ApiError as error:
        assert_type(error.retry_after_seconds, float | None)
    except ConflictError as error:
        assert_type(error, ConflictError)
    except TransportError as error:
        assert_type(error.maybe_received, bool)
    except (SourceError, ConfigurationError) as error:
        assert_type(error, SourceError | ConfigurationError)


def seen_events(event: events.UploadEvent) -> None:
    match event:
        case events.PartEnded():
            assert_type(event.error_type, str | None)
            assert_type(event.connection, int | None)
            assert_type(event.outcome, events.PartOutcome)
            assert_type(event.error, Exception | None)
            assert_type(event.outcome == "stored", bool)
        case events.RetryScheduled():
            assert_type(event.operation, events.Operation)
            assert_type(event.error, Exception)
            assert_type(event.request, str)
        case events.RateLimitWait():
            assert_type(event.kind, events.RequestKind)
        case events.UploadEnded():
            assert_type(event.outcome, events.UploadOutcome)
            assert_type(event.container, events.ContainerState | None)
        case events.UploadMeasured():
            assert_type(event.shares, Mapping[events.Bound, float])
            assert_type(event.receive_window_share, float | None)
        case events.UploadBegan(total_bytes=total_bytes):
            assert_type(total_bytes, int | None)
        case _:
            assert_type(event.at_seconds, float)


def listeners(listener: events.OnEvent) -> None:
    with events.listen(listener), events.listen(seen_events, measure=True):
        pass


def telemetry(tracing: TracerProvider, metering: MeterProvider) -> None:
    with instrument() as instrumentation:
        assert_type(instrumentation, Instrumentation)
    instrument(tracer_provider=tracing, meter_provider=metering).uninstrument()


async def emulators() -> None:
    async with Emulator(faults=[Fault.parse("part=1:cut"), Fault(cut=True)], rate_limit=3) as emulator:
        assert_type(emulator, Emulator)
        assert_type(emulator.url, str)
        assert_type(emulator.videos, Mapping[str, VideoView])
        assert_type(emulator.requests, Sequence[RequestRecord])
        assert_type(emulator.statistics(), Statistics)
        assert_type(await emulator.finished("vi1"), VideoView)


@pytest.mark.apivideo(faults=["part=1:cut"])
def test_theirs(apivideo_emulator: RunningEmulator, apivideo_client: Client, apivideo_env: dict[str, str]) -> None:
    assert_type(apivideo_emulator.url, str)
    assert_type(apivideo_emulator.api_key, str)
    assert_type(apivideo_emulator.env, dict[str, str])
    assert_type(apivideo_emulator.videos, Mapping[str, VideoView])
    assert_type(apivideo_emulator.requests, Sequence[RequestRecord])
    assert_type(apivideo_emulator.statistics(), Statistics)
    assert_type(apivideo_emulator.wait_until_finished("vi1", timeout=None), VideoView)
    apivideo_emulator.wait_for(lambda emulator: emulator.videos)
    apivideo_emulator.add_fault("part=2:cut")
    apivideo_emulator.add_fault(Fault(cut=True))


@pytest.fixture(scope="session")
def service() -> Iterator[RunningEmulator]:
    with running_emulator(faults="part=1:cut", rate_limit=3) as running:
        yield running


def wrong() -> None:
    """Both checkers report unneeded `type: ignore` comments, so this proves that they find the error."""
    Client(api_key=1)  # type: ignore[arg-type]
