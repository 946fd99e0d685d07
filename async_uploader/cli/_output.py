"""What the user reads: results on standard output, all else on standard error."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from tempfile import TemporaryFile
from typing import Any, Final, Self, TextIO

LOGGER = logging.getLogger("async_uploader")

_TOKEN_IN_URL = re.compile(r"\btoken=[^&\s'\"]+")


def printable(text: object) -> str:
    """One line of text that does nothing to a terminal: control characters and lone surrogates are escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(text))


# Held while a line is written, and while bars take a stream's place: no line gets in between bars and where they
# think that they are. One for each, as a pager may stop standard output for as long as it likes.
TAKING_TURNS: Final = {"stdout": threading.RLock(), "stderr": threading.RLock()}


def _write(name: str, text: str) -> None:
    with TAKING_TURNS[name]:
        stream = getattr(sys, name)
        stream.write(f"{text}\n")
        stream.flush()


def say(text: object) -> None:
    """A line for the user, on standard error. That nobody reads it is no reason to fail."""
    with suppress(OSError):
        _write("stderr", printable(text))


def say_error(error: Exception, *, source: str | None = None) -> None:
    """The one plain message of a failure; with ``-vv`` also where it came from."""
    say(f"error: {error}" if source is None else f"error: {source}: {error}")
    LOGGER.debug("it came from here:", exc_info=error)


class OutputError(Exception):
    """Standard output cannot be written.

    :param reason: why
    :param advice: what became of the result, and how to see it; empty if nothing is lost
    """

    def __init__(self, reason: OSError, advice: str = "") -> None:
        super().__init__(f"Standard output cannot be written: {reason.strerror or reason}. {advice}".rstrip())
        self.reason = reason
        self.advice = advice

    @property
    def is_notable(self) -> bool:
        """Whether to say it. A reader that has read enough, as ``head`` does, knows that the rest is missing."""
        return bool(self.advice) or not isinstance(self.reason, BrokenPipeError)


@contextmanager
def _showing() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise OutputError(exc) from exc


def show(line: object) -> None:
    """A line of the result, on standard output.

    :raises OutputError: it cannot be written
    """
    with _showing():
        _write("stdout", printable(line))


def show_json(document: Any) -> None:
    """The whole result as one JSON document, on standard output.

    :raises OutputError: it cannot be written
    """
    with _showing():
        _write("stdout", json.dumps(document, indent=2))


def line_of(video: Mapping[str, Any], source: str) -> str:
    """A finished video in one line: its id, its player, what it was made of.

    :param video: as the service gave it, which may be anything but for its id
    """
    assets = video.get("assets")
    player = assets.get("player") if isinstance(assets, dict) else None
    return f"{video['videoId']}  {player or '-'}  {source}"


class JsonArray:
    """Documents that come in any order, and are shown in that of their numbers; kept on disk meanwhile."""

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 - see __exit__
        self._offsets: dict[int, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()

    def __setitem__(self, number: int, document: Any) -> None:
        self._offsets[number] = self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps(document).encode() + b"\n")

    def __iter__(self) -> Iterator[Any]:
        for number in sorted(self._offsets):
            self._file.seek(self._offsets[number])
            yield json.loads(self._file.readline())

    def show(self) -> None:
        """All of them as one JSON document, on standard output.

        :raises OutputError: it cannot be written
        """
        start = "[\n"
        with _showing():
            for document in self:
                sys.stdout.write(f"{start}{json.dumps(document, indent=2)}")
                start = ",\n"
            _write("stdout", "\n]" if self._offsets else "[]")


def show_columns(rows: Sequence[tuple[str, object]]) -> None:
    """Names and values, the values below each other."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        show(f"{name:<{width}}  {value}")


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to the standard error of the moment, which the progress bar replaces while it is drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        with TAKING_TURNS["stderr"]:
            self.stream = sys.stderr
            super().emit(record)


class _Line(logging.Formatter):
    """``warning: text``, and at DEBUG the time and the logger too."""

    def __init__(self, *, debug: bool) -> None:
        super().__init__("%(asctime)s %(name)s %(level)s%(message)s" if debug else "%(level)s%(message)s")
        self._debug = debug

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """Without the upload token, which aiohttp puts into some of its errors as part of the URL."""
        return _TOKEN_IN_URL.sub("token=(hidden)", super().formatException(ei))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        plain = record.levelno == logging.INFO and not self._debug
        record.level = "" if plain else f"{record.levelname.lower()}: "
        record.message = printable(record.message)
        return super().formatMessage(record)


def set_up_logging(verbosity: int) -> None:
    """Send the package's log to standard error.

    :param verbosity: 0 for warnings, 1 for what happens, 2 for everything; -1 for errors only
    """
    level = (logging.WARNING, logging.INFO, logging.DEBUG, logging.ERROR)[min(verbosity, 2)]
    handler = _Stderr()
    handler.setFormatter(_Line(debug=level == logging.DEBUG))
    LOGGER.addHandler(handler)
    LOGGER.setLevel(level)
    if verbosity >= 0:
        # What it goes on with is news to everybody.
        LOGGER.getChild("resume").setLevel(min(level, logging.INFO))
    LOGGER.propagate = False


def set_up_streams() -> None:
    """Have both, also where the shell has closed one, and never fail on a character.

    What is said to a closed standard error is lost. What is shown on a closed standard output fails.
    """
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for the process's life
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_terminal(stream: TextIO) -> bool:
    """Whether bars can be drawn there."""
    return stream.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def give_up_stdout() -> None:
    """Results cannot be written any more: let the last flush find a place to go."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)  # by its number: while bars are drawn, sys.stdout may be something else
    os.close(devnull)


# Two files with a note each, the row for all, and a line that is printed above: fewer rows scroll bars away, and
# what has scrolled away cannot be erased.
_MIN_TERMINAL_ROWS: Final = 8


def has_room_for_bars(stream: TextIO) -> bool:
    """Whether bars can be drawn on a stream: it is a terminal, and not a very small one."""
    if not is_terminal(stream):
        return False
    try:
        rows = os.get_terminal_size(stream.fileno()).lines
    except (OSError, ValueError):
        rows = 0
    return rows == 0 or rows >= _MIN_TERMINAL_ROWS
