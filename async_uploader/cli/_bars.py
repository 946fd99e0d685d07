"""Progress on a terminal: a row a file and one for the whole, as many as fit.

A bar shows two things: what the service has (thick), and what has been sent but not been acknowledged yet (thin).
The shapes differ as well as the colours, for terminals that have none.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from rich.cells import cell_len, chop_cells
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from . import _words
from ._display import Display, EncodingDisplay, FileDisplay, Row, Standing, title
from ._output import TAKING_TURNS
from ._pace import Pace

if TYPE_CHECKING:
    from typing import TextIO

_INTERVAL_SECONDS: Final = 0.15
# The row of a file that is through stays so long, unless another one takes its place: rows do not jump about.
_LINGER_SECONDS: Final = 1.0
_WIDE_COLUMNS: Final = 110
_MIN_BAR_COLUMNS: Final = 8
_MAX_BAR_COLUMNS: Final = 60
_ACKNOWLEDGED, _SENT, _REST = range(3)
_STYLES: Final = ("green", "bright_cyan", "bright_black")
_SHAPES: Final = ("━─·", "#=.")


class Cells(NamedTuple):
    """What a row says: ``left`` of its bar, ``right`` of it in columns; those come last that go first."""

    name: str
    filled: tuple[float, float] | None
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Bars:
    """Draws everything at the bottom of the terminal; what others write meanwhile goes above it."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._console = Console(file=sys.stderr)
        self._widths: dict[int, int] = {}
        self._rows: list[Row] = []
        self._above = _Above(self._console)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
            get_renderable=self._frame,
        )
        self._live.start()
        # Not hidden: whatever ends this process, the terminal is left as it should be.
        self._console.show_cursor(True)

    def paint(self) -> float:
        """Draw them as they are now."""
        self._live.refresh()
        return _INTERVAL_SECONDS

    def close(self) -> None:
        """Take them away."""
        self._live.stop()
        # Only then: a line that comes meanwhile must not get below the bars.
        self._above.close()

    def _frame(self) -> Group:
        now = time.monotonic()
        rows = [self._cells(row, now) for row in self._choose_rows(now)]
        height = self._console.height - 1
        below = self._whole(now) if self._display.count > 1 else []
        notes = list(filter(None, [_words.rate_limit(self._display.limited_until, now)]))
        room = max(1, height - len(below) - len(notes))
        fitting = _fitting(rows, room)
        if len(fitting) < len(rows):
            fitting = _fitting(rows, room - 1)
            notes.insert(0, f"and {len(rows) - len(fitting)} more")
        return Group(*self._lines([*fitting, *below]), *(self._note(note) for note in notes))

    def _choose_rows(self, now: float) -> list[Row]:
        """Those that are shown already keep their places; a new one takes that of one that is through."""
        active = list(self._display.rows)
        new = iter([row for row in active if row not in self._rows])
        shown: list[Row] = []
        for row in self._rows:
            following = next(new, None) if row.ended_at is not None else None
            if following is not None:
                shown.append(following)
            elif row.ended_at is None or now - row.ended_at < _LINGER_SECONDS:
                shown.append(row)
        self._rows = [*shown, *new]
        return self._rows

    def _cells(self, row: Row, now: float) -> Cells:
        return _cells_of_encoding(row) if isinstance(row, EncodingDisplay) else self._cells_of_file(row, now)

    def _cells_of_file(self, file: FileDisplay, now: float) -> Cells:
        standing = file.standing()
        if file.ended_at is None:
            file.pace.update(now, file.new_bytes(), left_bytes=standing.left_bytes)
        notes = tuple(filter(None, [_words.again(file.waits, now)]))
        done = f"{standing.done}/{'?' if standing.count is None else standing.count} parts"
        columns = self._columns(standing, file.pace, done, is_over=file.is_uploaded)
        return Cells(title(file.name), _filled(standing), columns, notes)

    def _whole(self, now: float) -> list[Cells]:
        standing, pace = self._display.standing(), self._display.pace
        pace.update(now, self._display.new_bytes(), left_bytes=standing.left_bytes)
        done = f"{standing.done}/{standing.count} files"
        return [Cells("all", _filled(standing), self._columns(standing, pace, done))]

    def _columns(self, standing: Standing, pace: Pace, done: str, *, is_over: bool = False) -> tuple[str, ...]:
        is_wide = self._console.width >= _WIDE_COLUMNS
        sent = standing.sent_bytes if is_wide else None
        time_left = _words.left(pace.left_seconds)
        return (
            _words.percent(standing.acknowledged_bytes, standing.total_bytes) if is_wide else "",
            _words.amount(standing.acknowledged_bytes, standing.total_bytes, sent_bytes=sent),
            done,
            "" if is_over else _words.rate(pace.bytes_per_second),
            "done" if is_over else f"{time_left} left" if is_wide and time_left else time_left,
        )

    def _lines(self, rows: list[Cells]) -> Iterable[Text]:
        width = self._console.width
        gap = 2 if width >= _WIDE_COLUMNS else 1
        name_width = min(max((cell_len(row.name) for row in rows), default=0), max(12, width // 5))
        columns = self._fitting_columns(rows, width - name_width - gap - _MIN_BAR_COLUMNS, gap)
        used = sum(self._widths[column] + gap for column in columns)
        bar_width = min(max(1, width - name_width - gap - used), _MAX_BAR_COLUMNS)
        for row in rows:
            line = Text(_fit(row.name, name_width) + " " * gap, no_wrap=True, overflow="crop")
            line.append_text(self._bar(row.filled, bar_width))
            for column in columns:
                line.append(" " * gap + row.columns[column].rjust(self._widths[column]))
            yield line
            yield from map(self._note, row.notes)

    def _fitting_columns(self, rows: list[Cells], room: int, gap: int) -> list[int]:
        """Which columns there is room for; they never become narrower, so that nothing trembles."""
        for row in rows:
            for column, text in enumerate(row.columns):
                self._widths[column] = max(self._widths.get(column, 0), len(text))
        fitting = [column for column, width in sorted(self._widths.items()) if width]
        for least_needed in (2, 1, 3, 4, 0):
            if sum(self._widths[column] + gap for column in fitting) > room and least_needed in fitting:
                fitting.remove(least_needed)
        return fitting

    def _bar(self, filled: tuple[float, float] | None, width: int) -> Text:
        shapes = _SHAPES[0] if self._console.encoding.startswith("utf") else _SHAPES[1]
        thick, both = (0, 0) if filled is None else (int(share * width) for share in filled)
        bar = Text()
        for kind, count in ((_ACKNOWLEDGED, thick), (_SENT, both - thick), (_REST, width - both)):
            bar.append(shapes[kind] * count, _STYLES[kind])
        return bar

    def _note(self, text: str) -> Text:
        return Text(_fit(f"  {text}", self._console.width).rstrip(), "yellow", no_wrap=True)


def _cells_of_encoding(encoding: EncodingDisplay) -> Cells:
    share = encoding.encoded / encoding.qualities if encoding.qualities else 0.0
    done = f"{encoding.encoded}/{encoding.qualities} encoded" if encoding.qualities else "waiting"
    return Cells(title(encoding.name), (share, share), ("", "", done, "", ""), (", ".join(encoding.news),))


def _filled(standing: Standing) -> tuple[float, float] | None:
    if not standing.total_bytes:
        return None
    return standing.acknowledged_bytes / standing.total_bytes, standing.sent_bytes / standing.total_bytes


def _fitting(rows: list[Cells], height: int) -> list[Cells]:
    """The first ones, with their notes."""
    fitting: list[Cells] = []
    for row in rows:
        height -= 1 + len(row.notes)
        if height < 0:
            break
        fitting.append(row)
    return fitting


def _fit(text: str, width: int) -> str:
    """Text in exactly so many columns; too long a one loses its middle."""
    if cell_len(text) > width:
        start, end = chop_cells(text, (width - 1) // 2)[0], ""
        for char in reversed(text):
            if cell_len(start) + 1 + cell_len(end) + cell_len(char) > width:
                break
            end = char + end
        text = f"{start}…{end}"
    return text + " " * (width - cell_len(text))


class _Above:
    """Takes the place of standard error, and of standard output if it is the same terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rest = ""
        self._streams: dict[str, TextIO] = {"stderr": sys.stderr}
        if sys.stdout.isatty() and os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno()):
            self._streams["stdout"] = sys.stdout
        for name in self._streams:
            with TAKING_TURNS[name]:
                setattr(sys, name, cast("TextIO", self))

    def close(self) -> None:
        for name, stream in self._streams.items():
            with TAKING_TURNS[name]:
                setattr(sys, name, stream)

    def write(self, text: str) -> int:
        """Whole lines go above the bars, as they are: a terminal wraps them better than we could."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._console.print(Text(line), soft_wrap=True)
        return len(text)

    def flush(self) -> None:
        """Whole lines are there already."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._streams["stderr"], name)
