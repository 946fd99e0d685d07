"""Progress on a terminal: a row for each file and one for the total, as many as fit.

A bar shows delivered bytes (thick) and bytes that were sent but not delivered yet (thin). Shapes and colours
differ, for terminals without colours.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from async_uploader._units import format_size

from ._display import (
    Display,
    EncodingProgress,
    FileProgress,
    ProgressSnapshot,
    Row,
    WorkerProgress,
    row_title,
)
from ._estimator import ProgressEstimator
from ._format import (
    format_amount,
    format_percent,
    format_rate,
    format_rate_limit,
    format_remaining,
    format_retries,
)
from ._output import STREAM_LOCKS
from ._stops import STOP_CONTEXTS, running_seconds
from ._text import cell_width, pad, shorten

if TYPE_CHECKING:
    from typing import TextIO

_INTERVAL_SECONDS: Final = 0.15
# A terminal that accepts no output must not keep the process from being stopped.
_LOCK_SECONDS: Final = 0.5
# The row of a finished file stays this long, unless a new one takes its place, so that rows do not jump.
_FINISHED_ROW_SECONDS: Final = 1.0
_WIDE_COLUMNS: Final = 110
_MIN_BAR_COLUMNS: Final = 8
_MAX_BAR_COLUMNS: Final = 60
_MIN_NAME_COLUMNS: Final = 12
_ECHO_COLUMNS: Final = len("^Z")
_DELIVERED, _SENT, _REMAINING = range(3)
_STYLES: Final = ("green", "bright_cyan", "bright_black")
_UNICODE_SHAPES, _ASCII_SHAPES = "━─·", "#=."
#: Columns of a row, by their index. The order in which they are dropped on a narrow terminal is in `_DROP_ORDER`.
_PERCENT, _AMOUNT, _COUNT, _RATE, _REMAINING_TIME = range(5)
_DROP_ORDER: Final = (_COUNT, _AMOUNT, _RATE, _REMAINING_TIME, _PERCENT)


class _RowText(NamedTuple):
    """The content of a row.

    :param filled: delivered and sent share of the bar; None if the total is unknown
    :param columns: the texts to the right of the bar
    :param notes: lines below the row
    """

    name: str
    filled: tuple[float, float] | None
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()


class BarRenderer:
    """Draws bars at the bottom of the terminal. Other output appears above them."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._console = Console(file=sys.stderr)
        self._widths: dict[int, int] = {}
        self._rows: list[Row] = []
        # rich reads the height of the bars first and overwrites them later: no other thread may write in between.
        # Reentrant for signal handlers.
        self._lock = threading.RLock()
        self._stderr = sys.stderr
        self._redirection = _StreamRedirection(self._console, self._lock)
        self._live: Live | None = None
        STOP_CONTEXTS.append(self._removed)
        self.render()

    def _start(self) -> Live:
        live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
            get_renderable=self._frame,
        )
        live.start()
        # rich hides the cursor, and a killed process could not show it again.
        self._console.show_cursor(True)
        return live

    def render(self) -> float:
        """Draw the current state.

        :returns: seconds until the next time
        """
        with self._lock:
            self._draw()
        return _INTERVAL_SECONDS

    def _draw(self) -> None:
        if _is_in_background(self._stderr):
            self._remove()  # the terminal belongs to the shell
            return
        if self._live is None:
            self._live = self._start()
        self._live.refresh()

    def close(self) -> None:
        """Remove the bars."""
        STOP_CONTEXTS.remove(self._removed)
        with self._lock:
            self._remove()
        # Only then: a line that another thread writes must not appear below the bars.
        self._redirection.close()

    def _remove(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    @contextmanager
    def _removed(self) -> Iterator[None]:
        """Remove the bars. They are not drawn while the block runs."""
        has_lock = self._lock.acquire(timeout=_LOCK_SECONDS)
        try:
            if has_lock:
                self._remove()
            yield
        finally:
            if has_lock:
                self._lock.release()

    # Rows

    def _frame(self) -> Group:
        now = running_seconds()
        self._display.update_workers()
        rows = [self._row_text(row, now) for row in self._select_rows(now)]
        total = self._total_rows(now) if self._display.count > 1 and not self._display.is_idle else []
        notes = list(filter(None, [format_rate_limit(self._display.rate_limited_until, now)]))
        height = max(1, self._console.height - 1 - len(total) - len(notes))
        visible = _rows_that_fit(rows, height)
        if len(visible) < len(rows):
            visible = _rows_that_fit(rows, height - 1)
            notes.insert(0, f"and {len(rows) - len(visible)} more")
        return Group(*self._lines([*visible, *total]), *(self._note(note) for note in notes))

    def _select_rows(self, now: float) -> list[Row]:
        """Rows in the order of the command. A new row replaces a finished one, so that their number is steady."""
        active = list(self._display.rows)
        new = [row for row in active if row not in self._rows]
        finished = [row for row in self._rows if row.ended_at is not None]
        replaced = finished[: len(new)]
        kept = [
            row
            for row in self._rows
            if row not in replaced and (row.ended_at is None or now - row.ended_at < _FINISHED_ROW_SECONDS)
        ]
        self._rows = sorted([*kept, *new], key=lambda row: row.number)
        return self._rows

    def _row_text(self, row: Row, now: float) -> _RowText:
        if isinstance(row, EncodingProgress):
            return _encoding_row(row)
        return _worker_row(row, now) if isinstance(row, WorkerProgress) else self._file_row(row, now)

    def _file_row(self, file: FileProgress, now: float) -> _RowText:
        snapshot = file.snapshot()
        if file.ended_at is None:
            file.estimator.update(now, file.delivered_bytes(), remaining_bytes=snapshot.remaining_bytes)
        notes = tuple(filter(None, [format_retries(file.retries_at, now)]))
        count = f"{snapshot.count_done}/{'?' if snapshot.count is None else snapshot.count} parts"
        columns = self._columns(snapshot, file.estimator, count, is_finished=file.is_uploaded)
        return _RowText(row_title(file.name), _filled_shares(snapshot), columns, notes)

    def _total_rows(self, now: float) -> list[_RowText]:
        snapshot, estimator = self._display.snapshot(), self._display.estimator
        estimator.update(now, self._display.delivered_bytes(), remaining_bytes=snapshot.remaining_bytes)
        count = f"{snapshot.count_done}/{self._display.count_text} files"
        if self._display.failed:
            count += f", {self._display.failed} failed"
        return [_RowText("all", _filled_shares(snapshot), self._columns(snapshot, estimator, count))]

    def _columns(
        self, snapshot: ProgressSnapshot, estimator: ProgressEstimator, count: str, *, is_finished: bool = False
    ) -> tuple[str, ...]:
        is_wide = self._is_wide
        sent = snapshot.sent_bytes if is_wide else None
        remaining = format_remaining(estimator.remaining_seconds)
        percent = format_percent(snapshot.delivered_bytes, snapshot.total_bytes, is_complete=snapshot.is_complete)
        return (
            percent if is_wide else "",
            format_amount(snapshot.delivered_bytes, snapshot.total_bytes, sent_bytes=sent),
            count,
            "" if is_finished else format_rate(estimator.bytes_per_second),
            "done" if is_finished else f"{remaining} left" if is_wide and remaining else remaining,
        )

    # Layout

    @property
    def _is_wide(self) -> bool:
        return self._console.width >= _WIDE_COLUMNS

    @property
    def _width(self) -> int:
        """The width of a line. After a full line, the ``^Z`` that the terminal echoes would begin another one."""
        return max(1, self._console.width - _ECHO_COLUMNS)

    def _lines(self, rows: list[_RowText]) -> Iterable[Text]:
        width = self._width
        gap = 2 if self._is_wide else 1
        longest = max((cell_width(row.name) for row in rows), default=0)
        name_width = min(longest, max(_MIN_NAME_COLUMNS, self._console.width // 5))
        columns = self._columns_that_fit(rows, width - name_width - gap - _MIN_BAR_COLUMNS, gap)
        used = sum(self._widths[column] + gap for column in columns)
        bar_width = min(max(1, width - name_width - gap - used), _MAX_BAR_COLUMNS)
        for row in rows:
            line = Text(pad(shorten(row.name, name_width), name_width) + " " * gap, no_wrap=True, overflow="crop")
            line.append_text(self._bar(row.filled, bar_width))
            for column in columns:
                line.append(" " * gap + row.columns[column].rjust(self._widths[column]))
            yield line
            yield from map(self._note, row.notes)

    def _columns_that_fit(self, rows: list[_RowText], available: int, gap: int) -> list[int]:
        """The indices of the columns that fit. Columns never become narrower, so that nothing jitters."""
        for row in rows:
            for column, text in enumerate(row.columns):
                self._widths[column] = max(self._widths.get(column, 0), len(text))
        fitting = [column for column, width in sorted(self._widths.items()) if width]
        for column in _DROP_ORDER:
            if sum(self._widths[each] + gap for each in fitting) > available and column in fitting:
                fitting.remove(column)
        return fitting

    def _bar(self, filled: tuple[float, float] | None, width: int) -> Text:
        shapes = _UNICODE_SHAPES if self._console.encoding.startswith("utf") else _ASCII_SHAPES
        delivered, sent = (0, 0) if filled is None else (int(share * width) for share in filled)
        bar = Text()
        for kind, count in (
            (_DELIVERED, delivered),
            (_SENT, sent - delivered),
            (_REMAINING, width - sent),
        ):
            bar.append(shapes[kind] * count, _STYLES[kind])
        return bar

    def _note(self, text: str) -> Text:
        return Text(shorten(f"  {text}", self._width), "yellow", no_wrap=True)


def _is_in_background(stream: TextIO) -> bool:
    """Whether another process group uses the terminal, as after ``bg``."""
    try:
        return os.tcgetpgrp(stream.fileno()) != os.getpgrp()
    except OSError:  # it is not the controlling terminal
        return False


def _worker_row(worker: WorkerProgress, now: float) -> _RowText:
    status = worker.status
    if status is None:
        return _RowText(worker.name, None, ("",) * len(_DROP_ORDER))
    worker.estimator.update(now, status.delivered_bytes, remaining_bytes=None)
    uploads, parts = status.uploads, status.parts_in_flight
    count = f"{uploads} file{'' if uploads == 1 else 's'}, {parts} part{'' if parts == 1 else 's'}"
    rate = format_rate(worker.estimator.bytes_per_second)
    return _RowText(worker.name, None, ("", format_size(status.delivered_bytes), count, rate, ""))


def _encoding_row(encoding: EncodingProgress) -> _RowText:
    share = encoding.encoded / encoding.qualities if encoding.qualities else 0.0
    count = f"{encoding.encoded}/{encoding.qualities} encoded" if encoding.qualities else "waiting"
    columns = ("", "", count, "", "")
    return _RowText(row_title(encoding.name), (share, share), columns, (", ".join(encoding.states),))


def _filled_shares(snapshot: ProgressSnapshot) -> tuple[float, float] | None:
    if not snapshot.total_bytes:
        return None
    return snapshot.delivered_bytes / snapshot.total_bytes, snapshot.sent_bytes / snapshot.total_bytes


def _rows_that_fit(rows: list[_RowText], height: int) -> list[_RowText]:
    """The first rows that fit into a height, with their notes."""
    fitting: list[_RowText] = []
    for row in rows:
        height -= 1 + len(row.notes)
        if height < 0:
            break
        fitting.append(row)
    return fitting


class _StreamRedirection:
    """Replaces standard error, and standard output if it is the same terminal, and prints above the bars.

    :param lock: held while a line is printed
    """

    def __init__(self, console: Console, lock: threading.RLock) -> None:
        self._console = console
        self._lock = lock
        self._incomplete_line = ""
        self._streams: dict[str, TextIO] = {"stderr": sys.stderr}
        if sys.stdout.isatty() and os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno()):
            self._streams["stdout"] = sys.stdout
        for name in self._streams:
            with STREAM_LOCKS[name]:
                setattr(sys, name, cast("TextIO", self))

    def close(self) -> None:
        for name, stream in self._streams.items():
            with STREAM_LOCKS[name]:
                setattr(sys, name, stream)

    def write(self, text: str) -> int:
        """Print whole lines above the bars. They are not wrapped: the terminal does that."""
        *lines, self._incomplete_line = (self._incomplete_line + text).split("\n")
        for line in lines:
            with self._lock:
                self._console.print(Text(line), soft_wrap=True)
        return len(text)

    def flush(self) -> None:
        """Do nothing: lines are printed at once."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._streams["stderr"], name)
