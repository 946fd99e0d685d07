"""A terminal that remembers what a person has seen on it."""

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
    """A process at a terminal of its own, its standard output aside if that is a pipe.

    :ivar screens: how the terminal looked, each time that something was written
    :ivar written: all that was, with its escape sequences
    """

    process: subprocess.Popen[bytes]
    descriptor: int
    screen: pyte.Screen
    screens: list[Screen] = field(default_factory=list)
    written: bytes = b""

    def __post_init__(self) -> None:
        self._stream = pyte.ByteStream(self.screen)

    def read(self) -> bool:
        """Wait until something is written; False at the end."""
        try:
            written = os.read(self.descriptor, 100_000)
        except OSError:  # nobody has its other end any more
            return False
        self.written += written
        self._stream.feed(written)
        self.screens.append([line.rstrip() for line in self.screen.display])
        return bool(written)

    def read_until(self, predicate: Callable[[Screen], object]) -> Screen:
        """The first screen from now on for which it holds."""
        while self.read():
            if predicate(self.screens[-1]):
                return self.screens[-1]
        raise AssertionError("never seen; the last screen was:\n" + "\n".join(self.screens[-1]))

    def finish(self) -> int:
        """Read to the end.

        :return: the exit code
        """
        while self.read():
            pass
        return self.process.wait(timeout=30)

    def lines(self, pattern: str) -> list[re.Match[str]]:
        """All lines that were ever seen with this in them."""
        matches = (re.search(pattern, line) for screen in self.screens for line in screen)
        return [match for match in matches if match]

    @property
    def last(self) -> str:
        """The screen in the end."""
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
    """Run a command at a terminal of this size."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = forks.command(
        arguments,
        directory,
        {"TERM": "xterm-256color"} | environment,
        stdin=subprocess.DEVNULL,
        stdout=theirs if stdout is None else stdout,
        stderr=theirs,
    )
    os.close(theirs)
    with process:
        try:
            yield Terminal(process, ours, pyte.Screen(columns, rows))
        finally:
            process.kill()
            os.close(ours)
