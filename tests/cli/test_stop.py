"""Ctrl-Z, `fg` and `bg` in a real shell: the terminal is clean meanwhile, and no part is lost."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyte
import pytest

from async_uploader.cli._estimator import ProgressEstimator
from async_uploader.cli._stops import CLOCK, RunningClock
from harness.service import KEY
from harness.terminal import Screen, Terminal

from .conftest import MIB
from .test_upload import MakeFile, StartService

STALL_SECONDS = 1.0
STOP_SECONDS = 1.75
BAR = re.compile("[━─·]{3}")


@contextmanager
def shell(directory: Path, **environment: str) -> Iterator[Terminal]:
    """An interactive bash in a terminal of its own."""
    near_end, far_end = pty.openpty()
    fcntl.ioctl(far_end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    def use_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        cwd=directory,
        env={**os.environ, "TERM": "xterm-256color", "PS1": "READY ", "HISTFILE": "", **environment},
        stdin=far_end,
        stdout=far_end,
        stderr=far_end,
        preexec_fn=use_terminal,  # noqa: PLW1509 - no other thread holds a lock that it needs
    )
    os.close(far_end)
    with process:
        try:
            yield Terminal(process, near_end, pyte.Screen(80, 24))
        finally:
            with_group = os.tcgetpgrp(near_end)
            process.kill()
            if with_group != process.pid:
                os.killpg(with_group, signal.SIGKILL)
            os.close(near_end)


def bars(screen: Screen) -> list[str]:
    return [line for line in screen if BAR.search(line)]


def has(text: str) -> Callable[[Screen], bool]:
    return lambda screen: any(text in line for line in screen)


def test_stop_and_continue(start_service: StartService, make_file: MakeFile, tmp_path: Path) -> None:
    """While it is stopped or in the background, there are no bars; each part is sent once."""
    path = make_file("movie.mp4", 20 * MIB, sparse=True)
    with start_service(connection_rate=2_500_000) as service:
        environment = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        command = f"{shlex.quote(sys.executable)} -m async_uploader upload {path.name} --part-size 10MiB"
        command += f" --concurrency 2 --stall-timeout {STALL_SECONDS}"
        with shell(tmp_path, **environment) as terminal:
            terminal.read_until(has("READY"))
            began_at = time.monotonic()
            os.write(terminal.descriptor, f"clear; {command}\n".encode())
            terminal.read_until(bars)
            os.write(terminal.descriptor, b"\x1a")
            assert not bars(terminal.read_until(has("Stopped")))
            stopped_at = time.monotonic()
            time.sleep(STOP_SECONDS)  # must not count as a stall, nor as duration of the upload
            stopped_seconds = time.monotonic() - stopped_at
            os.write(terminal.descriptor, b"bg\n")
            terminal.read_until(has("&"))
            os.write(terminal.descriptor, b"echo still $((40 + 2))\n")
            assert not bars(terminal.read_until(has("still 42")))
            os.write(terminal.descriptor, b"fg\n")
            terminal.read_until(bars)
            terminal.read_until(has("movie.mp4: uploaded 20"))
            os.write(terminal.descriptor, b"echo code $?\n")
            last = terminal.read_until(has("code 0"))
            assert not has("retr")(last)
            summary = re.search(r"parts, in ([\d.]+) s", " ".join(last))
            assert summary
            assert float(summary[1]) < time.monotonic() - began_at - stopped_seconds + 0.5
            assert b"\x1b[?25l" not in terminal.written.rpartition(b"\x1b[?25h")[2], "the cursor is hidden"
        assert sum(record.endpoint == "upload" for record in service.emulator.requests) == 2


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of the monotonic clock."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("seconds", "is_continued", "excluded"),
    [(3600.0, True, 3599.75), (1.5, True, 1.25), (0.5, True, 0), (3.0, False, 0), (3600.0, False, 3599.75)],
)
def test_the_clock_excludes_stops(now: list[float], seconds: float, is_continued: bool, excluded: float) -> None:
    """Those of Ctrl-Z, SIGSTOP and frozen containers, but not the delays of a busy machine."""
    clock = RunningClock()
    clock.tick()
    now[0] += seconds
    assert clock.seconds() <= 100.25, "a thread asks before the event loop runs"
    assert clock.may_have_stopped == (seconds > 0.5)
    if is_continued:
        clock.on_continue()
    clock.tick()
    assert clock.seconds() == 100 + seconds - excluded
    assert clock.stops == (excluded > 0)
    assert not clock.may_have_stopped
    now[0] += 0.25
    clock.tick()
    assert clock.seconds() == 100.25 + seconds - excluded


def test_an_estimate_starts_over_after_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The buffers that were delivered during the stop, and are filled again after it, count as no throughput."""
    monkeypatch.setattr(CLOCK, "stops", 0)
    estimator, rate, total = ProgressEstimator(0.0), 4 * MIB, 400 * MIB
    delivered = 0.0
    for tick in range(200):
        now = tick / 10
        if tick == 100:
            delivered += 20 * MIB
            # The bytes are counted before it is known that there was a stop.
            with monkeypatch.context() as late:
                late.setattr(RunningClock, "may_have_stopped", True)
                estimator.update(now, int(delivered), remaining_bytes=int(total - delivered))
            CLOCK.stops += 1
        if tick == 105:
            delivered += 8 * MIB
        delivered += rate / 10
        remaining = int(total - delivered)
        estimator.update(now, int(delivered), remaining_bytes=remaining)
        if now > 3:
            assert estimator.bytes_per_second == pytest.approx(rate, rel=0.01)
            assert estimator.remaining_seconds == pytest.approx(remaining / rate, rel=0.05)
