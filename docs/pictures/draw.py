"""Draws the pictures of `docs/`: real uploads to the emulator, made of the events that they tell.

    python docs/pictures/draw.py            # all of them; needs the dependency group `bench`
    python docs/pictures/draw.py cut        # one

A run takes about 20 seconds. Times differ a little from run to run, so the pictures do, too.
"""
# ruff: noqa: T201 - it says what it has drawn

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

# To be read on white and on dark grey alike.
_INK: Final = "#808080"
_LINE: Final = "#80808050"
_COLOURS: Final = {
    "stored": "#4a8fd0",
    "unknown": "#e08a1e",
    "not stored": "#d0503f",
    "waiting": "#9a7fc7",
    "asking": "#3f9e6a",
}
_WORDS: Final = {
    "stored": "arrived",
    "unknown": "broke off: nobody knows yet",
    "not stored": "not sent",
    "waiting": "waits",
    "asking": "asks for the status",
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
class Scene:
    """An upload, and the service that it meets.

    :param seed: of the waits before another try
    """

    size_mib: int
    emulator: dict[str, Any]
    options: UploadOptions = field(default_factory=UploadOptions)
    seed: int = 6


SCENES: Final = {
    "climb": Scene(size_mib=1024, emulator={"connection_rate": 16e6, "latency": 0.05}),
    "cut": Scene(
        size_mib=60,
        emulator={"connection_rate": 6e6, "faults": [Fault.parse("part=3,attempt=1:cut,when=middle")]},
        options={"part_size": 5 * MIB, "concurrency": 4},
    ),
    "lost-answer": Scene(
        size_mib=60,
        emulator={"connection_rate": 6e6, "faults": [Fault.parse("part=3,attempt=1:cut,when=stored")]},
        options={"part_size": 5 * MIB, "concurrency": 4},
    ),
    "rate-limit": Scene(
        size_mib=60,
        emulator={"connection_rate": 8e6, "rate_limit": 5, "rate_window": 4},
        options={"part_size": 5 * MIB, "concurrency": 4},
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What the upload told, and what the service saw."""

    told: Sequence[events.UploadEvent]
    requests: Sequence[RequestRecord]

    def since(self, seconds: float) -> float:
        """A time on the picture, which begins when the upload does."""
        return seconds - self.told[0].at_seconds

    @property
    def attempts(self) -> list[events.PartEnded]:
        return [event for event in self.told if isinstance(event, events.PartEnded)]

    @property
    def rows(self) -> dict[int | None, int]:
        """The connections, by their local port, in the order in which they were first used."""
        began = sorted(self.attempts, key=lambda attempt: attempt.began_at_seconds)
        return {port: row for row, port in enumerate(dict.fromkeys(attempt.connection for attempt in began))}


async def happen(scene: Scene) -> Story:
    """Upload to a service of its own."""
    told: list[events.UploadEvent] = []
    random.seed(scene.seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "movie.mp4"
        with path.open("wb") as file:
            file.truncate(scene.size_mib * MIB)
        async with Emulator(**scene.emulator) as emulator:
            with events.listen(told.append):
                async with Client(api_key="local-key", base_url=emulator.url) as client:
                    await client.upload(path, **scene.options)
            return Story(told=told, requests=emulator.requests)


def draw(story: Story, path: Path) -> None:
    """A row a connection, a bar an attempt at a part; what is asked and waited for, below."""
    rows = story.rows
    changes = [event for event in story.told if isinstance(event, events.ConcurrencyChanged)]
    height = 1.1 + (0.1 if len(rows) > 12 else 0.3) * (len(rows) + 2)
    if changes:
        figure, (above, axes) = plt.subplots(
            2, figsize=(7.6, height + 1.2), sharex=True, height_ratios=[1, 3], layout="constrained"
        )
        _draw_changes(above, story, changes)
    else:
        figure, axes = plt.subplots(figsize=(7.6, height), layout="constrained")
    used = _draw_attempts(axes, story, rows)
    used |= _draw_asking_and_waiting(axes, story, len(rows))
    axes.set(xlabel="seconds", xlim=(0, None))
    axes.invert_yaxis()
    _tidy(axes)
    figure.legend(
        handles=[Patch(color=_COLOURS[name], label=_WORDS[name]) for name in _COLOURS if name in used],
        loc="outside upper left",
        ncols=len(used),
        frameon=False,
    )
    figure.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(figure)


def _draw_changes(axes: Any, story: Story, changes: Sequence[events.ConcurrencyChanged]) -> None:
    times = [story.since(event.at_seconds) for event in (*changes, story.told[-1])]
    counts = [change.connections for change in changes]
    axes.stairs(counts, times, baseline=None, color=_COLOURS["waiting"], linewidth=2)
    axes.set(ylabel="parts in flight\nat most", ylim=(0, 36), yticks=sorted({*counts}))
    _tidy(axes)


def _draw_attempts(axes: Any, story: Story, rows: dict[int | None, int]) -> set[str]:
    is_crowded = len(rows) > 12
    for attempt in story.attempts:
        row, begin = rows[attempt.connection], story.since(attempt.began_at_seconds)
        length = attempt.at_seconds - attempt.began_at_seconds
        axes.barh(row, length, left=begin, height=0.8, color=_COLOURS[attempt.outcome], edgecolor="#ffffff60")
        if not is_crowded:
            label = f"{attempt.part_number}" if attempt.attempt == 1 else f"{attempt.part_number} again"
            axes.text(begin + length / 2, row, label, ha="center", va="center", color="white")
    if is_crowded:
        axes.set(ylabel="connections", yticks=[])
    else:
        axes.set_yticks(range(len(rows)), [f"connection {row + 1}" for row in range(len(rows))])
    return {attempt.outcome for attempt in story.attempts}


def _draw_asking_and_waiting(axes: Any, story: Story, row: int) -> set[str]:
    """Below the connections; the last question, whether the video has come together, is part of every upload."""
    used = set()
    labels = {}
    retries = [event for event in story.told if isinstance(event, events.RetryScheduled)]
    limits = [event for event in story.told if isinstance(event, events.RateLimitWait) and event.kind == "upload"]
    for waits, label in ((retries, "before a retry"), (limits, "for the window")):
        for wait in waits:
            axes.barh(
                row, wait.wait_seconds, left=story.since(wait.at_seconds), height=0.5, color=_COLOURS["waiting"]
            )
        if waits:
            labels[row] = label
            used.add("waiting")
            row += 1
    asked = [record.started_s for record in story.requests if record.endpoint == "status"]
    if retries and asked:
        axes.scatter([story.since(at) for at in asked], [row] * len(asked), marker="D", color=_COLOURS["asking"])
        labels[row] = "status"
        used.add("asking")
    axes.set_yticks(
        [*axes.get_yticks(), *labels], [*(one.get_text() for one in axes.get_yticklabels()), *labels.values()]
    )
    return used


def _tidy(axes: Any) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.grid(axis="x", color=_LINE)
    axes.set_axisbelow(True)


def main() -> None:
    """Draw what is named, or all."""
    for name in sys.argv[1:] or SCENES:
        story = asyncio.run(happen(SCENES[name]))
        draw(story, HERE / f"{name}.svg")
        print(f"{name}.svg: {len(story.attempts)} attempts on {len(story.rows)} connections")


if __name__ == "__main__":
    main()
