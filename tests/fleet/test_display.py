"""The rows of workers on the terminal."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import cast

import pytest
from rich.console import Console

from async_uploader.cli._bar_renderer import BarRenderer
from async_uploader.cli._display import Display
from async_uploader.cli._log_renderer import LogRenderer
from async_uploader.fleet import Fleet, WorkerStatus

FIRST = WorkerStatus(address="tcp://10.0.0.1:40001", uploads=3, parts_in_flight=5, delivered_bytes=3 << 20)
SECOND = WorkerStatus(address="tcp://10.0.0.2:40001", uploads=1, parts_in_flight=1, delivered_bytes=0)


def display_of(*workers: WorkerStatus) -> tuple[Display, SimpleNamespace]:
    fleet = SimpleNamespace(workers=list(workers))
    display = Display(quiet=False, sizes=[10 << 20] * 4, fleet=cast("Fleet", fleet))
    display.failed = 2
    return display, fleet


def test_a_log_counts_workers_and_parts(capsys: pytest.CaptureFixture[str]) -> None:
    LogRenderer(display_of(FIRST, SECOND)[0]).render()
    assert "0 of 4 files, 2 failed, 2 workers with 6 parts in flight, 0.0 of 40.0 MiB" in capsys.readouterr().err


def test_a_terminal_has_a_row_for_each_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    display, fleet = display_of(FIRST, SECOND)
    renderer = BarRenderer(display)

    def text() -> str:
        console = Console(file=io.StringIO(), width=140, height=20)
        with console.capture() as capture:
            console.print(renderer._frame())
        return capture.get()

    try:
        shown = text()
        assert "10.0.0.1:40001" in shown
        assert "3 files, 5 parts" in shown
        assert "1 file, 1 part\n" in shown
        assert "3 MiB" in shown
        assert "0/4 files, 2 failed" in shown
        fleet.workers.remove(SECOND)
        text()
        assert [row.name for row in display.rows] == ["10.0.0.1:40001"]
        assert not display.is_idle
        for number in range(4):
            display.end_source(number)
        assert display.is_idle
    finally:
        renderer.close()
