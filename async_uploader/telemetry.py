"""OpenTelemetry: spans and metrics of this process's uploads. Needs ``pip install 'async-uploader[otel]'``.

::

    with instrument():
        asyncio.run(upload("movie.mp4"))

A trace is ``upload`` > ``part`` > ``attempt``, below the span in which the upload was begun. Attributes have the
field's names where there are such (``file.size``, ``http.request.resend_count``, ``error.type``), and others that
begin with ``apivideo.``.

Nothing here can end an upload: what a tracer or a meter raises, is logged. And nothing here is secret: it is what
:mod:`async_uploader.events` tell.
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

Attributes = dict[str, str | int | float | bool]

_SCOPE: Final = "async_uploader"
# Where the field has a convention for errors without a type of their own, it is this.
_OTHER: Final = "_OTHER"
# Parts take from some milliseconds to minutes, uploads to hours.
_SECONDS: Final = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)
#: Outcomes after which a part is tried again.
_OPEN: Final = ("unknown", "not stored")


def instrument(
    *, tracer_provider: trace.TracerProvider | None = None, meter_provider: metrics.MeterProvider | None = None
) -> Instrumentation:
    """Trace and count every upload that this process begins from now on.

    :param tracer_provider: default: the process's own
    :param meter_provider: default: the process's own
    :returns: what ends it: a context manager that also has ``uninstrument()``
    """
    return Instrumentation(
        trace.get_tracer(_SCOPE, __version__, tracer_provider),
        _Numbers(metrics.get_meter(_SCOPE, __version__, meter_provider)),
    )


class Instrumentation:
    """What :func:`instrument` has begun. Uploads that are under way when it ends are followed to their own end."""

    def __init__(self, tracer: trace.Tracer, numbers: _Numbers) -> None:
        self._tracer = tracer
        self._numbers = numbers
        self._uploads: dict[int, _Upload] = {}
        self._listening = ExitStack()
        self._listening.enter_context(events.listen(self._told))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.uninstrument()

    def uninstrument(self) -> None:
        """Leave out uploads that begin from now on. A second time does nothing."""
        self._listening.close()

    def _told(self, event: events.UploadEvent) -> None:
        try:
            if isinstance(event, events.UploadBegan):
                self._uploads[event.upload] = _Upload(event, self._tracer, self._numbers)
            elif upload := self._uploads.get(event.upload):
                upload.told(event)
        except Exception:
            log.exception("An event of an upload could not be recorded.")
        finally:
            if isinstance(event, events.UploadEnded):
                self._uploads.pop(event.upload, None)


class _Numbers:
    """The instruments; their attributes have few values, so no names of files or videos."""

    def __init__(self, meter: metrics.Meter) -> None:
        self.upload_seconds: metrics.Histogram = meter.create_histogram(
            "apivideo.upload.duration",
            "s",
            "From the plan to the finished video, or to the failure",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self.part_seconds: metrics.Histogram = meter.create_histogram(
            "apivideo.part.duration",
            "s",
            "From a part's first attempt to the end of its last",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self.stored_bytes: metrics.Counter = meter.create_counter(
            "apivideo.upload.stored", "By", "Bytes that the service has taken"
        )
        self.wasted_bytes: metrics.Counter = meter.create_counter(
            "apivideo.upload.wasted", "By", "Bytes sent in vain"
        )
        self.attempts: metrics.Counter = meter.create_counter(
            "apivideo.part.attempts", "{attempt}", "Attempts to send a part"
        )
        self.retries: metrics.Counter = meter.create_counter(
            "apivideo.upload.retries", "{retry}", "What was tried again"
        )
        self.active_parts: metrics.UpDownCounter = meter.create_up_down_counter(
            "apivideo.part.active", "{part}", "Parts in flight"
        )


@dataclass(slots=True, kw_only=True)
class _Part:
    """A part that was begun, and did not come to its end yet.

    :ivar ended_at_seconds: of its latest attempt, as are the outcome, the error and its type
    """

    span: trace.Span
    size_bytes: int
    began_at_seconds: float
    attempt: trace.Span | None = None
    ended_at_seconds: float = 0.0
    sent_bytes: int = 0
    outcome: str = "unknown"
    error: str | None = None
    error_type: str = _OTHER


class _Upload:
    """One upload's spans, and the numbers that it adds to."""

    def __init__(self, event: events.UploadBegan, tracer: trace.Tracer, numbers: _Numbers) -> None:
        self._tracer = tracer
        self._numbers = numbers
        self._began_at_seconds = event.at_seconds
        # Read once, so that the spans of an upload fit together whatever is done to the wall clock meanwhile.
        self._epoch_ns = time.time_ns() - round(event.at_seconds * 1e9)
        self._parts: dict[int, _Part] = {}
        attributes: Attributes = {
            "file.name": event.source,
            "apivideo.upload.part_size": event.part_bytes,
            "apivideo.upload.concurrency": event.concurrency,
        }
        if event.total_bytes is not None:
            attributes["file.size"] = event.total_bytes
        if event.parts_total is not None:
            attributes["apivideo.upload.parts"] = event.parts_total
        self._span = tracer.start_span("upload", attributes=attributes, start_time=self._time_ns(event.at_seconds))
        self._below = trace.set_span_in_context(self._span)

    def told(self, event: events.UploadEvent) -> None:
        match event:
            case events.ContainerReady():
                self._container_ready(event)
            case events.PartBegan():
                self._part_began(event)
            case events.PartEnded():
                self._part_ended(event)
            case events.RetryScheduled():
                self._retry(event)
            case events.RateLimitWait():
                attributes: Attributes = {
                    "apivideo.rate_limit.kind": event.kind,
                    "apivideo.wait": event.wait_seconds,
                }
                self._note(self._span, "apivideo.rate_limit_wait", attributes, event)
            case events.ConcurrencyChanged():
                attributes = {"apivideo.upload.connections": event.connections}
                self._note(self._span, "apivideo.concurrency_changed", attributes, event)
            case events.UploadEnded():
                self._ended(event)
            case _:
                pass  # what later versions tell

    def _time_ns(self, at_seconds: float) -> int:
        return self._epoch_ns + round(at_seconds * 1e9)

    def _note(self, span: trace.Span, name: str, attributes: Attributes, event: events.UploadEvent) -> None:
        span.add_event(name, attributes, self._time_ns(event.at_seconds))

    def _container_ready(self, event: events.ContainerReady) -> None:
        self._span.set_attribute("apivideo.video_id", event.video_id)
        if event.parts_done:
            self._span.set_attribute("apivideo.upload.resumed_parts", event.parts_done)

    def _part_began(self, event: events.PartBegan) -> None:
        now_ns = self._time_ns(event.at_seconds)
        attributes: Attributes = {
            "apivideo.part.number": event.part_number,
            "apivideo.part.size": event.size_bytes,
        }
        part = self._parts.get(event.part_number)
        if part is None:
            span = self._tracer.start_span("part", self._below, attributes=attributes, start_time=now_ns)
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
        self._numbers.active_parts.add(1)

    def _part_ended(self, event: events.PartEnded) -> None:
        part = self._parts[event.part_number]
        part.ended_at_seconds, part.outcome, part.error = event.at_seconds, event.outcome, event.error
        part.error_type = event.error_type or _OTHER
        part.sent_bytes += event.sent_bytes
        if event.connection is not None and part.attempt is not None:
            part.attempt.set_attribute("network.local.port", event.connection)
        self._attempt_ended(part, event.at_seconds)
        if event.outcome not in _OPEN:
            self._part_done(event.part_number, event.at_seconds)

    def _attempt_ended(self, part: _Part, at_seconds: float) -> None:
        if part.attempt is None:
            return
        span, part.attempt = part.attempt, None
        self._numbers.active_parts.add(-1)
        attributes = _outcome(part)
        self._numbers.attempts.add(1, attributes)
        if part.error is not None and part.error_type.isdigit():
            span.set_attribute("http.response.status_code", int(part.error_type))
        self._end(span, attributes, at_seconds, error=part.error)

    def _part_done(self, number: int, at_seconds: float) -> None:
        part = self._parts.pop(number)
        attributes = _outcome(part)
        stored_bytes = part.size_bytes if part.outcome == "stored" else 0
        self._numbers.stored_bytes.add(stored_bytes)
        self._numbers.wasted_bytes.add(max(part.sent_bytes - stored_bytes, 0))
        self._numbers.part_seconds.record(at_seconds - part.began_at_seconds, attributes)
        self._end(part.span, attributes, at_seconds, error=part.error)

    def _retry(self, event: events.RetryScheduled) -> None:
        part = None if event.part_number is None else self._parts.get(event.part_number)
        kind = event.what if event.part_number is None else "part"
        error_type = event.error_type or _OTHER
        self._numbers.retries.add(1, {"apivideo.request": kind, "error.type": error_type})
        attributes: Attributes = {
            "apivideo.request": event.what,
            "apivideo.retry.reason": event.reason,
            "apivideo.wait": event.wait_seconds,
            "error.type": error_type,
        }
        self._note(self._span if part is None else part.span, "apivideo.retry", attributes, event)

    def _ended(self, event: events.UploadEnded) -> None:
        for number, part in list(self._parts.items()):
            self._attempt_ended(part, event.at_seconds)
            if event.error is None:
                # The service's status said that it had arrived with the attempt whose answer was lost.
                part.outcome, part.error = "stored", None
                self._part_done(number, part.ended_at_seconds)
            else:
                self._part_done(number, event.at_seconds)
        outcome = {None: "finished", "cancelled": "cancelled"}.get(event.error, "failed")
        attributes: Attributes = {"apivideo.outcome": outcome}
        if outcome == "failed":
            attributes["error.type"] = event.error_type or _OTHER
        if event.video_id is not None:
            self._span.set_attribute("apivideo.video_id", event.video_id)
        self._numbers.upload_seconds.record(event.at_seconds - self._began_at_seconds, attributes)
        self._end(self._span, attributes, event.at_seconds, error=event.error if outcome == "failed" else None)

    def _end(self, span: trace.Span, attributes: Attributes, at_seconds: float, *, error: str | None) -> None:
        span.set_attributes(attributes)
        if error is not None and attributes["apivideo.outcome"] != "stored":
            span.set_status(trace.Status(trace.StatusCode.ERROR, error))
        span.end(self._time_ns(at_seconds))


def _outcome(part: _Part) -> Attributes:
    """How a part, or an attempt at it, has ended, for spans and numbers."""
    attributes: Attributes = {"apivideo.outcome": part.outcome}
    if part.outcome not in ("stored", "cancelled"):
        attributes["error.type"] = part.error_type
    return attributes
