"""How uploads look while they run: a bar for each file on a terminal, lines everywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from async_uploader._errors import UploaderError
from async_uploader._limits import MIB
from async_uploader._progress import Progress
from async_uploader._units import format_size

from ._output import printable, say

if TYPE_CHECKING:
    from rich.progress import Progress as Bars


class Display:
    """All files' progress, on standard error.

    :param quiet: show nothing
    """

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.bars: Bars | None = None

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Draw the bars, if standard error is a terminal."""
        if self.quiet or not sys.stderr.isatty():
            yield
            return
        with _bars() as self.bars:
            yield

    @contextmanager
    def of(self, source: str) -> Iterator[FileDisplay]:
        """One file's upload; says how it ended, unless it is by an error that says so itself."""
        file = FileDisplay(self, source)
        try:
            yield file
        except UploaderError:
            raise
        except BaseException:
            file.stopped()
            raise
        else:
            file.uploaded()
        finally:
            file.close()


class FileDisplay:
    """One file's progress; itself an ``on_progress``."""

    def __init__(self, display: Display, source: str) -> None:
        self._display = display
        self._name = source
        title = printable(Path(source).name)
        self._bar = display.bars.add_task(title, total=None, detail="") if display.bars else None
        self._began = time.monotonic()
        self._last: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        self._last = progress
        if self._bar is not None and self._display.bars is not None:
            self._display.bars.update(
                self._bar,
                completed=progress.sent_bytes,
                total=progress.total_bytes,
                detail=_amounts(progress),
            )

    def stopped(self) -> None:
        """The last line of an upload that was interrupted."""
        if self._last is not None and not self._display.quiet:
            say(f"{self._name}: stopped at {_arrived(self._last)}")

    def uploaded(self) -> None:
        """The last line of an upload that worked."""
        if self._last is not None and not self._display.quiet:
            size, parts = self._last.acknowledged_bytes, self._last.parts_done
            seconds = time.monotonic() - self._began
            say(
                f"{self._name}: uploaded {format_size(size)}, {parts} part{'' if parts == 1 else 's'}, "
                f"in {seconds:.1f} s ({format_size(int(size / seconds))}/s)"
            )

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None and self._display.bars is not None:
            self._display.bars.remove_task(self._bar)


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
            return Text(f"{task.speed / MIB:.1f} MiB/s" if task.speed else "", style="progress.data.speed")

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
