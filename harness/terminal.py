"""A terminal that records every screen that a user would have seen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyte

from .forking import Forks

Screen = Sequence[str]


@dataclass
class Terminal:
    """A process and its terminal. Standard output may be a pipe.

    :ivar screens: the screen after each write
    :ivar written: all output, with escape sequences
    """

    process: subprocess.Popen[bytes]
    descriptor: int
    screen: pyte.Screen
    screens: list[Screen] = field(default_factory=list)
    written: bytes = b""

    def __post_init__(self) -> None:
        self._stream = pyte.ByteStream(self.screen)

    def read(self) -> bool:
        """Wait for output; False at the end."""
        try:
            written = os.read(self.descriptor, 100_000)
        except OSError:  # the other end is closed
            return False
        self.written += written
        self._stream.feed(written)
        self.screens.append([line.rstrip() for line in self.screen.display])
        return bool(written)

    def read_until(self, predicate: Callable[[Screen], object]) -> Screen:
        """Read until a predicate is true for the screen, and return that screen."""
        while self.read():
            if predicate(self.screens[-1]):
                return self.screens[-1]
        raise AssertionError("no such screen; the last one was:\n" + "\n".join(self.screens[-1]))

    def finish(self) -> int:
        """Read until the process ends.

        :returns: the exit code
        """
        while self.read():
            pass
        return self.process.wait(timeout=30)

    def lines(self, pattern: str) -> list[re.Match[str]]:
        """The matches of a pattern in all lines of all recorded screens."""
        matches = (re.search(pattern, line) for screen in self.screens for line in screen)
        return [match for match in matches if match]

    @property
    def last(self) -> str:
        """The last screen as text."""
        return "\n".join(self.screens[-1]).rstrip()


@contextmanager
def at_terminal(
    forks: Forks,
    arguments: Sequence[object],
    directory: Path,
    *,
    columns: int = 80,
    rows: int = 24,
    stdout: int | None = None,
    **environment: str,
) -> Iterator[Terminal]:
    """Run a command in a terminal of the given size."""
    near_end, far_end = pty.openpty()
    fcntl.ioctl(far_end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = forks.command(
        arguments,
        directory,
        {"TERM": "xterm-256color"} | environment,
        stdin=subprocess.DEVNULL,
        stdout=far_end if stdout is None else stdout,
        stderr=far_end,
    )
    os.close(far_end)
    with process:
        try:
            yield Terminal(process, near_end, pyte.Screen(columns, rows))
        finally:
            process.kill()
            os.close(near_end)
