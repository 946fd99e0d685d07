"""Draw the pictures of `docs/` from the events of real uploads to the emulator.

    python docs/pictures/draw.py            # all pictures; needs the dependency group `bench`
    python docs/pictures/draw.py cut        # one picture

A run takes about 20 seconds. The pictures differ slightly from run to run.
"""
# ruff: noqa: T201 - prints what it has drawn

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt
from matplotlib.patches import Patch

from async_uploader import Client, UploadOptions, events
from async_uploader.emulator import Emulator, Fault, RequestRecord

MIB: Final = 1024 * 1024
HERE: Final = Path(__file__).parent

# Legible on white and on dark grey.
_INK: Final = "#808080"
_GRID: Final = "#80808050"
_COLOURS: Final = {
    "stored": "#4a8fd0",
    "unknown": "#e08a1e",
    "not stored": "#d0503f",
    "waiting": "#9a7fc7",
    "status": "#3f9e6a",
}
_LABELS: Final = {
    "stored": "stored",
    "unknown": "outcome unknown",
    "not stored": "not stored",
    "waiting": "wait",
    "status": "status request",
}
mpl.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "async_uploader",
        "font.family": "sans-serif",
        "font.size": 10,
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), _INK),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """An upload and the emulator that receives it.

    :param seed: of the random backoff
    """

    size_mib: int
    emulator: dict[str, Any]
    options: UploadOptions = field(default_factory=UploadOptions)
    seed: int = 6


SCENARIOS: Final = {
    "adaptive-concurrency": Scenario(size_mib=1024, emulator={"connection_rate": 16e6, "latency": 0.05}),
    "cut": Scenario(
        size_mib=60,
        emulator={"connection_rate": 6e6, "faults": [Fault.parse("part=3,attempt=1:cut,when=middle")]},
        options={"part_size": 5 * MIB, "concurrency": 4},
    ),
    "lost-response": Scenario(
        size_mib=60,
        emulator={"connection_rate": 6e6, "faults": [Fault.parse("part=3,attempt=1:cut,when=stored")]},
        options={"part_size": 5 * MIB, "concurrency": 4},
    ),
    "rate-limit": Scenario(
        size_mib=60,
        emulator={"connection_rate": 8e6, "rate_limit": 5, "rate_window": 4},
        options={"part_size": 5 * MIB, "concurrency": 4},
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The events of an upload, and the requests that the emulator received."""

    history: Sequence[events.UploadEvent]
    requests: Sequence[RequestRecord]

    def since(self, seconds: float) -> float:
        """Seconds since the upload began."""
        return seconds - self.history[0].at_seconds

    @property
    def attempts(self) -> list[events.PartEnded]:
        return [event for event in self.history if isinstance(event, events.PartEnded)]

    @property
    def rows(self) -> dict[int | None, int]:
        """A row number for each connection, by its local port, in the order of first use."""
        began = sorted(self.attempts, key=lambda attempt: attempt.began_at_seconds)
        return {port: row for row, port in enumerate(dict.fromkeys(attempt.connection for attempt in began))}


async def record(scenario: Scenario) -> Recording:
    """Upload to an emulator, and record the events and requests."""
    recorded: list[events.UploadEvent] = []
    random.seed(scenario.seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "movie.mp4"
        with path.open("wb") as file:
            file.truncate(scenario.size_mib * MIB)
        async with Emulator(**scenario.emulator) as emulator:
            with events.listen(recorded.append):
                async with Client(api_key="local-key", base_url=emulator.url) as client:
                    await client.upload(path, **scenario.options)
            return Recording(history=recorded, requests=emulator.requests)


def draw(recording: Recording, path: Path) -> None:
    """Draw a row for each connection and a bar for each attempt; waits and status requests are below."""
    rows = recording.rows
    changes = [event for event in recording.history if isinstance(event, events.ConcurrencyChanged)]
    height = 1.1 + (0.1 if len(rows) > 12 else 0.3) * (len(rows) + 2)
    if changes:
        figure, (above, axes) = plt.subplots(
            2, figsize=(7.6, height + 1.2), sharex=True, height_ratios=[1, 3], layout="constrained"
        )
        _draw_changes(above, recording, changes)
    else:
        figure, axes = plt.subplots(figsize=(7.6, height), layout="constrained")
    used = _draw_attempts(axes, recording, rows)
    used |= _draw_waits_and_status_requests(axes, recording, len(rows))
    axes.set(xlabel="seconds", xlim=(0, None))
    axes.invert_yaxis()
    _tidy(axes)
    figure.legend(
        handles=[Patch(color=_COLOURS[name], label=_LABELS[name]) for name in _COLOURS if name in used],
        loc="outside upper left",
        ncols=len(used),
        frameon=False,
    )
    figure.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(figure)


def _draw_changes(axes: Any, recording: Recording, changes: Sequence[events.ConcurrencyChanged]) -> None:
    times = [recording.since(event.at_seconds) for event in (*changes, recording.history[-1])]
    counts = [change.concurrency for change in changes]
    axes.stairs(counts, times, baseline=None, color=_COLOURS["waiting"], linewidth=2)
    axes.set(ylabel="maximum\nparts in flight", ylim=(0, 36), yticks=sorted({*counts}))
    _tidy(axes)


def _draw_attempts(axes: Any, recording: Recording, rows: dict[int | None, int]) -> set[str]:
    is_crowded = len(rows) > 12
    for attempt in recording.attempts:
        row, begin = rows[attempt.connection], recording.since(attempt.began_at_seconds)
        length = attempt.at_seconds - attempt.began_at_seconds
        axes.barh(row, length, left=begin, height=0.8, color=_COLOURS[attempt.outcome], edgecolor="#ffffff60")
        if not is_crowded:
            label = f"{attempt.part_number}" if attempt.attempt == 1 else f"{attempt.part_number}, retry"
            axes.text(begin + length / 2, row, label, ha="center", va="center", color="white")
    if is_crowded:
        axes.set(ylabel="connections", yticks=[])
    else:
        axes.set_yticks(range(len(rows)), [f"connection {row + 1}" for row in range(len(rows))])
    return {attempt.outcome for attempt in recording.attempts}


def _draw_waits_and_status_requests(axes: Any, recording: Recording, row: int) -> set[str]:
    """Draw the rows below the connections. Every upload ends with a status request."""
    used = set()
    labels = {}
    retries = [event for event in recording.history if isinstance(event, events.RetryScheduled)]
    limits = [
        event for event in recording.history if isinstance(event, events.RateLimitWait) and event.kind == "upload"
    ]
    for waits, label in ((retries, "backoff"), (limits, "rate limit")):
        for wait in waits:
            axes.barh(
                row,
                wait.wait_seconds,
                left=recording.since(wait.at_seconds),
                height=0.5,
                color=_COLOURS["waiting"],
            )
        if waits:
            labels[row] = label
            used.add("waiting")
            row += 1
    status_times = [record.started_s for record in recording.requests if record.endpoint == "status"]
    if retries and status_times:
        axes.scatter(
            [recording.since(at) for at in status_times],
            [row] * len(status_times),
            marker="D",
            color=_COLOURS["status"],
        )
        labels[row] = "status"
        used.add("status")
    axes.set_yticks(
        [*axes.get_yticks(), *labels], [*(one.get_text() for one in axes.get_yticklabels()), *labels.values()]
    )
    return used


def _tidy(axes: Any) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.grid(axis="x", color=_GRID)
    axes.set_axisbelow(True)


def main() -> None:
    """Draw the pictures named on the command line, or all of them."""
    for name in sys.argv[1:] or SCENARIOS:
        recording = asyncio.run(record(SCENARIOS[name]))
        draw(recording, HERE / f"{name}.svg")
        print(f"{name}.svg: {len(recording.attempts)} attempts on {len(recording.rows)} connections")


if __name__ == "__main__":
    main()
