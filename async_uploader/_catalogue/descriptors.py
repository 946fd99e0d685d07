"""The standard file descriptors 0, 1 and 2, which a shell may have closed. Loaded first: imports nothing slow."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

# Linux stops at 40 links, too.
_MAX_LINKS: Final = 40
_NAMES: Final = ("standard input", "standard output", "standard error")

_closed: set[int] = set()


def reserve_standard_descriptors() -> None:
    """Open a placeholder for each standard stream that is closed.

    Otherwise the next file that is opened would get its number, and messages for standard error could be written
    to the journal. Reading the placeholder of standard input fails, and so does writing to that of
    standard output.
    """
    for number, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, mode)  # gets the lowest free number, which is this one
                _closed.add(number)


def closed_stream(path: Path) -> str | None:
    """The name of the closed standard stream that a path such as ``/dev/stdout`` leads to; None if to none.

    The placeholder cannot be recognized once it is opened: it is ``/dev/null``, a valid place to write to.
    """
    number = _descriptor_of(path) if _closed else None
    return _NAMES[number] if number in _closed and number is not None else None


def _descriptor_of(path: Path) -> int | None:
    directories = {os.path.realpath(directory) for directory in ("/dev/fd", "/proc/self/fd")}
    for _ in range(_MAX_LINKS):
        if os.path.realpath(path.parent) in directories and path.name.isdecimal():
            return int(path.name)
        if not path.is_symlink():
            break
        path = path.parent / os.readlink(path)
    return None
