"""The command line: arguments in, calls of the library, pictures and exit codes out.

====  ================================================================================
code  meaning
====  ================================================================================
0     done
1     an upload, or another request, failed; one message on standard error
2     wrong usage, or a request that cannot be meant; the network was not touched
130   interrupted by Ctrl-C, SIGTERM or SIGHUP (the terminal was closed)
====  ================================================================================

Nothing here does what a caller of the library could not do. This module imports nothing that takes time, so that
Ctrl-C is answered from the first moment on.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

__all__ = ("main",)

#: What ends a command. Under nohup, SIGHUP is ignored, and stays so.
SIGNALS: Final = tuple(
    number
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
)
#: Called before the process ends without unwinding: removes what must not be left behind.
BEFORE_EXIT: Final[list[Callable[[], object]]] = []


def main() -> NoReturn:
    """Run the command line on this process's arguments, and end the process."""
    exit_on_signals()
    occupy_descriptors()
    from ._main import run

    _end(run(sys.argv[1:]))


def occupy_descriptors() -> None:
    """Open something in the place of standard streams that are closed.

    Otherwise the next file that is opened would get the number of one of them, and what is meant for standard
    error would be written into the journal or the results. Reading from what takes the place of standard input
    fails, and so does writing to that of standard output.
    """
    for number, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, mode)  # the lowest number that is free, which is this one


def _end(code: int) -> NoReturn:
    """All is closed. What Python would do now, taking all modules apart, is a fifth of a short upload's time."""
    atexit._run_exitfuncs()  # noqa: SLF001 - os._exit() leaves them out
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads any more, or it was closed
            stream.flush()
    os._exit(code)


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
