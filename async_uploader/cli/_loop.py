"""Runs the coroutine of a command so that Ctrl-C, SIGTERM and SIGHUP end it within a second."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio

from ._signals import SIGNALS, exit_interrupted, exit_on_signals
from ._stops import handling_stops

T = TypeVar("T")

# A thread that hangs in a read cannot be cancelled. After this time the process exits without it.
_GRACE_SECONDS: Final = 0.8


class Interrupted(Exception):
    """A signal cancelled the command, and its cleanup is complete."""


def run_async(work: Callable[[], Awaitable[T]], *, grace_seconds: float = _GRACE_SECONDS) -> T:
    """Run ``work()`` to its end.

    The first signal cancels it. A second signal, or a cleanup that takes too long, ends the process at once.

    :param grace_seconds: time for the cleanup after the first signal; default: 0.8
    :raises Interrupted: a signal cancelled it
    """
    results: list[T] = []

    async def run_cancellable() -> None:
        with anyio.CancelScope() as scope:
            _cancel_on_signals(scope, grace_seconds)
            with handling_stops():
                results.append(await work())

    try:
        anyio.run(run_cancellable)
    finally:
        exit_on_signals()
    if not results:
        raise Interrupted
    return results[0]


def _cancel_on_signals(scope: anyio.CancelScope, grace_seconds: float) -> None:
    loop = asyncio.get_running_loop()

    def cancel(*_: object) -> None:
        exit_on_signals()
        deadline = threading.Timer(grace_seconds, exit_interrupted)
        deadline.daemon = True
        deadline.start()
        loop.call_soon_threadsafe(scope.cancel)

    for number in SIGNALS:
        signal.signal(number, cancel)
