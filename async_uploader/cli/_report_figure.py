"""The picture of one upload, as plotly.js takes it: three charts above each other on one axis of time.

What comes from elsewhere goes in as text: plotly reads a little HTML in what it shows.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from async_uploader import events
from async_uploader._limits import MIB
from async_uploader._units import format_size

E = TypeVar("E", bound=events.UploadEvent)

#: What an attempt can come to, with its colour (told apart by most kinds of colour blindness, too).
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


def of_kind(story: Iterable[events.UploadEvent], kind: type[E]) -> list[E]:
    """The events of one kind."""
    return [event for event in story if isinstance(event, kind)]


def figure(story: Sequence[events.UploadEvent]) -> dict[str, Any]:
    """``data`` and ``layout`` of an upload's picture."""
    start = story[0].at_seconds
    seconds = max(story[-1].at_seconds - start, 0.001)
    attempts = of_kind(story, events.PartEnded)
    rows = _rows(attempts)
    waits, retries = of_kind(story, events.RateLimitWait), of_kind(story, events.RetryScheduled)
    labels = list(dict.fromkeys(rows.values()))
    if any(retry.part_number is None for retry in retries):
        labels.append(_REQUESTS)
    if waits:
        labels.append(_RATE_LIMIT)
    data = [
        *_bars(attempts, rows, start),
        *_waits(waits, start),
        *_retries(retries, attempts, rows, start),
        *_in_flight(story, attempts, start, seconds),
        _throughput(attempts, start, seconds),
    ]
    return {"data": data, "layout": _layout(labels, seconds)}


def _rows(attempts: Iterable[events.PartEnded]) -> dict[int | None, str]:
    """A row for each connection, in the order in which they are first used."""
    ordered = sorted(attempts, key=lambda one: one.began_at_seconds)
    ports = dict.fromkeys(one.connection for one in ordered if one.connection is not None)
    rows: dict[int | None, str] = {port: f"connection {number}" for number, port in enumerate(ports, start=1)}
    if any(one.connection is None for one in ordered):
        rows[None] = "not connected"
    return rows


def _bars(
    attempts: Sequence[events.PartEnded], rows: dict[int | None, str], start: float
) -> Iterator[dict[str, Any]]:
    for outcome, colour in OUTCOMES.items():
        ones = [one for one in attempts if one.outcome is outcome]
        if ones:
            yield {
                "type": "bar",
                "orientation": "h",
                "name": outcome,
                "y": [rows[one.connection] for one in ones],
                "base": [round(one.began_at_seconds - start, 3) for one in ones],
                "x": [round(one.at_seconds - one.began_at_seconds, 3) for one in ones],
                "marker": {"color": colour, "line": {"width": 1, "color": "rgba(255,255,255,.7)"}},
                "hovertext": [_about(one, start) for one in ones],
                "hoverinfo": "text",
            }


def _about(one: events.PartEnded, start: float) -> str:
    seconds = one.at_seconds - one.began_at_seconds
    is_stored = one.outcome is events.PartOutcome.STORED
    rate = f", {one.size_bytes / seconds / MIB:.1f} MiB/s" if seconds and is_stored else ""
    lines = [
        f"<b>part {one.part_number}</b>, attempt {one.attempt}: {one.outcome}",
        f"{format_size(one.size_bytes)} in {seconds:.2f} s{rate}",
        f"from {one.began_at_seconds - start:.2f} s to {one.at_seconds - start:.2f} s",
    ]
    if one.connection is not None:
        lines.append(f"local port {one.connection}")
    if one.error:
        lines.append(_text(str(one.error)))
    return "<br>".join(lines)


def _waits(waits: Sequence[events.RateLimitWait], start: float) -> Iterator[dict[str, Any]]:
    if waits:
        yield {
            "type": "bar",
            "orientation": "h",
            "name": "waiting for the rate limit",
            "y": [_RATE_LIMIT] * len(waits),
            "base": [round(one.at_seconds - start, 3) for one in waits],
            "x": [round(one.wait_seconds, 3) for one in waits],
            "marker": {"color": _WAIT_COLOUR, "opacity": 0.5},
            "hovertext": [f"{_text(one.kind)}: {one.wait_seconds:.1f} s" for one in waits],
            "hoverinfo": "text",
        }


def _retries(
    retries: Sequence[events.RetryScheduled],
    attempts: Sequence[events.PartEnded],
    rows: dict[int | None, str],
    start: float,
) -> Iterator[dict[str, Any]]:
    """A mark where something failed, and a dotted line for as long as it waits."""
    if not retries:
        return
    # The row of the attempt that has failed: the part's last one before.
    places = [
        next(
            (
                rows[one.connection]
                for one in reversed(attempts)
                if one.part_number == retry.part_number and one.at_seconds <= retry.at_seconds
            ),
            _REQUESTS,
        )
        for retry in retries
    ]
    moments = [round(retry.at_seconds - start, 3) for retry in retries]
    yield {
        "type": "scatter",
        "mode": "markers",
        "name": "tried again",
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
            f"<b>{_text(retry.request)}</b> again in {retry.wait_seconds:.1f} s<br>{_text(str(retry.error))}"
            for retry in retries
        ],
        "hoverinfo": "text",
    }


def _in_flight(
    story: Sequence[events.UploadEvent], attempts: Sequence[events.PartEnded], start: float, seconds: float
) -> Iterator[dict[str, Any]]:
    changes = [(one.began_at_seconds, 1) for one in attempts] + [(one.at_seconds, -1) for one in attempts]
    moments, counts, count = [0.0], [0], 0
    for moment, change in sorted(changes):
        count += change
        moments.append(round(moment - start, 3))
        counts.append(count)
    yield _steps("in flight", [*moments, seconds], [*counts, count], colour=_ACCENT, fill=True)
    allowed = of_kind(story, events.ConcurrencyChanged)
    if allowed:
        xs, ys = [one.at_seconds - start for one in allowed], [one.concurrency for one in allowed]
        yield _steps(
            "allowed in flight", [*xs, seconds], [*ys, ys[-1]], colour=OUTCOMES[events.PartOutcome.UNKNOWN]
        )


def _steps(
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
    """What was stored, each part's bytes spread evenly over the time that it took."""
    width = seconds / _BINS
    bins = [0.0] * _BINS
    for one in attempts:
        if one.outcome is not events.PartOutcome.STORED:
            continue
        began, ended = one.began_at_seconds - start, one.at_seconds - start
        density = one.size_bytes / max(ended - began, 1e-6)
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


def _text(told: str) -> str:
    """As it is, and no markup."""
    return html.escape(told, quote=False).replace("\n", " ")
