"""Builds the charts of each upload for plotly.js: attempts, parts in flight and throughput over the same time.

plotly interprets some HTML in texts, so texts from elsewhere are escaped.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from async_uploader import events
from async_uploader._limits import MIB
from async_uploader._units import format_size

E = TypeVar("E", bound=events.UploadEvent)

#: The events of an upload, in order of time.
Timeline: TypeAlias = Sequence[events.UploadEvent]

#: The colours of outcomes, distinguishable with most kinds of colour blindness.
OUTCOMES: Final = {
    events.PartOutcome.STORED: "#2a9d6f",
    events.PartOutcome.UNKNOWN: "#e9a13b",
    events.PartOutcome.NOT_STORED: "#d1495b",
    events.PartOutcome.REFUSED: "#8f2d56",
    events.PartOutcome.CONFLICT: "#6a4c93",
    events.PartOutcome.CANCELLED: "#8d99ae",
}
_WAIT_COLOUR: Final = "#4a7fc1"
_ACCENT: Final = "#4a7fc1"
_REQUESTS: Final = "other requests"
_RATE_LIMIT: Final = "rate limit"
_BINS: Final = 240
_ROW_PIXELS: Final = 20
_CHARTS_PIXELS: Final = 320
_MAX_ROWS_PIXELS: Final = 900


def events_of(timeline: Timeline, kind: type[E]) -> list[E]:
    """The events of a class."""
    return [event for event in timeline if isinstance(event, kind)]


class Span(NamedTuple):
    """The time that all charts of a report show.

    :param start: of the first upload, by the clock of the events
    """

    start: float
    seconds: float

    @classmethod
    def of(cls, timelines: Sequence[Timeline]) -> Span:
        """From the first to the last event of all uploads."""
        start = min(timeline[0].at_seconds for timeline in timelines)
        return cls(start, max(max(timeline[-1].at_seconds for timeline in timelines) - start, 0.001))


def merged(timelines: Sequence[Timeline]) -> Timeline:
    """The events of all uploads as one timeline."""
    return sorted((event for timeline in timelines for event in timeline), key=lambda event: event.at_seconds)


def build_figure(timeline: Timeline, span: Span) -> dict[str, Any]:
    """The ``data`` and ``layout`` of the charts of an upload, or of all together."""
    start, seconds = span
    attempts = events_of(timeline, events.PartEnded)
    rows = _connection_rows(attempts)
    waits, retries = events_of(timeline, events.RateLimitWait), events_of(timeline, events.RetryScheduled)
    labels = list(dict.fromkeys(rows.values()))
    if any(retry.part_number is None for retry in retries):
        labels.append(_REQUESTS)
    if waits:
        labels.append(_RATE_LIMIT)
    data = [
        *_attempt_bars(attempts, rows, start),
        *_rate_limit_bars(waits, start),
        *_retry_markers(retries, attempts, rows, start),
        *_concurrency_lines(timeline, attempts, start, seconds),
        _throughput(attempts, start, seconds),
    ]
    return {"data": data, "layout": _layout(labels, seconds)}


def _connection_rows(attempts: Iterable[events.PartEnded]) -> dict[int | None, str]:
    """The label of each connection's row, in the order of first use."""
    ordered = sorted(attempts, key=lambda each: each.began_at_seconds)
    ports = dict.fromkeys(each.connection for each in ordered if each.connection is not None)
    rows: dict[int | None, str] = {port: f"connection {number}" for number, port in enumerate(ports, start=1)}
    if any(each.connection is None for each in ordered):
        rows[None] = "not connected"
    return rows


def _attempt_bars(
    attempts: Sequence[events.PartEnded], rows: dict[int | None, str], start: float
) -> Iterator[dict[str, Any]]:
    for outcome, colour in OUTCOMES.items():
        matching = [each for each in attempts if each.outcome is outcome]
        if matching:
            yield {
                "type": "bar",
                "orientation": "h",
                "name": outcome,
                "y": [rows[each.connection] for each in matching],
                "base": [round(each.began_at_seconds - start, 3) for each in matching],
                "x": [round(each.at_seconds - each.began_at_seconds, 3) for each in matching],
                "marker": {"color": colour, "line": {"width": 1, "color": "rgba(255,255,255,.7)"}},
                "hovertext": [_describe_attempt(each, start) for each in matching],
                "hoverinfo": "text",
            }


def _describe_attempt(attempt: events.PartEnded, start: float) -> str:
    seconds = attempt.at_seconds - attempt.began_at_seconds
    is_stored = attempt.outcome is events.PartOutcome.STORED
    rate = f", {attempt.size_bytes / seconds / MIB:.1f} MiB/s" if seconds and is_stored else ""
    lines = [
        f"<b>{_escape(attempt.source)}</b>",
        f"part {attempt.part_number}, attempt {attempt.attempt}: {attempt.outcome}",
        f"{format_size(attempt.size_bytes)} in {seconds:.2f} s{rate}",
        f"from {attempt.began_at_seconds - start:.2f} s to {attempt.at_seconds - start:.2f} s",
    ]
    if attempt.connection is not None:
        lines.append(f"local port {attempt.connection}")
    if attempt.error:
        lines.append(_escape(str(attempt.error)))
    return "<br>".join(lines)


def _rate_limit_bars(waits: Sequence[events.RateLimitWait], start: float) -> Iterator[dict[str, Any]]:
    if waits:
        yield {
            "type": "bar",
            "orientation": "h",
            "name": "rate limit wait",
            "y": [_RATE_LIMIT] * len(waits),
            "base": [round(each.at_seconds - start, 3) for each in waits],
            "x": [round(each.wait_seconds, 3) for each in waits],
            "marker": {"color": _WAIT_COLOUR, "opacity": 0.5},
            "hovertext": [f"{_escape(each.kind)}: {each.wait_seconds:.1f} s" for each in waits],
            "hoverinfo": "text",
        }


def _retry_markers(
    retries: Sequence[events.RetryScheduled],
    attempts: Sequence[events.PartEnded],
    rows: dict[int | None, str],
    start: float,
) -> Iterator[dict[str, Any]]:
    """A marker for each failure, and a line for its backoff."""
    if not retries:
        return
    # The attempt that failed is the last one of the part before the retry.
    places = [
        next(
            (
                rows[each.connection]
                for each in reversed(attempts)
                if (each.upload, each.part_number) == (retry.upload, retry.part_number)
                and each.at_seconds <= retry.at_seconds
            ),
            _REQUESTS,
        )
        for retry in retries
    ]
    moments = [round(retry.at_seconds - start, 3) for retry in retries]
    yield {
        "type": "scatter",
        "mode": "markers",
        "name": "retry",
        "x": moments,
        "y": places,
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [round(retry.wait_seconds, 3) for retry in retries],
            "arrayminus": [0.0] * len(retries),
            "thickness": 1.5,
            "width": 3,
            "color": OUTCOMES[events.PartOutcome.NOT_STORED],
        },
        "marker": {"symbol": "x", "size": 9, "color": OUTCOMES[events.PartOutcome.NOT_STORED]},
        "hovertext": [
            f"<b>{_escape(retry.source)}</b><br>{_escape(retry.request)}: retry in {retry.wait_seconds:.1f} s"
            f"<br>{_escape(str(retry.error))}"
            for retry in retries
        ],
        "hoverinfo": "text",
    }


def _concurrency_lines(
    timeline: Timeline, attempts: Sequence[events.PartEnded], start: float, seconds: float
) -> Iterator[dict[str, Any]]:
    changes = [(each.began_at_seconds, 1) for each in attempts] + [(each.at_seconds, -1) for each in attempts]
    moments, counts, count = [0.0], [0], 0
    for moment, change in sorted(changes):
        count += change
        moments.append(round(moment - start, 3))
        counts.append(count)
    yield _step_line("parts in flight", [*moments, seconds], [*counts, count], colour=_ACCENT, fill=True)
    limits = events_of(timeline, events.ConcurrencyChanged)
    if limits:
        xs, ys = [each.at_seconds - start for each in limits], [each.concurrency for each in limits]
        yield _step_line(
            "concurrency limit", [*xs, seconds], [*ys, ys[-1]], colour=OUTCOMES[events.PartOutcome.UNKNOWN]
        )


def _step_line(
    name: str, xs: Sequence[float], ys: Sequence[int], *, colour: str, fill: bool = False
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "yaxis": "y2",
        "x": [round(x, 3) for x in xs],
        "y": list(ys),
        "line": {"shape": "hv", "width": 1.5, "color": colour, **({} if fill else {"dash": "dot"})},
        **({"fill": "tozeroy"} if fill else {}),
    }


def _throughput(attempts: Sequence[events.PartEnded], start: float, seconds: float) -> dict[str, Any]:
    """Stored bytes per second, with the bytes of each part spread evenly over its duration."""
    width = seconds / _BINS
    bins = [0.0] * _BINS
    for each in attempts:
        if each.outcome is not events.PartOutcome.STORED:
            continue
        began, ended = each.began_at_seconds - start, each.at_seconds - start
        density = each.size_bytes / max(ended - began, 1e-6)
        for number in range(min(int(began / width), _BINS - 1), min(int(ended / width), _BINS - 1) + 1):
            overlap = min(ended, (number + 1) * width) - max(began, number * width)
            bins[number] += density * max(overlap, 0.0)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "throughput",
        "yaxis": "y3",
        "x": [round((number + 0.5) * width, 3) for number in range(_BINS)],
        "y": [round(count / width / MIB, 3) for count in bins],
        "fill": "tozeroy",
        "line": {"width": 1.5, "color": OUTCOMES[events.PartOutcome.STORED]},
        "hovertemplate": "%{y:.1f} MiB/s at %{x:.1f} s<extra></extra>",
    }


def _layout(labels: list[str], seconds: float) -> dict[str, Any]:
    rows_pixels = min(max(len(labels), 3) * _ROW_PIXELS, _MAX_ROWS_PIXELS)
    height = rows_pixels + _CHARTS_PIXELS
    share = _CHARTS_PIXELS / height
    return {
        "height": height + 110,
        "margin": {"l": 130, "r": 20, "t": 50, "b": 45},
        "barmode": "overlay",
        "bargap": 0.15,
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "legend": {"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": {"range": [0, seconds * 1.01], "title": {"text": "seconds"}, "anchor": "y3"},
        "yaxis": {
            "domain": [share, 1],
            "type": "category",
            "categoryorder": "array",
            "categoryarray": labels[::-1],
            "range": [-0.6, len(labels) - 0.4],
            **({"dtick": 1} if len(labels) * _ROW_PIXELS <= _MAX_ROWS_PIXELS else {}),
        },
        "yaxis2": {"domain": [share * 0.52, share * 0.92], "title": {"text": "parts"}, "rangemode": "tozero"},
        "yaxis3": {"domain": [0, share * 0.44], "title": {"text": "MiB/s"}, "rangemode": "tozero"},
    }


def _escape(text: str) -> str:
    return html.escape(text, quote=False).replace("\n", " ")
