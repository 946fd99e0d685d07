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
import sys
from contextlib import suppress
from typing import NoReturn

from ._signals import exit_on_signals

__all__ = ("main",)


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
