"""Runs a command's coroutine so that Ctrl-C, SIGTERM and SIGHUP end it within a second, whatever it is doing."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio

from ._signals import SIGNALS, exit_interrupted, exit_on_signals

T = TypeVar("T")

# A thread that hangs in a read cannot be cancelled; after this long the process ends without it.
_GRACE_SECONDS: Final = 0.8


class Interrupted(Exception):
    """A signal has cancelled the command, and everything is closed."""


def run_async(work: Callable[[], Awaitable[T]], *, grace_seconds: float = _GRACE_SECONDS) -> T:
    """Run ``work()`` to its end.

    The first signal cancels it. A second one, or closing that takes too long, ends the process on the spot.

    :param grace_seconds: how long closing may take after the first signal
    :raises Interrupted: a signal has cancelled it
    """
    results: list[T] = []

    async def cancellable() -> None:
        with anyio.CancelScope() as scope:
            _cancel_on_signals(scope, grace_seconds)
            results.append(await work())

    try:
        anyio.run(cancellable)
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
