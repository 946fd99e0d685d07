"""Output for the user: results go to standard output, everything else to standard error."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import Any, Final, TextIO

from async_uploader._catalogue.os_errors import describe_os_error

from ._hints import hint_for
from ._text import columns_of, printable, wrap

LOGGER: Final = logging.getLogger("async_uploader")

#: Held while a line is written and while bars replace a stream, so that no line is written between bars and the
#: place where they assume the cursor. One for each stream, as a pager may block standard output for any time.
STREAM_LOCKS: Final = {"stdout": threading.RLock(), "stderr": threading.RLock()}

# Two files with a note each, the total, and a line that is printed above. On fewer rows, bars scroll out of the
# terminal, and then they cannot be erased.
_MIN_TERMINAL_ROWS: Final = 8


def _write(name: str, text: str) -> None:
    with STREAM_LOCKS[name]:
        stream = getattr(sys, name)
        stream.write(f"{text}\n")
        stream.flush()


def _write_words(name: str, text: object) -> None:
    """Write a line; on a terminal, several lines if necessary, without breaking a word."""
    _write(name, wrap(printable(text), columns_of(getattr(sys, name))))


# Standard error


def print_message(text: object) -> None:
    """Print a line to standard error. A standard error that cannot be written is no failure."""
    with suppress(OSError):
        _write_words("stderr", text)


def print_error(error: Exception, *, source: str | None = None) -> None:
    """Print the one message of a failure; with ``-vv`` also log its traceback.

    :param source: the source that failed, if there are several
    """
    text = f"{error} {hint_for(error)}".rstrip()
    is_named = source is None or text.startswith(f"{source} ")
    print_message(f"error: {text}" if is_named else f"error: {source}: {text}")
    LOGGER.debug("Traceback of the error:", exc_info=error)


# Standard output


class OutputError(Exception):
    """Standard output cannot be written.

    :param reason: the error of the operating system
    :param advice: what happened to the result, and how to see it; empty if nothing is lost
    """

    def __init__(self, reason: OSError, advice: str = "") -> None:
        super().__init__(f"Cannot write to standard output: {describe_os_error(reason)}. {advice}".rstrip())
        self.reason = reason
        self.advice = advice

    @property
    def needs_message(self) -> bool:
        """Whether to print the error. It is no news to a reader that has read enough, such as ``head``."""
        return bool(self.advice) or not isinstance(self.reason, BrokenPipeError)


@contextmanager
def _output_errors() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise OutputError(exc) from exc


def print_line(line: object) -> None:
    """Print one line of the result.

    :raises OutputError: standard output cannot be written
    """
    with _output_errors():
        _write_words("stdout", line)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines that are laid out for a terminal, and are safe for it.

    :raises OutputError: standard output cannot be written
    """
    with _output_errors():
        _write("stdout", "\n".join(lines))


def print_columns(rows: Sequence[tuple[str, object]]) -> None:
    """Print names and values, with the values aligned.

    :raises OutputError: standard output cannot be written
    """
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print_line(f"{name:<{width}}  {value}")


def print_json(document: Any) -> None:
    """Print the whole result as one JSON document.

    :raises OutputError: standard output cannot be written
    """
    with _output_errors():
        _write("stdout", json.dumps(document, indent=2))


def print_json_array(documents: Iterable[Any]) -> None:
    """Print documents as one JSON array, with only one of them in memory at a time.

    :raises OutputError: standard output cannot be written, or a document cannot be read
    """
    separator = "[\n"
    with _output_errors():
        for document in documents:
            sys.stdout.write(f"{separator}{json.dumps(document, indent=2)}")
            separator = ",\n"
        _write("stdout", "[]" if separator == "[\n" else "\n]")


def format_video(video: Mapping[str, Any], source: str, *, has_link: bool = True) -> str:
    """A finished video as one line: its id, the address of its player, its source.

    :param video: as the service returned it; only its id is certain
    :param has_link: the address works; default: True
    """
    assets = video.get("assets") if has_link else None
    player = assets.get("player") if isinstance(assets, dict) else None
    return f"{video['videoId']}  {player or '-'}  {source}"


# The streams


def set_up_streams() -> None:
    """Replace missing streams, and escape characters that a stream cannot encode.

    Messages to a closed standard error are discarded. Writing to a closed standard output fails.
    """
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - open until the process ends
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_terminal(stream: TextIO) -> bool:
    """Whether a stream is a terminal that interprets escape sequences."""
    return stream.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def has_room_for_bars(stream: TextIO) -> bool:
    """Whether a stream is a terminal that is high enough for bars."""
    if not is_terminal(stream):
        return False
    try:
        rows = os.get_terminal_size(stream.fileno()).lines
    except (OSError, ValueError):
        rows = 0
    return rows == 0 or rows >= _MIN_TERMINAL_ROWS  # 0: unknown


def discard_stdout() -> None:
    """Redirect standard output to the null device, so that the last flush cannot fail."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)  # by its number: while bars are drawn, sys.stdout is replaced
    os.close(devnull)
