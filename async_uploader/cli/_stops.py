"""Stops of the process: removes the bars before Ctrl-Z stops it, and excludes stops from rates and times.

A process cannot notice SIGSTOP before it continues. So a timer notes the time four times per second, and a longer
gap before SIGCONT is a stop. A frozen container gets no signal: there, a gap is a stop if it is longer than the
delays of a busy machine.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Final

#: Entered before Ctrl-Z stops the process, and left when it continues.
STOP_CONTEXTS: Final[list[Callable[[], AbstractContextManager[object]]]] = []

_TICK_SECONDS: Final = 0.25
# Shorter stops hardly change a rate.
_MIN_STOP_SECONDS: Final = 1.0
_MAX_DELAY_SECONDS: Final = 5.0


class RunningClock:
    """The monotonic clock, without the time for which the process was stopped.

    :ivar stops: number of stops so far
    """

    def __init__(self) -> None:
        self.stops = 0
        # The time of the last tick, and the length of all stops until then. Assigned together, for other threads.
        self._state: tuple[float | None, float] = (None, 0.0)
        self._is_continued = False

    def seconds(self) -> float:
        """Seconds from any moment on. Called by any thread."""
        now = time.monotonic()
        ticked_at, stopped_seconds = self._state
        if ticked_at is not None:
            # After a stop, this may be called before the next tick.
            now = min(now, ticked_at + _TICK_SECONDS)
        return now - stopped_seconds

    @property
    def may_have_stopped(self) -> bool:
        """Whether the next tick is late, so that it is not known yet whether the process was stopped."""
        ticked_at, _ = self._state
        return ticked_at is not None and time.monotonic() - ticked_at > _MIN_STOP_SECONDS / 2

    def tick(self) -> None:
        """Note the time. Called by the event loop."""
        now, (ticked_at, stopped_seconds) = time.monotonic(), self._state
        gap_seconds = 0.0 if ticked_at is None else now - ticked_at
        if gap_seconds >= (_MIN_STOP_SECONDS if self._is_continued else _MAX_DELAY_SECONDS):
            stopped_seconds += gap_seconds - _TICK_SECONDS
            self.stops += 1
        self._state, self._is_continued = (now, stopped_seconds), False

    def on_continue(self) -> None:
        """The process has received SIGCONT."""
        self._is_continued = True

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Recognise stops during a block in the running event loop."""
        loop = asyncio.get_running_loop()
        timer: asyncio.Handle

        def tick() -> None:
            nonlocal timer
            self.tick()
            timer = loop.call_later(_TICK_SECONDS, tick)

        tick()
        before = signal.signal(signal.SIGCONT, lambda *_: self.on_continue())
        try:
            yield
        finally:
            signal.signal(signal.SIGCONT, before)
            timer.cancel()
            self._state = (None, self._state[1])


CLOCK: Final = RunningClock()


def running_seconds() -> float:
    """The monotonic clock, without the time for which the process was stopped."""
    return CLOCK.seconds()


@contextmanager
def handling_stops() -> Iterator[None]:
    """Handle stops in the running event loop: those of Ctrl-Z, unless SIGTSTP is ignored, and all others."""
    with CLOCK.ticking():
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
    with ExitStack() as stack:
        for context in STOP_CONTEXTS:
            stack.enter_context(context())
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        # To this thread: it stops before the call returns.
        signal.pthread_kill(threading.get_ident(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)
