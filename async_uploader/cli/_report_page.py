"""Renders the report as one self-contained HTML page: plan, result and charts of each upload."""

from __future__ import annotations

import html
import json
import platform
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import plotly
from plotly.offline import get_plotlyjs

from async_uploader import __version__, events
from async_uploader._units import format_size

from ._bounds import bound_rows, bound_sentence
from ._format import format_rate
from ._report_figure import Span, Timeline, build_figure, events_of, merged

_TEMPLATE: Final = Path(__file__).with_name("_report.html")

Row = tuple[str, str]

_NOT_FAILED: Final = (events.PartOutcome.STORED, events.PartOutcome.CANCELLED)


def render_page(timelines: Sequence[Timeline], *, omitted: int = 0) -> str:
    """Render the report as HTML.

    :param timelines: the events of each upload, in order of time
    :param omitted: number of further uploads; default: 0
    """
    span = Span.of(timelines)
    figures = [build_figure(timeline, span) for timeline in timelines]
    is_single = len(timelines) == 1
    if not is_single:
        figures.append(build_figure(merged(timelines), span))
    parts = {
        "overview": _overview(timelines, omitted),
        "sections": "".join(
            _section(number, timeline, is_open=is_single) for number, timeline in enumerate(timelines)
        ),
        "made": html.escape(_provenance()),
        "figures": _embed_json(figures),
        "plotly": get_plotlyjs(),
    }
    text = _TEMPLATE.read_text(encoding="utf-8")
    head, *rest = text.split("<!--")
    return head + "".join(_fill_placeholder(piece, parts) for piece in rest)


def _fill_placeholder(piece: str, parts: dict[str, str]) -> str:
    """Replace the placeholder at the start of ``name-->text``. The replacement itself is not searched again."""
    name, _, following = piece.partition("-->")
    return parts[name] + following


def _embed_json(document: Any) -> str:
    """JSON for a ``<script>`` element, which it cannot end."""
    return json.dumps(document, separators=(",", ":")).replace("<", "\\u003c")


def _provenance() -> str:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    python = platform.python_version()
    return f"{now}, by async-uploader {__version__}, Python {python}, plotly {plotly.__version__}"


def _overview(timelines: Sequence[Timeline], omitted: int) -> str:
    if len(timelines) == 1 and not omitted:
        return ""
    cells = "".join(f"<th>{name}</th>" for name in ("source", "stored", "seconds", "throughput", "retries", ""))
    rows = "".join(
        f'<tr><td><a href="#upload-{number}">{_escape(timeline[0].source)}</a></td>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in _summary(timeline))
        + "</tr>"
        for number, timeline in enumerate(timelines)
    )
    more = f"<p>{omitted} more uploads are not shown.</p>" if omitted else ""
    table = f'<div class="overview"><table><tr>{cells}</tr>{rows}</table></div>{more}'
    if len(timelines) == 1:
        return table
    figure = f'<div class="figure" data-figure="{len(timelines)}"></div>'
    sentence = bound_sentence(timelines)
    table = (f"<p>{html.escape(sentence)}</p>" if sentence else "") + table
    return f'{table}<details id="all" open><summary>All uploads</summary>{figure}</details>'


def _summary(timeline: Timeline) -> tuple[str, ...]:
    stored, seconds = _stored_bytes(timeline), _seconds(timeline)
    retries = len(events_of(timeline, events.RetryScheduled))
    return (
        format_size(stored),
        f"{seconds:.1f}",
        format_rate(stored / seconds),
        str(retries),
        "failed" if _error(timeline) else "",
    )


def _section(number: int, timeline: Timeline, *, is_open: bool) -> str:
    error = _error(timeline)
    failure = f'<p class="error">{_escape(error)}</p>' if error else ""
    sentence = bound_sentence([timeline])
    bound = f"<p>{html.escape(sentence)}</p>" if sentence else ""
    tables = _table("Plan", _plan_rows(timeline)) + _table("Result", _result_rows(timeline))
    if sentence:
        tables += _table("Bound by", bound_rows([timeline]))
    opened = " open" if is_open else ""
    return (
        f'<details id="upload-{number}"{opened}><summary>{_escape(timeline[0].source)}</summary>{failure}{bound}'
        f'<div class="tables">{tables}</div><div class="figure" data-figure="{number}"></div></details>'
    )


def _table(title: str, rows: Iterable[Row]) -> str:
    body = "".join(f"<tr><th>{html.escape(name)}</th><td>{_escape(value)}</td></tr>" for name, value in rows)
    return f"<table><caption>{html.escape(title)}</caption>{body}</table>"


def _plan_rows(timeline: Timeline) -> Iterator[Row]:
    for plan in events_of(timeline, events.UploadBegan):
        yield "size", "unknown at the start" if plan.total_bytes is None else format_size(plan.total_bytes)
        # The account's rate limit, known once the container is created, may have changed the plan.
        final = next(iter(events_of(timeline, events.ContainerReady)), plan)
        yield "parts", "unknown at the start" if final.parts_total is None else str(final.parts_total)
        yield "part size", format_size(final.part_bytes)
        yield "concurrency", f"adaptive, up to {plan.concurrency}" if plan.adapts else str(plan.concurrency)
    for ready in events_of(timeline, events.ContainerReady):
        yield "video", ready.video_id
        if ready.parts_done:
            yield "stored before", f"{ready.parts_done} parts, {format_size(ready.acknowledged_bytes)}"


def _result_rows(timeline: Timeline) -> Iterator[Row]:
    attempts = events_of(timeline, events.PartEnded)
    stored, seconds = _stored_bytes(timeline), _seconds(timeline)
    waits = events_of(timeline, events.RateLimitWait)
    failed = [each for each in attempts if each.outcome not in _NOT_FAILED]
    yield "stored", f"{format_size(stored)} in {sum(map(_is_stored, attempts))} parts"
    yield "time", f"{seconds:.2f} s"
    yield "throughput", format_rate(stored / seconds)
    yield "retries", str(len(events_of(timeline, events.RetryScheduled)))
    yield "failed attempts", f"{len(failed)}, {format_size(sum(each.size_bytes for each in failed))}"
    yield "rate limit waits", f"{len(waits)}, {sum(each.wait_seconds for each in waits):.1f} s"
    yield "connections", str(len({each.connection for each in attempts if each.connection is not None}))


def _is_stored(attempt: events.PartEnded) -> bool:
    return attempt.outcome is events.PartOutcome.STORED


def _stored_bytes(timeline: Timeline) -> int:
    return sum(each.size_bytes for each in events_of(timeline, events.PartEnded) if _is_stored(each))


def _seconds(timeline: Timeline) -> float:
    return max(timeline[-1].at_seconds - timeline[0].at_seconds, 0.001)


def _error(timeline: Timeline) -> str | None:
    last = timeline[-1]
    if not isinstance(last, events.UploadEnded):
        return "The upload had not ended when the report was written."
    return "cancelled" if last.outcome is events.UploadOutcome.CANCELLED else str(last.error or "") or None


def _escape(text: str) -> str:
    """Escape markup, and the lone surrogates of file names that are not UTF-8."""
    return html.escape(text.encode("utf-8", "backslashreplace").decode())
