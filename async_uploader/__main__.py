"""``python -m async_uploader``."""

import atexit
import os
import sys
from contextlib import suppress

from .cli import main

code = main()
# All is closed. What Python would do now, taking all modules apart, is a fifth of a short upload's time.
atexit._run_exitfuncs()  # noqa: SLF001 - or they would not run
for stream in (sys.stdout, sys.stderr):
    with suppress(OSError, ValueError):  # nobody reads any more, or it was closed
        stream.flush()
os._exit(code)
