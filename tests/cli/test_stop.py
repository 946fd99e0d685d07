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

from async_uploader.cli import _stops
from harness.service import KEY
from harness.terminal import Screen, Terminal

from .conftest import MIB
from .test_upload import MakeFile, StartService

STALL_SECONDS = 0.5
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
            os.write(terminal.descriptor, f"clear; {command}\n".encode())
            terminal.read_until(bars)
            os.write(terminal.descriptor, b"\x1a")
            assert not bars(terminal.read_until(has("Stopped")))
            time.sleep(2 * STALL_SECONDS)  # the time that must not count as a stall
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
            assert b"\x1b[?25l" not in terminal.written.rpartition(b"\x1b[?25h")[2], "the cursor is hidden"
        assert sum(record.endpoint == "upload" for record in service.emulator.requests) == 2


def test_the_clock_leaves_out_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour's stop changes neither rates nor remaining times."""
    now = [100.0]
    monkeypatch.setattr(_stops, "_stopped_seconds", 0.0)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(signal, "pthread_kill", lambda *_: now.__setitem__(0, now[0] + 3600))
    _stops._stop()
    assert _stops.running_seconds() == 100.0
    now[0] += 5
    assert _stops.running_seconds() == 105.0
