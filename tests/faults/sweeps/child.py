"""The command line in a process that is killed, interrupted or put to another time at a certain call.

Runs in a fork of a warm process, as a file of its own (so it imports nothing from the tests). It wraps what the
journal, the service, the results and the locks offer, and then calls the command line's own ``main()``.

The environment variable ``SWEEP_ORDER`` says what happens at which call, as the JSON of an :class:`Order`.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import inspect
import json
import os
import signal
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial, wraps
from typing import Any, Final, Literal, TextIO

VARIABLE: Final = "SWEEP_ORDER"

Moment = Literal["before", "during", "after"]
Action = Literal["kill", "interrupt", "terminate", "cancel", "clock"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """What happens at a call.

    :ivar call: the call by its name, as ``Journal.begin``
    :ivar number: the Nth call of this name, from 1
    :ivar moment: before the call, after its return, or ``delay_seconds`` after its start
    :ivar action: ``kill`` (SIGKILL), ``interrupt`` (SIGINT), ``terminate`` (SIGTERM), ``cancel`` (of the task of a
        library's upload), or ``clock``
    :ivar jump_seconds: by how much the clock moves
    """

    call: str
    number: int
    moment: Moment
    action: Action = "kill"
    delay_seconds: float = 0.0
    jump_seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.moment} {self.call} {self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a child is told.

    :ivar record: write the name of each call into this file, a line each; at its return another one, with a ``/``
    :ivar library: upload by the library, with these options, and not by the command line; the only argument is the
        file
    :ivar clock_seconds: by how much this process's clock is wrong
    :ivar is_unprivileged: without root's right to read and write every file
    :ivar stall_seconds: the stall timeout of every request
    :ivar busy_seconds: how long a locked journal is waited for
    """

    strikes: tuple[Strike, ...] = ()
    record: str | None = None
    library: dict[str, Any] | None = None
    clock_seconds: float = 0.0
    is_unprivileged: bool = False
    stall_seconds: float = 2.0
    max_attempts: int = 3
    busy_seconds: float = 1.0

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))


def read(text: str) -> Order:
    """An order from its JSON."""
    told = json.loads(text)
    return Order(**{**told, "strikes": tuple(Strike(**strike) for strike in told["strikes"])})


_CAPABILITY_VERSION: Final = 0x20080522
_SIGNALS: Final = {"kill": signal.SIGKILL, "interrupt": signal.SIGINT, "terminate": signal.SIGTERM}


class Hooks:
    """Counts calls, and strikes."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._counts: Counter[str] = Counter()
        self._turn = threading.Lock()
        self.cancel: Callable[[], object] = lambda: None
        self._true_time = time.time
        self._offset_seconds = order.clock_seconds
        self._record = (
            None if order.record is None else os.open(order.record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        )

    def install(self) -> None:
        """Wrap everything, and take over the clock."""
        time.time = lambda: self._true_time() + self._offset_seconds
        for owner, name, call in _calls():
            setattr(owner, name, self._wrapped(getattr(owner, name), call))

    def _enter(self, call: str) -> int:
        with self._turn:
            self._counts[call] += 1
            number = self._counts[call]
        self._note(call)
        self._strike(call, number, "before")
        for strike in self._order.strikes:
            if (strike.call, strike.number, strike.moment) == (call, number, "during"):
                timer = threading.Timer(strike.delay_seconds, partial(self._act, strike))
                timer.daemon = True
                timer.start()
        return number

    def _leave(self, call: str, number: int) -> None:
        self._note(f"{call}/")
        self._strike(call, number, "after")

    def _note(self, text: str) -> None:
        if self._record is not None:
            os.write(self._record, f"{text}\n".encode())

    def _strike(self, call: str, number: int, moment: Moment) -> None:
        for strike in self._order.strikes:
            if (strike.call, strike.number, strike.moment) == (call, number, moment):
                self._act(strike)

    def _act(self, strike: Strike) -> None:
        if strike.action == "clock":
            self._offset_seconds += strike.jump_seconds
        elif strike.action == "cancel":
            self.cancel()
        else:
            os.kill(os.getpid(), _SIGNALS[strike.action])

    def _wrapped(self, function: Callable[..., Any], call: str) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def waited(*arguments: Any, **named: Any) -> Any:
                number = self._enter(call)
                try:
                    return await function(*arguments, **named)
                finally:
                    self._leave(call, number)

            return waited

        @wraps(function)
        def called(*arguments: Any, **named: Any) -> Any:
            number = self._enter(call)
            try:
                return function(*arguments, **named)
            finally:
                self._leave(call, number)

        return called


def _calls() -> Iterator[tuple[Any, str, str]]:
    """Everything that is wrapped: its owner, its name there, and what it is called here."""
    import filelock

    from async_uploader._api.http import Http
    from async_uploader._api.service import Service
    from async_uploader._resume.journal import Journal
    from async_uploader.cli import _output
    from async_uploader.cli._results import Results

    for owner in (Journal, Service, Results):
        for name, member in vars(owner).items():
            if inspect.isfunction(member) and not name.startswith("_"):
                yield owner, name, f"{owner.__name__}.{name}"
    yield Http, "exchange", "Http.exchange"
    for name in ("acquire", "release"):
        yield filelock.FileLock, name, f"lock.{name}"
    yield _output, "_write", "output"


def quicken(order: Order) -> None:
    """Retries within milliseconds, a rate limit window of one second, and short timeouts.

    Backoff has no option, and only ``upload`` has options for attempts and stalls, so the defaults are changed.
    """
    from async_uploader import Client
    from async_uploader._api.service import Service
    from async_uploader._flow.retries import RetryPolicy
    from async_uploader._resume import journal

    Client._retry_policy = RetryPolicy(
        max_attempts=order.max_attempts, first_backoff_seconds=0.01, max_backoff_seconds=0.05
    )
    Client._rate_window_seconds = 1.0
    assert hasattr(journal, "_BUSY_SECONDS")
    vars(journal)["_BUSY_SECONDS"] = order.busy_seconds
    defaults = Service.__init__.__kwdefaults__
    assert defaults is not None
    defaults["stall_seconds"] = order.stall_seconds


def drop_privileges() -> None:
    """Give up all capabilities: modes of files hold for root, too. Nothing happens to other users."""
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    ctypes.CDLL(None).capset(header, bytes(24))


def main() -> None:
    """Follow the order, and become the command line."""
    faulthandler.enable()  # a command that hangs is sent SIGABRT, to see where
    order = read(os.environ.pop(VARIABLE))
    quicken(order)
    hooks = Hooks(order)
    hooks.install()
    if order.is_unprivileged:
        drop_privileges()
    if order.library is not None:
        sys.exit(upload(sys.argv[1], order.library, hooks))

    from async_uploader.cli import main as become

    become()


def upload(path: str, options: dict[str, Any], hooks: Hooks) -> int:
    """By the library: the video's id on standard output, from ``on_video``.

    :return: 0, 1 after an error, or 130 after a cancellation
    """
    from async_uploader import Client, UploaderError

    async def run() -> int:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        hooks.cancel = partial(loop.call_soon_threadsafe, task.cancel)
        try:
            async with Client() as client:
                await client.upload(path, **options, on_video=lambda video: _say(sys.stdout, video.video_id))
        except UploaderError as exc:
            _say(sys.stderr, f"error: {exc}")
            return 1
        except asyncio.CancelledError:
            return 130
        return 0

    return asyncio.run(run())


def _say(stream: TextIO, text: str) -> None:
    stream.write(f"{text}\n")
    stream.flush()


if __name__ == "__main__":
    main()
