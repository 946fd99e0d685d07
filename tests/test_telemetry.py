"""Spans and metrics of uploads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from async_uploader import Client, UploadFailed, events, upload
from async_uploader._errors import UploaderError
from async_uploader._limits import MIB
from async_uploader.emulator import Emulator, Fault
from async_uploader.emulator._credentials import Credentials
from async_uploader.telemetry import Instrumentation, instrument

KEY = "a-key-that-must-not-be-shown"
PART = 5 * MIB


class Open(SpanProcessor):
    """Remembers the spans that have started and not ended."""

    def __init__(self) -> None:
        self.spans: set[Span] = set()

    def on_start(self, span: Span, parent_context: object = None) -> None:  # noqa: ARG002
        self.spans.add(span)

    def on_end(self, span: ReadableSpan) -> None:
        self.spans = {one for one in self.spans if one.context != span.context}


@dataclass
class Seen:
    """Everything that was recorded."""

    tracing: TracerProvider
    exporter: InMemorySpanExporter
    open: Open
    reader: InMemoryMetricReader
    instrumentation: Instrumentation

    def spans(self, name: str) -> list[ReadableSpan]:
        """Return the spans of this name, in the order in which they started."""
        found = [span for span in self.exporter.get_finished_spans() if span.name == name]
        return sorted(found, key=lambda span: span.start_time or 0)

    def metric(self, name: str) -> dict[frozenset[tuple[str, Any]], Any]:
        """Return the values of a metric by their attributes; for a histogram, the counts."""
        data = self.reader.get_metrics_data() or MetricsData([])
        return {
            frozenset((point.attributes or {}).items()): getattr(point, "count", None)
            or getattr(point, "value", 0)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        }

    def text(self) -> str:
        """Return all spans and metrics as text."""
        spans = "".join(span.to_json() for span in self.exporter.get_finished_spans())
        data = self.reader.get_metrics_data()
        return spans + (data.to_json() if data else "")


@pytest.fixture
def seen() -> Iterator[Seen]:
    exporter, open_spans, reader = InMemorySpanExporter(), Open(), InMemoryMetricReader()
    tracing, metering = TracerProvider(shutdown_on_exit=False), MeterProvider([reader], shutdown_on_exit=False)
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.add_span_processor(open_spans)
    with instrument(tracer_provider=tracing, meter_provider=metering) as instrumentation:
        yield Seen(tracing, exporter, open_spans, reader, instrumentation)
    assert not open_spans.spans
    assert not instrumentation._uploads
    tracing.shutdown()
    metering.shutdown()


@pytest.fixture
def movie(make_file: Callable[..., Path]) -> Path:
    """Three parts."""
    return make_file(12 * MIB)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def noted(span: ReadableSpan, name: str) -> list[Mapping[str, Any]]:
    return [dict(event.attributes or {}) for event in span.events if event.name == name]


def is_below(child: ReadableSpan, parent: ReadableSpan) -> bool:
    """Whether a span is the parent of another, and encloses it in time."""
    times = [parent.start_time or 0, child.start_time or 0, child.end_time or 0, parent.end_time or 0]
    return child.parent is not None and child.parent.span_id == parent.context.span_id and times == sorted(times)


async def test_spans_of_an_upload(movie: Path, seen: Seen) -> None:
    """Upload, parts and attempts are below the span of the caller, and the retry is at its part."""
    fault = Fault.parse("part=2,attempt=1:status=503")
    async with Emulator(faults=[fault], rate_limit=2, rate_window=1.5) as emulator:
        with seen.tracing.get_tracer("theirs").start_as_current_span("request"):
            video = await upload(movie, api_key="local-key", base_url=emulator.url, part_size=PART)
    (caller,), (root,) = seen.spans("request"), seen.spans("upload")
    assert is_below(root, caller)
    assert attributes(root) == {
        "file.name": "movie.mp4",
        "file.size": 12 * MIB,
        "apivideo.video_id": video.video_id,
        "apivideo.upload.part_size": PART,
        "apivideo.upload.parts": 3,
        "apivideo.upload.concurrency": 32,
        "apivideo.outcome": "finished",
    }
    assert root.status.status_code is StatusCode.UNSET
    assert {note["apivideo.rate_limit.kind"] for note in noted(root, "apivideo.rate_limit_wait")} == {"upload"}

    parts = {attributes(span)["apivideo.part.number"]: span for span in seen.spans("part")}
    assert sorted(parts) == [1, 2, 3]
    assert all(is_below(part, root) for part in parts.values())
    assert attributes(parts[3]) == {
        "apivideo.part.number": 3,
        "apivideo.part.size": 2 * MIB,
        "apivideo.outcome": "stored",
    }
    (retry,) = noted(parts[2], "apivideo.retry")
    assert (retry["apivideo.request"], retry["error.type"]) == ("part 2", "503")
    assert "responded with 503" in retry["apivideo.retry.reason"]
    assert retry["apivideo.wait"] >= 0

    attempts = [span for span in seen.spans("attempt") if attributes(span)["apivideo.part.number"] == 2]
    assert all(is_below(attempt, parts[2]) and attempt.kind is SpanKind.CLIENT for attempt in attempts)
    failed, stored = map(attributes, attempts)
    assert failed.pop("network.local.port")
    assert failed == {
        "http.request.method": "POST",
        "http.response.status_code": 503,
        "apivideo.part.number": 2,
        "apivideo.part.size": PART,
        "apivideo.outcome": "unknown",
        "error.type": "503",
    }
    assert attempts[0].status.status_code is StatusCode.ERROR
    assert "responded with 503" in (attempts[0].status.description or "")
    assert (stored["http.request.resend_count"], stored["apivideo.outcome"]) == (1, "stored")
    assert len(seen.spans("attempt")) == 4


async def test_metrics_add_up(movie: Path, seen: Seen) -> None:
    """Durations, bytes, attempts and retries; no part is in flight at the end."""
    async with Emulator(faults=[Fault.parse("part=2,attempt=1:status=503")]) as emulator:
        await upload(movie, api_key="local-key", base_url=emulator.url, part_size=PART)
    stored = frozenset({("apivideo.outcome", "stored")})
    failed = frozenset({("apivideo.outcome", "unknown"), ("error.type", "503")})
    assert seen.metric("apivideo.upload.duration") == {frozenset({("apivideo.outcome", "finished")}): 1}
    assert seen.metric("apivideo.part.duration") == {stored: 3}
    assert seen.metric("apivideo.upload.stored") == {frozenset(): 12 * MIB}
    assert seen.metric("apivideo.part.attempts") == {stored: 3, failed: 1}
    assert seen.metric("apivideo.part.active") == {frozenset(): 0}
    assert seen.metric("apivideo.upload.retries") == {
        frozenset({("apivideo.request", "part"), ("error.type", "503")}): 1
    }


@pytest.mark.parametrize(
    ("fault", "wasted_bytes"),
    [
        ("upload,part=2,attempt=1:cut,when=late", PART),
        ("upload,part=2:cut,when=stored", 0),
        ("upload,part=2,times=1:status=401,when=late", PART),
    ],
    ids=["request lost", "response lost", "token expired"],
)
async def test_wasted_bytes(fault: str, wasted_bytes: int, movie: Path, seen: Seen) -> None:
    """Bytes of failed attempts; not those of a stored part whose response was lost."""
    async with Emulator(faults=[Fault.parse(fault)]) as emulator:
        await upload(movie, api_key="local-key", base_url=emulator.url, part_size=PART)
    assert seen.metric("apivideo.upload.wasted") == {frozenset(): wasted_bytes}
    assert seen.metric("apivideo.upload.stored") == {frozenset(): 12 * MIB}


async def test_a_listener_that_fails_on_the_first_event(movie: Path, seen: Seen) -> None:
    """It ends the upload and its span before anything is sent."""

    def fails(_: events.UploadEvent) -> None:
        raise RuntimeError("no more")

    async with Emulator() as emulator:
        with pytest.raises(RuntimeError):
            await upload(movie, api_key="local-key", base_url=emulator.url, on_event=fails)
        assert not emulator.requests
    (root,) = seen.spans("upload")
    assert attributes(root)["error.type"] == "RuntimeError"


async def test_a_lost_response_is_a_stored_part(movie: Path, seen: Seen) -> None:
    """The status lists the part: there is no second attempt, and its bytes count as stored."""
    async with Emulator(faults=[Fault.parse("upload,part=2:cut,when=stored")]) as emulator:
        await upload(movie, api_key="local-key", base_url=emulator.url, part_size=PART)
    (part,) = (span for span in seen.spans("part") if attributes(span)["apivideo.part.number"] == 2)
    (attempt,) = (span for span in seen.spans("attempt") if attributes(span)["apivideo.part.number"] == 2)
    assert attributes(part)["apivideo.outcome"] == "stored"
    assert part.status.status_code is StatusCode.UNSET
    assert attributes(attempt)["error.type"] == "TransportError"
    assert part.end_time == attempt.end_time
    assert seen.metric("apivideo.upload.stored") == {frozenset(): 12 * MIB}


async def test_failures(movie: Path, seen: Seen) -> None:
    """A refused part is an error of its three spans; the parts that it cancels are not errors."""
    async with Emulator(faults=[Fault.parse("part=2:status=400")]) as emulator:
        with pytest.raises(UploadFailed) as failed:
            await upload(movie, api_key="local-key", base_url=emulator.url, part_size=PART)
    (root,) = seen.spans("upload")
    assert (root.status.status_code, root.status.description) == (StatusCode.ERROR, str(failed.value))
    assert (attributes(root)["apivideo.outcome"], attributes(root)["error.type"]) == ("failed", "400")
    for name in ("part", "attempt"):
        (refused,) = (span for span in seen.spans(name) if attributes(span)["apivideo.part.number"] == 2)
        assert refused.status.status_code is StatusCode.ERROR
        assert attributes(refused)["error.type"] == "400"
    others = [span for span in seen.spans("part") if attributes(span)["apivideo.part.number"] != 2]
    assert {span.status.status_code for span in others} <= {StatusCode.UNSET}


async def test_attempts_run_out(movie: Path, seen: Seen) -> None:
    """A part that waits for a retry ends with its upload."""
    async with Emulator(faults=[Fault.parse("part=2:status=503")]) as emulator:
        with pytest.raises(UploadFailed):
            await upload(movie, api_key="local-key", base_url=emulator.url, part_size=PART, max_attempts=2)
    (part,) = (span for span in seen.spans("part") if attributes(span)["apivideo.part.number"] == 2)
    assert (attributes(part)["apivideo.outcome"], attributes(part)["error.type"]) == ("unknown", "503")
    assert part.status.status_code is StatusCode.ERROR
    assert part.end_time == seen.spans("upload")[0].end_time


async def test_cancellation(movie: Path, seen: Seen) -> None:
    """It is not an error, and leaves no span open and no part in flight."""
    in_flight = asyncio.Event()

    def listener(event: events.UploadEvent) -> None:
        if isinstance(event, events.PartBegan):
            in_flight.set()

    async with Emulator(faults=[Fault.parse("upload:stall=60")]) as emulator:
        task = asyncio.create_task(
            upload(movie, api_key="local-key", base_url=emulator.url, on_event=listener, part_size=PART)
        )
        await in_flight.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    for name in ("upload", "part", "attempt"):
        assert {attributes(span)["apivideo.outcome"] for span in seen.spans(name)} == {"cancelled"}
        assert {span.status.status_code for span in seen.spans(name)} == {StatusCode.UNSET}
    assert seen.metric("apivideo.part.active") == {frozenset(): 0}


async def test_no_container(movie: Path, seen: Seen) -> None:
    """A failure before the first part is one span, with its retries."""
    async with Emulator(faults=[Fault.parse("create:status=503")]) as emulator:
        with pytest.raises(UploaderError):
            await upload(movie, api_key="local-key", base_url=emulator.url, max_attempts=2)
    (root,) = seen.exporter.get_finished_spans()
    assert root.status.status_code is StatusCode.ERROR
    (retry,) = noted(root, "apivideo.retry")
    assert (retry["apivideo.request"], retry["error.type"]) == ("create", "503")
    labels = frozenset({("apivideo.request", "create"), ("error.type", "503")})
    assert seen.metric("apivideo.upload.retries") == {labels: 1}
    assert attributes(root)["error.type"] == "503"


async def test_resumed_and_streamed(movie: Path, seen: Seen) -> None:
    """A resumed upload has its number of resumed parts; a stream has no size."""
    async with Emulator(faults=[Fault.parse("part=3:status=402")]) as emulator:
        options: dict[str, Any] = {"api_key": "local-key", "base_url": emulator.url}
        for _ in range(2):
            with pytest.raises(UploadFailed):
                await upload(movie, part_size=PART, concurrency=1, resume="local", max_attempts=1, **options)
            emulator.clear_faults()
            emulator.add_fault(Fault.parse("part=3:status=403"))
        emulator.clear_faults()
        await upload(movie, resume="local", **options)
        await upload(iter([b"all"]), **options)
    first, *_, last, stream = map(attributes, seen.spans("upload"))
    assert "apivideo.upload.resumed_parts" not in first
    assert last["apivideo.upload.resumed_parts"] == 2
    assert not {"file.size", "apivideo.upload.parts"} & set(stream)


async def test_only_uploads_that_start_inside(movie: Path, seen: Seen) -> None:
    """An upload that started before is ignored; one that ends afterwards is recorded to its end."""
    began, go_on = asyncio.Event(), asyncio.Event()

    async def on_progress(_: object) -> None:
        began.set()
        await go_on.wait()

    seen.instrumentation.uninstrument()
    async with Emulator() as emulator:
        before = asyncio.create_task(
            upload(movie, api_key="local-key", base_url=emulator.url, on_progress=on_progress)
        )
        await began.wait()
        began.clear()
        with instrument(tracer_provider=seen.tracing):
            during = asyncio.create_task(
                upload(movie, api_key="local-key", base_url=emulator.url, on_progress=on_progress)
            )
            await began.wait()
        go_on.set()
        await before
        video = await during
        await upload(movie, api_key="local-key", base_url=emulator.url)
    (root,) = seen.spans("upload")
    assert (attributes(root)["apivideo.video_id"], attributes(root)["apivideo.outcome"]) == (
        video.video_id,
        "finished",
    )
    seen.instrumentation.uninstrument()
    assert not events.LISTENERS


SECRET_FAULTS = {
    "none": (),
    "tokens die, a cut": ("upload,part=2,times=1:expire-tokens,revoke-tokens", "upload,part=last,times=2:cut"),
    "refresh fails": ("upload,part=2,times=1:expire-tokens", "refresh,times=1:status=503"),
    "refused": ("upload,part=last:status=403",),
    "login refused": (
        "upload,part=2:expire-tokens,revoke-tokens",
        "auth,attempt=2:problem=authentication-invalid-user-credentials",
    ),
    "redirected": ("upload:status=302,header=Location=http://127.0.0.1:9/",),
}


@pytest.mark.parametrize("delegated", [False, True], ids=["key", "upload token"])
@pytest.mark.parametrize("faults", SECRET_FAULTS.values(), ids=SECRET_FAULTS)
async def test_nothing_secret(
    faults: tuple[str, ...],
    delegated: bool,
    movie: Path,
    seen: Seen,
    issued: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Spans, metrics and logs never contain keys, bearer, refresh or upload tokens."""
    caplog.set_level(logging.DEBUG, "async_uploader")
    async with Emulator(api_key=KEY) as emulator:
        async with Client(api_key=KEY, base_url=emulator.url) as client:
            upload_token = (await client.create_upload_token()).token
        for fault in faults:
            emulator.add_fault(Fault.parse(fault))
        credential: dict[str, Any] = {"upload_token": upload_token} if delegated else {"api_key": KEY}
        with suppress(UploaderError):
            await upload(movie, base_url=emulator.url, part_size=PART, max_attempts=3, **credential)
    recorded = seen.text() + "".join(
        f"{record.getMessage()} {record.exc_text} {record.args}"
        for record in caplog.records
        if record.name.startswith("async_uploader")
    )
    assert '"file.name": "movie.mp4"' in recorded
    assert [secret for secret in (KEY, upload_token, *issued) if secret in recorded] == []


@pytest.fixture
def issued(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All bearer and refresh tokens that the emulator issues."""
    tokens: list[str] = []
    issue = Credentials._issue

    def remember(self: Credentials, now: float) -> dict[str, object]:
        pair = issue(self, now)
        tokens.extend([str(pair["access_token"]), str(pair["refresh_token"])])
        return pair

    monkeypatch.setattr(Credentials, "_issue", remember)
    return tokens
