"""How Ctrl-C, SIGTERM and SIGHUP end the process. Loaded first: imports nothing slow."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

from ._text import columns_of, wrap

#: The signals that interrupt a command. Under nohup, SIGHUP stays ignored.
SIGNALS: Final = tuple(
    number
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
)
#: The advice before an upload has sent its first request.
NOTHING_CREATED: Final = "Nothing was created yet."
_PREFIX: Final = "Interrupted."
#: Called before the process exits without unwinding the stack.
EXIT_HOOKS: Final[list[Callable[[], object]]] = []


def exit_on_signals() -> None:
    """Let signals end the process at once, for as long as there is nothing to unwind.

    A KeyboardInterrupt would not do: Python may end the process by the signal even if it is caught.
    """
    for number in SIGNALS:
        signal.signal(number, lambda *_: exit_interrupted())


# Kept up to date in advance, because a signal may arrive while anything is half done.
_advice = b""


def set_interrupt_advice(text: str) -> None:
    """Set what an interruption prints after ``Interrupted.`` from now on.

    :param text: whole sentences; empty for none
    """
    global _advice  # noqa: PLW0603 - a signal handler has no other way to get it
    lines = wrap(f"{_PREFIX} {text}".rstrip(), columns_of(sys.stderr))
    _advice = lines.removeprefix(_PREFIX).encode(errors="backslashreplace")


def exit_interrupted() -> NoReturn:
    """Print the advice and end the process, whatever else it is doing."""
    for hook in EXIT_HOOKS:
        with suppress(Exception):
            hook()
    with suppress(OSError):
        os.write(2, _PREFIX.encode() + _advice + b"\n")
    os._exit(130)
