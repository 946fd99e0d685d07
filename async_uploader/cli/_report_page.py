"""One self-contained page about uploads: what was planned, what came of it, and a picture of each."""

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

from ._report_figure import figure, of_kind

_TEMPLATE: Final = Path(__file__).with_name("_report.html")

Row = tuple[str, str]

_NOT_FAILED: Final = (events.PartOutcome.STORED, events.PartOutcome.CANCELLED)


def page(stories: Sequence[Sequence[events.UploadEvent]], *, left_out: int = 0) -> str:
    """The page, as HTML.

    :param stories: the events of each upload, in order of time
    :param left_out: how many uploads there were beside these
    """
    parts = {
        "overview": _overview(stories, left_out),
        "sections": "".join(_section(number, story, is_open=number == 0) for number, story in enumerate(stories)),
        "made": html.escape(_versions()),
        "figures": _script([figure(story) for story in stories]),
        "plotly": get_plotlyjs(),
    }
    text = _TEMPLATE.read_text(encoding="utf-8")
    head, *rest = text.split("<!--")
    return head + "".join(_filled(piece, parts) for piece in rest)


def _filled(piece: str, parts: dict[str, str]) -> str:
    """``name-->and what follows``, with what the name stands for. What is put in is not read again."""
    name, _, following = piece.partition("-->")
    return parts[name] + following


def _script(document: Any) -> str:
    """JSON that cannot end the script that it is in."""
    return json.dumps(document, separators=(",", ":")).replace("<", "\\u003c")


def _versions() -> str:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    python = platform.python_version()
    return f"{now}, by async-uploader {__version__}, Python {python}, plotly {plotly.__version__}"


def _overview(stories: Sequence[Sequence[events.UploadEvent]], left_out: int) -> str:
    if len(stories) == 1 and not left_out:
        return ""
    cells = "".join(f"<th>{name}</th>" for name in ("source", "stored", "seconds", "mean rate", "retries", ""))
    rows = "".join(
        f'<tr><td><a href="#upload-{number}">{_shown(story[0].source)}</a></td>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in _summary(story))
        + "</tr>"
        for number, story in enumerate(stories)
    )
    more = f"<p>And {left_out} more uploads, of which nothing was kept.</p>" if left_out else ""
    return f'<table class="overview"><tr>{cells}</tr>{rows}</table>{more}'


def _summary(story: Sequence[events.UploadEvent]) -> tuple[str, ...]:
    stored, seconds = _stored_bytes(story), _seconds(story)
    retries = len(of_kind(story, events.RetryScheduled))
    return (
        format_size(stored),
        f"{seconds:.1f}",
        f"{format_size(int(stored / seconds))}/s",
        str(retries),
        "failed" if _error(story) else "",
    )


def _section(number: int, story: Sequence[events.UploadEvent], *, is_open: bool) -> str:
    error = _error(story)
    failure = f'<p class="error">{_shown(error)}</p>' if error else ""
    tables = _table("The plan", _plan(story)) + _table("What came of it", _totals(story))
    opened = " open" if is_open else ""
    return (
        f'<details id="upload-{number}"{opened}><summary>{_shown(story[0].source)}</summary>{failure}'
        f'<div class="tables">{tables}</div><div class="figure" data-figure="{number}"></div></details>'
    )


def _table(title: str, rows: Iterable[Row]) -> str:
    body = "".join(f"<tr><th>{html.escape(name)}</th><td>{_shown(value)}</td></tr>" for name, value in rows)
    return f"<table><caption>{html.escape(title)}</caption>{body}</table>"


def _plan(story: Sequence[events.UploadEvent]) -> Iterator[Row]:
    for plan in of_kind(story, events.UploadBegan):
        yield "size", "not known at the start" if plan.total_bytes is None else format_size(plan.total_bytes)
        # What the container told of the account may have changed the plan.
        final = next(iter(of_kind(story, events.ContainerReady)), plan)
        yield "parts", "not known at the start" if final.parts_total is None else str(final.parts_total)
        yield "part size", format_size(final.part_bytes)
        adapts = "at most; how many, is found out" if plan.adapts else "at most"
        yield "parts in flight", f"{plan.concurrency} {adapts}"
    for ready in of_kind(story, events.ContainerReady):
        yield "video", ready.video_id
        if ready.parts_done:
            yield "there before", f"{ready.parts_done} parts, {format_size(ready.acknowledged_bytes)}"


def _totals(story: Sequence[events.UploadEvent]) -> Iterator[Row]:
    attempts = of_kind(story, events.PartEnded)
    stored, seconds = _stored_bytes(story), _seconds(story)
    waits = of_kind(story, events.RateLimitWait)
    failed = [one for one in attempts if one.outcome not in _NOT_FAILED]
    yield "stored", f"{format_size(stored)} in {sum(map(_is_stored, attempts))} parts"
    yield "time", f"{seconds:.2f} s"
    yield "mean rate", f"{format_size(int(stored / seconds))}/s"
    retries = len(of_kind(story, events.RetryScheduled))
    yield "tried again", f"{retries} time{'' if retries == 1 else 's'}"
    yield "attempts in vain", f"{len(failed)}, of parts with {format_size(sum(one.size_bytes for one in failed))}"
    yield "waits for the rate limit", f"{len(waits)}, {sum(one.wait_seconds for one in waits):.1f} s together"
    yield "connections", str(len({one.connection for one in attempts if one.connection is not None}))


def _is_stored(attempt: events.PartEnded) -> bool:
    return attempt.outcome is events.PartOutcome.STORED


def _stored_bytes(story: Sequence[events.UploadEvent]) -> int:
    return sum(one.size_bytes for one in of_kind(story, events.PartEnded) if _is_stored(one))


def _seconds(story: Sequence[events.UploadEvent]) -> float:
    return max(story[-1].at_seconds - story[0].at_seconds, 0.001)


def _error(story: Sequence[events.UploadEvent]) -> str | None:
    last = story[-1]
    if not isinstance(last, events.UploadEnded):
        return "It had not ended when this page was made."
    return "cancelled" if last.outcome is events.UploadOutcome.CANCELLED else str(last.error or "") or None


def _shown(text: str) -> str:
    """Text that is no markup; lone surrogates of odd file names cannot be written as UTF-8."""
    return html.escape(text.encode("utf-8", "backslashreplace").decode())
