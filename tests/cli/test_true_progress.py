"""Displayed throughput and remaining time against recorded uploads on links of known rates."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from async_uploader import Progress
from async_uploader.cli._display import Display
from async_uploader.cli._estimator import ProgressEstimator
from async_uploader.cli._format import format_percent
from async_uploader.cli._log_renderer import LogRenderer
from harness.service import KEY, Service

from .conftest import MIB, StartCli
from .test_upload import MakeFile

StartService = Callable[..., AbstractContextManager[Service]]

# Each file has the true rate, and samples of (seconds, sent, delivered, acknowledged bytes) of all files together:
# an upload of 1 or 30 files to an emulator with `--link-rate`, as `on_progress` reported it.
RECORDINGS = sorted((Path(__file__).parent / "recordings").glob("*.json"))


def _load(path: Path) -> tuple[int, int, list[tuple[float, int, int, int]]]:
    recording = json.loads(path.read_text())
    return recording["rate_bytes"], recording["total_bytes"], recording["samples"]


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("interval_seconds", [0.15, 5.0], ids=["bars", "log"])
def test_rate_and_remaining_time(path: Path, interval_seconds: float) -> None:
    """From 3 s on, the rate is within 15 % of the truth, and the remaining time within 20 %."""
    rate, total, samples = _load(path)
    estimator, reads_at, checked = ProgressEstimator(0.0), interval_seconds, 0
    for now, _, delivered, _ in samples:
        estimator.sample(now, delivered)
        if now < reads_at:
            continue
        reads_at = now + interval_seconds
        estimator.update(now, delivered, remaining_bytes=total - delivered)
        if now >= 3:
            checked += 1
            assert estimator.bytes_per_second == pytest.approx(rate, rel=0.15)
            assert estimator.remaining_seconds == pytest.approx((total - delivered) / rate, rel=0.2)
    assert checked


def test_the_recordings_need_the_kernels_count() -> None:
    """Neither sent nor acknowledged bytes would do: the test above can fail."""
    rate, _, samples = _load(RECORDINGS[0])
    for column in (1, 3):
        estimator = ProgressEstimator(0.0)
        for sample in samples:
            estimator.update(sample[0], int(sample[column]), remaining_bytes=None)
        assert (estimator.bytes_per_second or 0) != pytest.approx(rate, rel=0.15)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The clock of the display; set ``now``."""

    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr("async_uploader.cli._stops.time", clock)
    return clock


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_a_healthy_upload_never_shows_zero(path: Path, clock: Any) -> None:
    """Neither 0 % nor 0.0 KiB/s, at any moment; and never the whole before it is confirmed."""
    _, total, samples = _load(path)
    display = Display(quiet=True, sizes=(total, 0))
    file, renderer = display.add_file(0, "movie.mp4"), LogRenderer(display)
    for clock.now, sent, delivered, acknowledged in samples:
        file.on_progress(
            Progress(
                sent_bytes=sent,
                delivered_bytes=delivered,
                acknowledged_bytes=acknowledged,
                total_bytes=total,
                parts_done=0,
                parts_total=9,
            )
        )
        line = renderer._line(clock.now)
        assert not re.search(r"(?<![\d.])0 %|100 %|(?<!\d)0\.0 .iB/s", line), line


def test_percent() -> None:
    assert format_percent(0, 100, is_complete=False) == ""
    assert format_percent(1, 1000, is_complete=False) == "<1 %"
    assert format_percent(1000, 1000, is_complete=False) == "99 %"
    assert format_percent(1000, 1000, is_complete=True) == "100 %"


def test_many_small_files_on_a_slow_line(
    start_service: StartService, start_cli: StartCli, make_file: MakeFile
) -> None:
    """The first line of the log has a rate, and more than nothing."""
    paths = [make_file(f"{number:02}.mp4", MIB) for number in range(30)]
    with start_service(link_rate=MIB) as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        process = start_cli("upload", *paths, "--no-resume", **settings)
        assert process.stderr is not None
        line = next(line for line in process.stderr if " of 30 files, " in line)
        process.kill()
    match = re.fullmatch(r"\d of 30 files, (\d+) %, [\d.]+ of 30\.0 MiB, ([\d.]+) MiB/s, 0:\d\d left\n", line)
    assert match, line
    assert int(match[1]) > 5
    assert float(match[2]) == pytest.approx(1, rel=0.2)
