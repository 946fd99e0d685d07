"""How uploads look while they run: a bar for each file on a terminal, lines everywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from async_uploader._limits import MIB
from async_uploader._progress import Progress
from async_uploader._units import format_size

from ._output import printable, say

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from async_uploader._models import VideoStatus


class Display:
    """All sources' progress, on standard error.

    :param quiet: show nothing
    :param total: how many sources there are
    """

    def __init__(self, *, quiet: bool, total: int = 1) -> None:
        self.quiet = quiet
        self.bars: Bars | None = None
        self._total = total
        self._active: set[FileDisplay] = set()

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Draw the bars, if standard error is a terminal; in the end say what was stopped."""
        try:
            if self.quiet or not sys.stderr.isatty():
                yield
            else:
                with _bars() as self.bars:
                    self._whole = self.bars.add_task("all", total=self._total, detail="", visible=self._total > 1)
                    yield
        finally:
            for file in self._active:
                file.stopped()

    def file(self, source: str) -> FileDisplay:
        """One file's upload."""
        file = FileDisplay(self, source)
        self._active.add(file)
        return file

    def ended(self, file: FileDisplay | None) -> None:
        """One of all sources is through, with a display of its own or without."""
        if file is not None:
            file.close()
            self._active.discard(file)
        if self.bars is not None:
            self.bars.advance(self._whole)
            done = int(self.bars.tasks[0].completed)
            self.bars.update(self._whole, detail=f"{done} of {self._total} are through")

    def say(self, text: str) -> None:
        """A line, unless nothing is to be shown."""
        if not self.quiet:
            say(text)

    @contextmanager
    def encoding(self, name: str) -> Iterator[EncodingDisplay]:
        """One video's encoding; says in the end that it can be played."""
        encoding = EncodingDisplay(self, name)
        try:
            yield encoding
            self.say(f"{name}: can be played")
        finally:
            encoding.close()


class FileDisplay:
    """One file's progress; itself an ``on_progress``."""

    def __init__(self, display: Display, source: str) -> None:
        self._display = display
        self._name = source
        self._bar: TaskID | None = None
        self._began = time.monotonic()
        self._last: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        self._last = progress
        if self._display.bars is not None:
            if self._bar is None:
                self._bar = self._display.bars.add_task(_title(self._name), detail="")
            self._display.bars.update(
                self._bar,
                completed=progress.sent_bytes,
                total=progress.total_bytes,
                detail=_amounts(progress),
            )

    def stopped(self) -> None:
        """The last line of an upload that was interrupted."""
        if self._last is not None:
            self._display.say(f"{self._name}: stopped at {_arrived(self._last)}")

    def uploaded(self) -> None:
        """The last line of an upload that worked."""
        if self._last is not None:
            size, parts = self._last.acknowledged_bytes, self._last.parts_done
            seconds = time.monotonic() - self._began
            self._display.say(
                f"{self._name}: uploaded {format_size(size)}, {parts} part{'' if parts == 1 else 's'}, "
                f"in {seconds:.1f} s ({format_size(int(size / seconds))}/s)"
            )
            self._last = None  # nothing is left to be stopped

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None and self._display.bars is not None:
            self._display.bars.remove_task(self._bar)


class EncodingDisplay:
    """How the service gets on with a video; itself an ``on_status``. A bar, or a line for each news."""

    def __init__(self, display: Display, name: str) -> None:
        self._display = display
        self._name = name
        self._told: set[str] = set()
        self._bar = display.bars.add_task(_title(name), total=None, detail="") if display.bars else None

    def __call__(self, status: VideoStatus) -> None:
        qualities = status.encoding.qualities
        news = [f"{one.type} {one.quality} {one.status}" for one in qualities]
        if status.ingest.status:
            news.insert(0, status.ingest.status)
        if self._bar is not None and self._display.bars is not None:
            encoded = sum(one.status == "encoded" for one in qualities)
            self._display.bars.update(
                self._bar, completed=encoded, total=len(qualities) or None, detail=", ".join(news)
            )
        else:
            for each in news:
                if each not in self._told:
                    self._display.say(f"{self._name}: {each}")
            self._told.update(news)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None and self._display.bars is not None:
            self._display.bars.remove_task(self._bar)


def _title(name: str) -> str:
    return printable(Path(name).name)


def _arrived(progress: Progress) -> str:
    parts = "?" if progress.parts_total is None else progress.parts_total
    total = "?" if progress.total_bytes is None else format_size(progress.total_bytes)
    return f"{progress.parts_done} of {parts} parts, {format_size(progress.acknowledged_bytes)} of {total}"


def _amounts(progress: Progress) -> str:
    sent, stored = progress.sent_bytes / MIB, progress.acknowledged_bytes / MIB
    total = "?" if progress.total_bytes is None else f"{progress.total_bytes / MIB:.1f}"
    return (
        f"sent {sent:.1f}, stored {stored:.1f} of {total} MiB  {progress.parts_done}/{progress.parts_total or '?'}"
    )


def _bars() -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.table import Column
    from rich.text import Text

    class Rate(ProgressColumn):
        """In the unit of everything else."""

        def render(self, task: Task) -> Text:
            speed = task.speed if "MiB" in task.fields["detail"] else None
            return Text(f"{speed / MIB:.1f} MiB/s" if speed else "", style="progress.data.speed")

    console = Console(stderr=True)
    one_line = Column(no_wrap=True)
    name = Column(no_wrap=True, max_width=max(12, console.width // 5), overflow="ellipsis")
    return Progress(
        TextColumn("{task.description}", markup=False, table_column=name),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[detail]}", style="progress.download", table_column=one_line),
        Rate(one_line),
        TimeRemainingColumn(compact=True, table_column=one_line),
        console=console,
        expand=True,
        transient=True,
    )
