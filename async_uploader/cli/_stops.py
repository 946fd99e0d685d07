"""Ctrl-Z: removes the bars before the process stops, and excludes the stop from rates and remaining times."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Final

#: Entered before the process stops, and left when it continues.
STOP_CONTEXTS: Final[list[Callable[[], AbstractContextManager[object]]]] = []

_stopped_seconds = 0.0


def running_seconds() -> float:
    """The monotonic clock, without the time for which Ctrl-Z has stopped the process."""
    return time.monotonic() - _stopped_seconds


@contextmanager
def handling_stops() -> Iterator[None]:
    """Handle SIGTSTP in the running event loop, unless it is ignored."""
    if signal.getsignal(signal.SIGTSTP) is signal.SIG_IGN:
        yield
        return
    loop = asyncio.get_running_loop()
    # In a callback: a handler could interrupt the drawing of the bars.
    before = signal.signal(signal.SIGTSTP, lambda *_: loop.call_soon_threadsafe(_stop))
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, before)


def _stop() -> None:
    """Stop the process as the signal does by default, until it continues."""
    global _stopped_seconds  # noqa: PLW0603 - the clock of the process
    with ExitStack() as stack:
        for context in STOP_CONTEXTS:
            stack.enter_context(context())
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        began_at = time.monotonic()
        # To this thread: it stops before the call returns.
        signal.pthread_kill(threading.get_ident(), signal.SIGTSTP)
        _stopped_seconds += time.monotonic() - began_at
        signal.signal(signal.SIGTSTP, handler)
