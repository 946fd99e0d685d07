"""The progress display: on terminals of any size, and in a log."""

from __future__ import annotations

import io
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyte
import pytest
from rich.live import Live
from wcwidth import wcswidth

from async_uploader.cli._bar_renderer import BarRenderer, _RowText
from async_uploader.cli._display import Display
from async_uploader.cli._estimator import ProgressEstimator
from async_uploader.cli._rendering import render_progress
from async_uploader.emulator import Fault
from harness.forking import Forks
from harness.service import KEY, Service
from harness.terminal import Terminal, at_terminal

from .conftest import MIB, StartCli

MakeFile = Callable[..., Path]
StartService = Callable[..., AbstractContextManager[Service]]


@pytest.fixture
def upload_at(
    forks: Forks, start_service: StartService, tmp_path: Path
) -> Callable[..., AbstractContextManager[Terminal]]:
    """Upload sources in a terminal to an emulator with these faults and settings."""

    @contextmanager
    def upload(
        *sources: object,
        faults: tuple[str, ...] = (),
        settings: dict[str, object] | None = None,
        **terminal: object,
    ) -> Iterator[Terminal]:
        with start_service(faults=[Fault.parse(fault) for fault in faults], **(settings or {})) as service:
            names = [each.name if isinstance(each, Path) else each for each in sources]
            arguments = ("upload", "--no-resume", *names)
            where = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
            with at_terminal(forks, arguments, tmp_path, **where, **terminal) as seen:  # type: ignore[arg-type]
                yield seen

    return upload


UploadAt = Callable[..., AbstractContextManager[Terminal]]
BAR = r"(?P<stored>━*)(?P<sent>─*)·*"


@pytest.mark.parametrize(
    ("columns", "figures"),
    [
        (80, r" (?P<done>[\d.]+) of 20\.0 MiB \d/4 parts +([\d.]+ MiB/s)?( \d:\d\d)?$"),
        (
            200,
            r"  +\d+ %  +sent \S+, delivered (?P<done>\S+) of 20\.0 MiB  \d/4 parts +(\S+ MiB/s)?(  \S+ left)?$",
        ),
    ],
)
def test_a_row_for_a_file(upload_at: UploadAt, make_file: MakeFile, columns: int, figures: str) -> None:
    """One bar for sent and acknowledged bytes; throughput, remaining time, parts; as wide as the terminal."""
    path = make_file("movie.mp4", 20 * MIB)
    options = (path, "--part-size=5MiB", "--concurrency=1")
    with upload_at(*options, settings={"link_rate": 8_000_000}, columns=columns) as seen:
        assert seen.finish() == 0
    rows = seen.lines(rf"^movie\.mp4 +{BAR}{figures}")
    assert rows
    assert any(row["sent"] and row["stored"] for row in rows)
    assert any(re.search(r"MiB/s +\d:\d\d", row[0]) for row in rows)
    for row in rows:
        share = float(row["done"]) / 20
        assert len(row["stored"]) <= share * len(row["stored"] + row["sent"] + row[0].count("·") * " ") + 1
    assert not seen.lines("files|0:00| 100 %.*left")
    assert "movie.mp4: uploaded 20 MiB, 4 parts, in " in seen.last.replace("\n", " ")
    assert not re.search("[━·]", seen.last)
    assert seen.written.count(b"\x1b[32m") >= 1  # in colour


def test_rows_for_files_and_their_total(upload_at: UploadAt, make_file: MakeFile) -> None:
    """A row for each active upload, and one for the total."""
    paths = [make_file(f"{number}.mp4", number * 5 * MIB) for number in (1, 2, 3)]
    # One part each, of which the shortest ends first.
    with upload_at(*paths, "--part-size=20MiB", settings={"link_rate": 10_000_000}) as seen:
        assert seen.finish() == 0
    totals = seen.lines(rf"^all +{BAR} +([\d.]+) of 30\.0 MiB +(\d)/3 files")
    assert len({int(row[4]) for row in totals}) > 1
    assert max(float(row[3]) for row in totals) <= 30
    assert all(seen.lines(rf"^{number}\.mp4 +{BAR} +[\d.]+ of +{number * 5}\.0 MiB") for number in (1, 2, 3))


@pytest.mark.parametrize("rows", [24, 8])
def test_many_files_fit(upload_at: UploadAt, make_file: MakeFile, rows: int) -> None:
    """There are never more rows than the terminal has, and the total is always the last."""
    paths = [make_file(f"{number}.mp4", 1000) for number in range(30)]
    settings = {"rate_limit": 15, "rate_window": 2.0}
    with upload_at(*paths, settings=settings, rows=rows) as seen:
        assert seen.finish() == 0
    drawn = [screen for screen in seen.screens if any("/30 files" in line for line in screen)]
    assert drawn
    for screen in drawn:
        assert sum("/30 files" in line for line in screen) == 1
        below = [line for line in screen if line.startswith(("all ", "  and "))]
        assert below[0].startswith("all ")
    if rows < 16:
        assert seen.lines(r"^  and \d+ more$")
    assert seen.last.endswith("30 of 30 uploaded")


def test_retries_are_reported(upload_at: UploadAt, make_file: MakeFile) -> None:
    """A message with the reason above the rows, and a countdown below the file's row."""
    path = make_file("movie.mp4", 15 * MIB)
    faults = ("part=2,attempt=1:status=503,retry-after=2",)
    with upload_at(path, "--part-size=5MiB", faults=faults, columns=120) as seen:
        assert seen.finish() == 0
    assert seen.lines(r"^warning: movie\.mp4, part 2: The service responded with 503: .* Retrying in [\d.]+ s\.$")
    assert seen.lines(r"^  part 2 failed; retrying in [12] s$")
    assert "; 1 retry" in seen.last


def test_waiting_for_the_rate_limit(upload_at: UploadAt, make_file: MakeFile) -> None:
    """One message above the rows, and a countdown below them."""
    path = make_file("movie.mp4", 20 * MIB)
    settings = {"rate_limit": 2, "rate_window": 3.0}
    with upload_at(path, "--part-size=5MiB", settings=settings) as seen:
        assert seen.finish() == 0
    assert seen.lines(r"^  rate limit reached; waiting \d s$")
    messages = [
        line for line in seen.screens[-1] if line.startswith("Rate limit of the account reached; waiting ")
    ]
    assert len(messages) == 1


def test_names_cannot_break_a_row(upload_at: UploadAt, make_file: MakeFile) -> None:
    """Wide characters take two columns, control characters are escaped, long names lose their middle."""
    names = ["映画" * 20 + ".mp4", "tab\there\x1b[31m.mp4", "a name that is far too long for its column.mp4"]
    paths = [make_file(name, 2 * MIB) for name in names]
    with upload_at(*paths, settings={"link_rate": 6_000_000}) as seen:
        assert seen.finish() == 0
    rows = [line for screen in seen.screens for line in screen if " of 2.0 MiB " in line]
    assert all(wcswidth(row.replace("\0", "")) <= 80 for row in rows)
    for start in (r"映画映…映画\.mp4 ", r"tab\\the…\[31m\.mp4 ", r"a name …lumn\.mp4 "):
        assert any(re.match(start, row) for row in rows), rows[-3:]
    assert b"\x1b[31m" not in seen.written


@pytest.mark.parametrize("columns", [30, 50])
def test_narrow_terminals(upload_at: UploadAt, make_file: MakeFile, columns: int) -> None:
    """Columns that do not fit are dropped, so that each file has one row."""
    path = make_file("movie.mp4", 5 * MIB)
    with upload_at(path, settings={"link_rate": 6_000_000}, columns=columns) as seen:
        assert seen.finish() == 0
    assert seen.lines(rf"^movie\.mp4 +{BAR}")
    assert all(sum("movie.mp4 " in line for line in screen) <= 1 for screen in seen.screens[:-3])


def test_no_colour(upload_at: UploadAt, make_file: MakeFile) -> None:
    """With NO_COLOR, bars have no colours; their shapes still differ."""
    path = make_file("movie.mp4", 5 * MIB)
    with upload_at(path, settings={"link_rate": 6_000_000}, NO_COLOR="1") as seen:
        assert seen.finish() == 0
    assert seen.lines(rf"^movie\.mp4 +{BAR}")
    assert not re.search(rb"\x1b\[[0-9;]*3[0-9]", seen.written)


def test_a_dumb_terminal_has_no_bars(upload_at: UploadAt, make_file: MakeFile) -> None:
    """There is no escape sequence and no bar."""
    path = make_file("movie.mp4", 5 * MIB)
    with upload_at(path, settings={"link_rate": 6_000_000}, TERM="dumb") as seen:
        assert seen.finish() == 0
    assert b"\x1b" not in seen.written
    assert "movie.mp4: uploaded 5 MiB" in seen.last


def test_ascii_terminals(upload_at: UploadAt, make_file: MakeFile) -> None:
    """Bars have ASCII characters only."""
    path = make_file("movie.mp4", 5 * MIB)
    with upload_at(path, settings={"link_rate": 6_000_000}, PYTHONIOENCODING="ascii") as seen:
        assert seen.finish() == 0
    assert seen.lines(r"^movie\.mp4 #*=+\.* ")
    assert seen.written.isascii()


def test_results_stay_on_standard_output(upload_at: UploadAt, make_file: MakeFile) -> None:
    """While bars are drawn, a pipe gets whole lines and nothing else; the terminal gets none of them."""
    paths = [make_file("a.mp4", 5 * MIB), make_file("b.mp4", 1000)]
    with upload_at(*paths, settings={"link_rate": 5_000_000}, stdout=subprocess.PIPE) as seen:
        assert seen.finish() == 0
        assert seen.process.stdout is not None
        lines = seen.process.stdout.read().decode().splitlines()
    assert sorted(line.split()[-1] for line in lines) == [path.name for path in paths]
    assert "/embed/" not in seen.last


def test_the_terminal_is_restored(upload_at: UploadAt, make_file: MakeFile) -> None:
    """After Ctrl-C the cursor is visible and the bars are gone; after a second one at least the cursor is."""
    path = make_file("movie.mp4", 100 * MIB, sparse=True)
    for times in (1, 2):
        with upload_at(path, settings={"link_rate": 8_000_000}) as seen:
            seen.read_until(lambda screen: any("movie.mp4 " in line for line in screen))
            for _ in range(times):
                seen.process.send_signal(signal.SIGINT)
            assert seen.finish() == 130
        assert not seen.screen.cursor.hidden
        assert times > 1 or not re.search("[━·]", seen.last)
        # A second signal ends the process before the video is deleted.
        deleted = "Interrupted. The unfinished video was deleted."
        may_remain = "Interrupted. The unfinished video may remain; the service removes it after 7 days."
        # The terminal wraps lines within words.
        last = "".join(seen.last.split())
        is_deleted, may_be_left = (last.endswith("".join(text.split())) for text in (deleted, may_remain))
        assert is_deleted or (times > 1 and may_be_left)


# In a log


def test_a_line_every_few_seconds_in_a_log(
    start_service: StartService, start_cli: StartCli, make_file: MakeFile
) -> None:
    """One line for all uploads; none with --quiet."""
    paths = [make_file("a.mp4", 30 * MIB), make_file("b.mp4", 1000)]
    with start_service(link_rate=9_000_000) as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        silent = start_cli("upload", paths[0], "--quiet", "--no-resume", **settings)
        log = start_cli("upload", *paths, "--no-resume", FORCE_COLOR="1", **settings).communicate(timeout=30)[1]
        quiet = silent.communicate(timeout=30)[1]
    lines = [line for line in log.splitlines() if " files, " in line]
    assert len(lines) == 1
    assert re.fullmatch(r"[01] of 2 files, \d+ %, [\d.]+ of 30\.0 MiB(, [\d.]+ MiB/s, \d:\d\d left)?", lines[0])
    assert quiet == ""
    assert "\x1b" not in log


class _TerminalFile(io.StringIO):
    """A file that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def _replace_stderr(monkeypatch: pytest.MonkeyPatch) -> _TerminalFile:
    """Not a fixture: pytest replaces the stream itself between fixtures and test."""
    for name, value in {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}.items():
        monkeypatch.setenv(name, value)
    stderr = _TerminalFile()
    monkeypatch.setattr(sys, "stderr", stderr)
    return stderr


def test_a_short_upload_has_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would only flash up."""
    stderr = _replace_stderr(monkeypatch)
    display = Display(quiet=False, sizes=(10,))
    assert display.has_bars
    with render_progress(display):
        pass
    assert stderr.getvalue() == ""


def test_a_line_is_printed_while_bars_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that write at the same time leave no second copy of the bars."""
    stderr = _replace_stderr(monkeypatch)
    renderer = BarRenderer(Display(quiet=False, sizes=(1, 2)))
    drawing = threading.Thread(target=renderer.render)
    process_renderables = Live.process_renderables

    def draw_meanwhile(live: Live, renderables: Any) -> Any:
        processed = process_renderables(live, renderables)
        if drawing.ident is None:
            drawing.start()
            drawing.join(0.2)
        return processed

    monkeypatch.setattr(Live, "process_renderables", draw_meanwhile)
    sys.stderr.write("warning: a line\n")
    drawing.join()
    screen = pyte.Screen(80, 24)
    pyte.Stream(screen).feed(stderr.getvalue().replace("\n", "\r\n"))
    renderer.close()
    first, second, *others = (line.rstrip() for line in screen.display)
    assert first == "warning: a line"
    assert second.startswith("all ")
    assert not any(others)


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_columns_stay_where_they_are(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """Rows are aligned with each other and, once the widest values were shown, with later frames."""
    _replace_stderr(monkeypatch)
    monkeypatch.setenv("COLUMNS", str(columns))
    renderer = BarRenderer(Display(quiet=False, sizes=(1, 2)))
    renderer.close()

    def places(*rows: tuple[str, ...]) -> set[tuple[int, ...]]:
        texts = [_RowText("movie.mp4", (0.5, 0.7), row) for row in rows]
        lines = [line.plain for line in renderer._lines(texts)]
        return {(len(line), line.find("MiB"), line.find("parts")) for line in lines}

    wide = ("99 %", "1024 of 1024 MiB", "100/100 parts", "102.4 MiB/s", "1:02:03")
    (expected,) = places(wide)
    short = ("", "1 of 1024 MiB", "0/100 parts", "0.1 MiB/s", "0:01")
    assert places(wide, short) == {expected}
    ((_, size, parts),) = places(short)
    assert (size, parts) == expected[1:]


# The estimator


def test_remaining_time_is_steady() -> None:
    """With irregular throughput it counts down, is nearly right, and hardly ever rises."""
    generator = random.Random(1)
    estimator, sent, estimates = ProgressEstimator(0.0), 0.0, []
    total, rate = 600 * MIB, 10 * MIB
    for tick in range(1, 541):
        now = tick / 10
        sent += generator.choice((0, 0, 1, 3)) * rate / 10
        estimator.update(now, int(sent), remaining_bytes=int(total - sent))
        if now > 8:
            remaining = estimator.remaining_seconds
            assert remaining is not None
            assert abs(remaining - (60 - now)) < 0.3 * (60 - now) + 2
            estimates.append(remaining)
    rises = [after - before for before, after in pairwise(estimates) if after > before]
    assert max(rises, default=0) < 0.5
    assert estimator.bytes_per_second == pytest.approx(rate, rel=0.35)


def test_a_failed_attempt_makes_no_negative_throughput() -> None:
    """The bytes of a failed attempt count for the throughput; the remaining bytes rise."""
    estimator = ProgressEstimator(0.0)
    for tick in range(50):
        sent = tick * MIB if tick != 40 else 0
        estimator.update(tick / 10, sent, remaining_bytes=100 * MIB - sent)
        assert (estimator.bytes_per_second or 0) >= 0
    assert estimator.bytes_per_second == pytest.approx(10 * MIB, rel=1.5)


def test_a_stall_has_no_remaining_time() -> None:
    """Without any progress there is no estimate."""
    estimator = ProgressEstimator(0.0)
    for tick in range(10):
        estimator.update(tick, 0, remaining_bytes=MIB)
    assert estimator.remaining_seconds is None
    assert estimator.bytes_per_second is None
