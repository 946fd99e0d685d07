"""How Ctrl-C, SIGTERM and SIGHUP end the process. Imports nothing that takes time: it is loaded first."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

#: What ends a command. Under nohup, SIGHUP is ignored, and stays so.
SIGNALS: Final = tuple(
    number
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
)
#: Called before the process ends without unwinding: removes what must not be left behind.
BEFORE_EXIT: Final[list[Callable[[], object]]] = []


def exit_on_signals() -> None:
    """Where there is nothing to unwind, Ctrl-C, SIGTERM and SIGHUP end the process on the spot.

    No KeyboardInterrupt, which Python may turn into a death by the signal even where it is caught.
    """
    for number in SIGNALS:
        signal.signal(number, lambda *_: exit_interrupted())


# What is said on interruption: made beforehand, as a signal may come while anything is half done.
_advice = b""


def advise(text: str) -> None:
    """Have an interruption say what becomes of the command from now on; an empty text says nothing more."""
    global _advice  # noqa: PLW0603 - there is one process, and its end needs no more than this
    _advice = f"; {text}".encode(errors="backslashreplace") if text else b""


def exit_interrupted() -> NoReturn:
    """Say what became of the command, and end, whatever else is going on in this process."""
    for clean_up in BEFORE_EXIT:
        with suppress(Exception):
            clean_up()
    with suppress(OSError):
        os.write(2, b"interrupted" + _advice + b"\n")
    os._exit(130)
