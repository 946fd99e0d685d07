"""Fits text into the columns of a terminal: words are never broken, and wide characters take two columns."""

from __future__ import annotations

import os
import re
import unicodedata
from typing import Final, TextIO

_INDENT: Final = "  "
_WORDS: Final = re.compile(r"\s*\S+")


def columns_of(stream: TextIO) -> int:
    """The width of a terminal; 0 if it is unknown, or if the stream is no terminal."""
    try:
        return os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    except (OSError, ValueError):
        return 0


def printable(text: object) -> str:
    """Escape control characters and lone surrogates: the result is one line that is safe for a terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(text))


def cell_width(text: str) -> int:
    """How many columns a text takes on a terminal."""
    return len(text) if text.isascii() else sum(map(_char_width, text))


def _char_width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def wrap(text: str, columns: int) -> str:
    """Break lines between words. A word that is longer than a line stays whole, so that addresses can be copied.

    :param columns: the width of the terminal; 0 for no limit
    """
    if not columns or cell_width(text) <= columns:
        return text
    return "\n".join(_wrap_line(line, columns) for line in text.split("\n"))


def _wrap_line(text: str, columns: int) -> str:
    lines = [""]
    for word in _WORDS.findall(text):
        if lines[-1].strip() and cell_width(lines[-1] + word) > columns:
            lines.append(_INDENT + word.strip())
        else:
            lines[-1] += word
    return "\n".join(lines)


def shorten(text: str, columns: int) -> str:
    """Replace the middle of a text that is too wide with an ellipsis."""
    if cell_width(text) <= columns:
        return text
    start, end = "", ""
    for char in text:
        if cell_width(start + char) > (columns - 1) // 2:
            break
        start += char
    for char in reversed(text):
        if cell_width(start + char + end) > columns - 1:
            break
        end = char + end
    return f"{start}…{end}"


def pad(text: str, columns: int) -> str:
    """Fill a text with spaces up to a width."""
    return text + " " * (columns - cell_width(text))
