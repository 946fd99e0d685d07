"""The command line in a process that injects a signal, a cancellation or a clock jump at a given call.

This file runs in a fork as a program of its own, so it imports nothing from the rest of the harness. It wraps the
public methods of journal, service and results, the locks and the output, and then calls the command line's
``main()``. The environment variable ``SWEEP_INSTRUCTIONS`` has the JSON of :class:`Instructions`.
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

VARIABLE: Final = "SWEEP_INSTRUCTIONS"

Moment = Literal["before", "during", "after"]
Action = Literal["kill", "interrupt", "terminate", "cancel", "clock"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """What happens at a call.

    :ivar call: the name of the call, like ``Journal.begin``
    :ivar number: the Nth call with this name, from 1
    :ivar moment: before the call, after it, or ``delay_seconds`` after its start
    :ivar action: ``kill`` (SIGKILL), ``interrupt`` (SIGINT), ``terminate`` (SIGTERM), ``cancel`` (cancel the task
        of a library upload), or ``clock``
    :ivar jump_seconds: how far the clock jumps
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
class Instructions:
    """What a child process does.

    :ivar record: a file for the names of the calls, one per line: ``Journal.begin`` at its start,
        ``Journal.begin/`` at its end
    :ivar sent_again: a file that gets a line for each stored part that this process sends although it knows that
        the service has the part
    :ivar library: upload the file that is the only argument with the library and these options, not with the
        command line
    :ivar clock_seconds: the offset of this process's clock
    :ivar is_unprivileged: run without root's permission to read and write every file
    :ivar stall_seconds: the stall timeout of every request
    :ivar busy_seconds: how long to wait for a locked journal
    :ivar creation_seconds: how long a new container waits for others; too short if several processes create one
    """

    injections: tuple[Injection, ...] = ()
    record: str | None = None
    sent_again: str | None = None
    library: dict[str, Any] | None = None
    clock_seconds: float = 0.0
    is_unprivileged: bool = False
    stall_seconds: float = 2.0
    max_attempts: int = 3
    busy_seconds: float = 1.0
    creation_seconds: float = 0.01

    def text(self) -> str:
        """The instructions as JSON."""
        return json.dumps(asdict(self))


def read(text: str) -> Instructions:
    """Parse instructions."""
    fields = json.loads(text)
    return Instructions(
        **{**fields, "injections": tuple(Injection(**injection) for injection in fields["injections"])}
    )


_CAPABILITY_VERSION: Final = 0x20080522
_SIGNALS: Final = {"kill": signal.SIGKILL, "interrupt": signal.SIGINT, "terminate": signal.SIGTERM}


class Hooks:
    """Counts the calls, and runs the injections."""

    def __init__(self, instructions: Instructions) -> None:
        self._instructions = instructions
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.cancel: Callable[[], object] = lambda: None
        self._true_time = time.time
        self._offset_seconds = instructions.clock_seconds
        self._record = (
            None
            if instructions.record is None
            else os.open(instructions.record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        )

    def install(self) -> None:
        """Wrap the calls and the clock."""
        time.time = lambda: self._true_time() + self._offset_seconds
        for owner, name, call in _calls():
            setattr(owner, name, self._wrapped(getattr(owner, name), call))

    def _enter(self, call: str) -> int:
        with self._lock:
            self._counts[call] += 1
            number = self._counts[call]
        self._note(call)
        self._inject(call, number, "before")
        for injection in self._instructions.injections:
            if (injection.call, injection.number, injection.moment) == (call, number, "during"):
                timer = threading.Timer(injection.delay_seconds, partial(self._act, injection))
                timer.daemon = True
                timer.start()
        return number

    def _leave(self, call: str, number: int) -> None:
        self._note(f"{call}/")
        self._inject(call, number, "after")

    def _note(self, text: str) -> None:
        if self._record is not None:
            os.write(self._record, f"{text}\n".encode())

    def _inject(self, call: str, number: int, moment: Moment) -> None:
        for injection in self._instructions.injections:
            if (injection.call, injection.number, injection.moment) == (call, number, moment):
                self._act(injection)

    def _act(self, injection: Injection) -> None:
        if injection.action == "clock":
            self._offset_seconds += injection.jump_seconds
        elif injection.action == "cancel":
            self.cancel()
        else:
            os.kill(os.getpid(), _SIGNALS[injection.action])

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


class KnownParts:
    """The parts that this process knows to be stored: by a response, or by the status of their video.

    :param path: gets a line for each of them that is sent again
    """

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._stored: set[tuple[str, str]] = set()
        self._statuses: dict[str, Any] = {}

    def install(self) -> None:
        """Observe the requests of all services."""
        from async_uploader._api.service import Service

        send_part, get_status = Service.send_part, Service.get_status

        async def observed_send_part(service: Service, request: Any, observer: Any) -> Any:
            part = str(request.video_id), request.content_range.partition("/")[0]
            if self._is_known(*part):
                os.write(self._file, f"{' '.join(part)}\n".encode())
            response = await send_part(service, request, observer)
            self._stored.add(part)
            return response

        async def observed_get_status(service: Service, video_id: str) -> Any:
            self._statuses[video_id] = status = await get_status(service, video_id)
            return status

        for function in (observed_send_part, observed_get_status):
            setattr(Service, function.__name__.removeprefix("observed_"), function)

    def _is_known(self, video_id: str, content_range: str) -> bool:
        if (video_id, content_range) in self._stored:
            return True
        if video_id not in self._statuses:
            return False
        ingest, (unit, place) = self._statuses[video_id].ingest, content_range.split()
        if unit == "part":
            return ingest.received_parts is not None and int(place) in ingest.received_parts.parts
        first, last = map(int, place.split("-"))
        return any(span.first <= first and last <= span.last for span in ingest.received_bytes)


def _calls() -> Iterator[tuple[Any, str, str]]:
    """The calls to wrap: owner, attribute, and name."""
    import filelock

    from async_uploader._api.http import Http
    from async_uploader._api.service import Service
    from async_uploader._catalogue.results import ResultsFile
    from async_uploader._resume.journal import Journal
    from async_uploader._sources.remote import RemotePartReader
    from async_uploader.cli import _output

    for owner in (Journal, Service, ResultsFile):
        for name, member in vars(owner).items():
            if inspect.isfunction(member) and not name.startswith("_"):
                yield owner, name, f"{owner.__name__}.{name}"
    yield Http, "exchange", "Http.exchange"
    yield RemotePartReader, "fetch", "RemotePartReader.fetch"
    for name in ("acquire", "release"):
        yield filelock.FileLock, name, f"lock.{name}"
    yield _output, "_write", "output"


def apply_fast_settings(instructions: Instructions) -> None:
    """Set retries within milliseconds, a rate limit window of one second, and short timeouts.

    There is no option for the backoff, and only ``upload`` has options for attempts and stalls, so this changes
    defaults.
    """
    from async_uploader import Client
    from async_uploader._api.service import Service
    from async_uploader._flow.retries import RetryPolicy
    from async_uploader._resume import journal
    from async_uploader._resume.containers import SettlingPolicy

    Client._retry_policy = RetryPolicy(
        max_attempts=instructions.max_attempts, first_backoff_seconds=0.01, max_backoff_seconds=0.05
    )
    Client._rate_window_seconds = 1.0
    Client._settling_policy = SettlingPolicy(creation_seconds=instructions.creation_seconds, poll_seconds=0.05)
    assert hasattr(journal, "_BUSY_SECONDS")
    vars(journal)["_BUSY_SECONDS"] = instructions.busy_seconds
    defaults = Service.__init__.__kwdefaults__
    assert defaults is not None
    defaults["stall_seconds"] = instructions.stall_seconds


def drop_privileges() -> None:
    """Drop all capabilities, so that file modes apply to root, too."""
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    ctypes.CDLL(None).capset(header, bytes(24))


def main() -> None:
    """Follow the instructions, then run the command line."""
    faulthandler.enable()  # prints the stack at SIGABRT, which a hanging command gets
    instructions = read(os.environ.pop(VARIABLE))
    apply_fast_settings(instructions)
    hooks = Hooks(instructions)
    hooks.install()
    if instructions.sent_again is not None:
        KnownParts(instructions.sent_again).install()
    if instructions.is_unprivileged:
        drop_privileges()
    if instructions.library is not None:
        sys.exit(upload(sys.argv[1], instructions.library, hooks))

    from async_uploader.cli import main as run_command_line

    run_command_line()


def upload(path: str, options: dict[str, Any], hooks: Hooks) -> int:
    """Upload with the library, and print the id of the video from ``on_video``.

    :returns: 0; 1 after an error; 130 after a cancellation
    """
    from async_uploader import Client, UploaderError

    async def run() -> int:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        hooks.cancel = partial(loop.call_soon_threadsafe, task.cancel)
        try:
            async with Client() as client:
                await client.upload(path, **options, on_video=lambda video: _print(sys.stdout, video.video_id))
        except UploaderError as exc:
            _print(sys.stderr, f"error: {exc}")
            return 1
        except asyncio.CancelledError:
            return 130
        return 0

    return asyncio.run(run())


def _print(stream: TextIO, text: str) -> None:
    stream.write(f"{text}\n")
    stream.flush()


if __name__ == "__main__":
    main()
