"""The command line: arguments in, calls of the library, pictures and exit codes out.

====  ================================================================================
code  meaning
====  ================================================================================
0     done
1     an upload, or another request, failed; one message on standard error
2     wrong usage, or a request that cannot be meant; the network was not touched
130   interrupted by Ctrl-C or SIGTERM
====  ================================================================================

Nothing here does what a caller of the library could not do. This module imports nothing that takes time, so that
Ctrl-C is answered from the first moment on.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

__all__ = ("main",)


def main() -> NoReturn:
    """Run the command line on this process's arguments, and end the process."""
    exit_on_signals()
    from ._main import run

    _end(run(sys.argv[1:]))


def _end(code: int) -> NoReturn:
    """All is closed. What Python would do now, taking all modules apart, is a fifth of a short upload's time."""
    atexit._run_exitfuncs()  # noqa: SLF001 - os._exit() leaves them out
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads any more, or it was closed
            stream.flush()
    os._exit(code)


def exit_on_signals() -> None:
    """Where there is nothing to clean up, Ctrl-C and SIGTERM end the process on the spot.

    No KeyboardInterrupt, which Python may turn into a death by the signal even where it is caught.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: exit_interrupted())


def exit_interrupted() -> NoReturn:
    """Say how to go on, and end, whatever else is going on in this process."""
    is_stream = "-" in sys.argv[1:]
    how = (
        b"what came from standard input has to be sent anew"
        if is_stream
        else b"run the same command again to go on"
    )
    with suppress(OSError):
        os.write(2, b"interrupted; " + how + b"\n")
    os._exit(130)
