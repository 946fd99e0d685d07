"""The command line: parses arguments, calls the library, prints results, and sets the exit code.

====  ================================================================================
code  meaning
====  ================================================================================
0     success
1     an upload or another request failed; standard error has one message
2     wrong usage, or a request that cannot succeed; nothing was sent
130   interrupted by Ctrl-C, SIGTERM or SIGHUP (the terminal was closed)
====  ================================================================================

Every command can also be written with the public API. This module imports nothing slow, so that Ctrl-C works from
the start.
"""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from typing import NoReturn

from async_uploader._catalogue.descriptors import reserve_standard_descriptors

from ._signals import exit_on_signals

__all__ = ("main",)


def main() -> NoReturn:
    """Run the command line with the arguments of this process, and end the process."""
    exit_on_signals()
    reserve_standard_descriptors()
    from ._main import run

    _exit(run(sys.argv[1:]))


def _exit(code: int) -> NoReturn:
    """End the process without Python's finalization, which takes a fifth of the time of a short upload."""
    atexit._run_exitfuncs()  # noqa: SLF001 - os._exit() skips them
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the reader has gone, or the stream is closed
            stream.flush()
    os._exit(code)
