"""OpenTelemetry spans and metrics of the uploads of this process.

Install the extra ``otel``: ``pip install 'async-uploader[otel]'``. ::

    with instrument():
        asyncio.run(upload("movie.mp4"))

The spans are ``upload`` > ``part`` > ``attempt``. The parent of ``upload`` is the span that is current when the
upload starts. Attributes have the names of the semantic conventions if there are any (``file.size``,
``http.request.resend_count``, ``error.type``); the others begin with ``apivideo.``.

Exceptions raised by tracers and meters are logged, and do not affect uploads. Spans and metrics contain no
secrets: they are made from :mod:`async_uploader.events` alone.
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Self

from . import events
from ._version import __version__

try:
    from opentelemetry import metrics, trace
except ImportError as _missing:
    raise ImportError(
        "async_uploader.telemetry needs OpenTelemetry: pip install 'async-uploader[otel]'."
    ) from _missing

__all__ = ("Instrumentation", "instrument")

log: Final = logging.getLogger("async_uploader.telemetry")

_Attributes = dict[str, str | int | float | bool]

_SCOPE: Final = "async_uploader"
# The semantic conventions' value of `error.type` for errors without a type.
_OTHER: Final = "_OTHER"
# Bucket boundaries of durations: parts take from milliseconds to minutes, uploads up to hours.
_BUCKET_SECONDS: Final = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)
_RETRIED: Final = (events.PartOutcome.UNKNOWN, events.PartOutcome.NOT_STORED)


def instrument(
    *, tracer_provider: trace.TracerProvider | None = None, meter_provider: metrics.MeterProvider | None = None
) -> Instrumentation:
    """Trace and measure all uploads that start in this process from now on.

    :param tracer_provider: default: the global one
    :param meter_provider: default: the global one
    :returns: a context manager that ends the instrumentation; it also has ``uninstrument()``
    """
    return Instrumentation(
        trace.get_tracer(_SCOPE, __version__, tracer_provider),
        metrics.get_meter(_SCOPE, __version__, meter_provider),
    )


class Instrumentation:
    """The instrumentation of this process, made by :func:`instrument`.

    Uploads that are running when it ends are still recorded to their end.
    """

    def __init__(self, tracer: trace.Tracer, meter: metrics.Meter) -> None:
        self._tracer = tracer
        self._instruments = _Instruments(meter)
        self._uploads: dict[int, _Upload] = {}
        self._listening = ExitStack()
        self._listening.enter_context(events.listen(self._on_event))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.uninstrument()

    def uninstrument(self) -> None:
        """Ignore uploads that start from now on. A second call does nothing."""
        self._listening.close()

    def _on_event(self, event: events.UploadEvent) -> None:
        try:
            if isinstance(event, events.UploadBegan):
                self._uploads[event.upload] = _Upload(event, self._tracer, self._instruments)
            elif upload := self._uploads.get(event.upload):
                upload.record(event)
        except Exception:
            log.exception("An event of an upload could not be recorded.")
        finally:
            if isinstance(event, events.UploadEnded):
                self._uploads.pop(event.upload, None)


class _Instruments:
    """All instruments. Their attributes have few values, so no names of files or videos."""

    def __init__(self, meter: metrics.Meter) -> None:
        self.upload_seconds: metrics.Histogram = meter.create_histogram(
            "apivideo.upload.duration",
            "s",
            "Time from the plan to the finished video, or to the failure",
            explicit_bucket_boundaries_advisory=_BUCKET_SECONDS,
        )
        self.part_seconds: metrics.Histogram = meter.create_histogram(
            "apivideo.part.duration",
            "s",
            "Time from the first attempt of a part to the end of its last attempt",
            explicit_bucket_boundaries_advisory=_BUCKET_SECONDS,
        )
        self.stored_bytes: metrics.Counter = meter.create_counter(
            "apivideo.upload.stored", "By", "Bytes of stored parts"
        )
        self.wasted_bytes: metrics.Counter = meter.create_counter(
            "apivideo.upload.wasted", "By", "Bytes sent in failed attempts"
        )
        self.attempts: metrics.Counter = meter.create_counter(
            "apivideo.part.attempts", "{attempt}", "Attempts to send a part"
        )
        self.retries: metrics.Counter = meter.create_counter(
            "apivideo.upload.retries", "{retry}", "Retried requests"
        )
        self.active_parts: metrics.UpDownCounter = meter.create_up_down_counter(
            "apivideo.part.active", "{part}", "Parts in flight"
        )


@dataclass(slots=True, kw_only=True)
class _Part:
    """A part that has begun and not ended.

    :ivar attempt: the span of the attempt in flight
    :ivar ended_at_seconds: end of the latest attempt; ``outcome``, ``error`` and ``error_type`` belong to it, too
    """

    span: trace.Span
    size_bytes: int
    began_at_seconds: float
    attempt: trace.Span | None = None
    ended_at_seconds: float = 0.0
    sent_bytes: int = 0
    outcome: events.PartOutcome = events.PartOutcome.UNKNOWN
    # Text, not the exception: its traceback would keep the frames of the attempt alive.
    error: str | None = None
    error_type: str = _OTHER

    def attributes(self) -> _Attributes:
        """The outcome, for spans and metrics."""
        attributes: _Attributes = {"apivideo.outcome": str(self.outcome)}
        if self.outcome not in (events.PartOutcome.STORED, events.PartOutcome.CANCELLED):
            attributes["error.type"] = self.error_type
        return attributes

    @property
    def failure(self) -> str | None:
        """Description of the error; None if the part was stored."""
        return None if self.outcome is events.PartOutcome.STORED else self.error


class _Upload:
    """The spans of one upload, and its measurements."""

    def __init__(self, event: events.UploadBegan, tracer: trace.Tracer, instruments: _Instruments) -> None:
        self._tracer = tracer
        self._instruments = instruments
        self._began_at_seconds = event.at_seconds
        # Read once, so that the spans of an upload are consistent even if the wall clock changes.
        self._epoch_ns = time.time_ns() - round(event.at_seconds * 1e9)
        self._parts: dict[int, _Part] = {}
        attributes: _Attributes = {
            "file.name": event.source,
            "apivideo.upload.part_size": event.part_bytes,
            "apivideo.upload.concurrency": event.concurrency,
        }
        if event.total_bytes is not None:
            attributes["file.size"] = event.total_bytes
        if event.parts_total is not None:
            attributes["apivideo.upload.parts"] = event.parts_total
        self._span = tracer.start_span("upload", attributes=attributes, start_time=self._time_ns(event.at_seconds))
        self._context = trace.set_span_in_context(self._span)

    def record(self, event: events.UploadEvent) -> None:
        """Record an event other than the first one. Unknown types are ignored."""
        match event:
            case events.ContainerReady():
                self._container_ready(event)
            case events.PartBegan():
                self._part_began(event)
            case events.PartEnded():
                self._part_ended(event)
            case events.RetryScheduled():
                self._retry_scheduled(event)
            case events.RateLimitWait():
                attributes: _Attributes = {
                    "apivideo.rate_limit.kind": str(event.kind),
                    "apivideo.wait": event.wait_seconds,
                }
                self._add_event(self._span, "apivideo.rate_limit_wait", attributes, event)
            case events.ConcurrencyChanged():
                attributes = {"apivideo.upload.concurrency": event.concurrency}
                self._add_event(self._span, "apivideo.concurrency_changed", attributes, event)
            case events.UploadEnded():
                self._upload_ended(event)
            case _:
                pass

    def _time_ns(self, at_seconds: float) -> int:
        return self._epoch_ns + round(at_seconds * 1e9)

    def _add_event(self, span: trace.Span, name: str, attributes: _Attributes, event: events.UploadEvent) -> None:
        span.add_event(name, attributes, self._time_ns(event.at_seconds))

    def _container_ready(self, event: events.ContainerReady) -> None:
        self._span.set_attribute("apivideo.video_id", event.video_id)
        if event.parts_done:
            self._span.set_attribute("apivideo.upload.resumed_parts", event.parts_done)

    def _part_began(self, event: events.PartBegan) -> None:
        now_ns = self._time_ns(event.at_seconds)
        attributes: _Attributes = {
            "apivideo.part.number": event.part_number,
            "apivideo.part.size": event.size_bytes,
        }
        part = self._parts.get(event.part_number)
        if part is None:
            span = self._tracer.start_span("part", self._context, attributes=attributes, start_time=now_ns)
            part = _Part(span=span, size_bytes=event.size_bytes, began_at_seconds=event.at_seconds)
            self._parts[event.part_number] = part
        if event.attempt > 1:
            attributes["http.request.resend_count"] = event.attempt - 1
        part.attempt = self._tracer.start_span(
            "attempt",
            trace.set_span_in_context(part.span),
            kind=trace.SpanKind.CLIENT,
            attributes={"http.request.method": "POST", **attributes},
            start_time=now_ns,
        )
        self._instruments.active_parts.add(1)

    def _part_ended(self, event: events.PartEnded) -> None:
        part = self._parts[event.part_number]
        part.ended_at_seconds, part.outcome = event.at_seconds, event.outcome
        part.error = None if event.error is None else str(event.error)
        part.error_type = event.error_type or _OTHER
        part.sent_bytes += event.sent_bytes
        if event.connection is not None and part.attempt is not None:
            part.attempt.set_attribute("network.local.port", event.connection)
        self._end_attempt(part, event.at_seconds)
        if event.outcome not in _RETRIED:
            self._end_part(event.part_number, event.at_seconds)

    def _end_attempt(self, part: _Part, at_seconds: float) -> None:
        if part.attempt is None:
            return
        span, part.attempt = part.attempt, None
        self._instruments.active_parts.add(-1)
        self._instruments.attempts.add(1, part.attributes())
        if part.error is not None and part.error_type.isdigit():
            span.set_attribute("http.response.status_code", int(part.error_type))
        self._end(span, part.attributes(), at_seconds, failure=part.failure)

    def _end_part(self, number: int, at_seconds: float) -> None:
        part = self._parts.pop(number)
        stored_bytes = part.size_bytes if part.outcome is events.PartOutcome.STORED else 0
        self._instruments.stored_bytes.add(stored_bytes)
        self._instruments.wasted_bytes.add(max(part.sent_bytes - stored_bytes, 0))
        self._instruments.part_seconds.record(at_seconds - part.began_at_seconds, part.attributes())
        self._end(part.span, part.attributes(), at_seconds, failure=part.failure)

    def _retry_scheduled(self, event: events.RetryScheduled) -> None:
        part = None if event.part_number is None else self._parts.get(event.part_number)
        labels = {"apivideo.request": str(event.operation), "error.type": event.error_type}
        self._instruments.retries.add(1, labels)
        attributes: _Attributes = {
            "apivideo.request": event.request,
            "apivideo.retry.reason": str(event.error),
            "apivideo.wait": event.wait_seconds,
            "error.type": event.error_type,
        }
        self._add_event(self._span if part is None else part.span, "apivideo.retry", attributes, event)

    def _upload_ended(self, event: events.UploadEnded) -> None:
        is_finished = event.outcome is events.UploadOutcome.FINISHED
        for number, part in list(self._parts.items()):
            self._end_attempt(part, event.at_seconds)
            if is_finished:
                # The status of the video shows that the attempt whose response was lost has stored the part.
                part.outcome, part.error = events.PartOutcome.STORED, None
            self._end_part(number, part.ended_at_seconds if is_finished else event.at_seconds)
        attributes: _Attributes = {"apivideo.outcome": str(event.outcome)}
        if event.error is not None:
            attributes["error.type"] = event.error_type or _OTHER
        if event.video_id is not None:
            self._span.set_attribute("apivideo.video_id", event.video_id)
        self._instruments.upload_seconds.record(event.at_seconds - self._began_at_seconds, attributes)
        failure = None if event.error is None else str(event.error)
        self._end(self._span, attributes, event.at_seconds, failure=failure)

    def _end(self, span: trace.Span, attributes: _Attributes, at_seconds: float, *, failure: str | None) -> None:
        span.set_attributes(attributes)
        if failure is not None:
            span.set_status(trace.Status(trace.StatusCode.ERROR, failure))
        span.end(self._time_ns(at_seconds))
