"""Progress bars while connections are lost, the service is down, the window is resized, or the command is killed.

There is no traceback, never two bars of one file on a screen, and the terminal is usable afterwards.
"""

from __future__ import annotations

import fcntl
import random
import re
import signal
import struct
import subprocess
import termios
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from harness.forking import Forks, command_environment
from harness.service import KEY, Service
from harness.terminal import Terminal, at_terminal

from . import child
from .bench import Bench, Case
from .child import Instructions
from .counts import Findings, Kind
from .proxy import Proxy, proxied
from .workspace import PART_BYTES, is_quiet, upload_flags

NAME: Final = "terminals"
CASES: Final = 80

_SIZES: Final = (2 * PART_BYTES, PART_BYTES, 300_000)
_RATE: Final = 15_000_000
_HANG_SECONDS: Final = 25.0
_BAR: Final = re.compile(r"^(?P<name>\S+) .*[━─·]{3}")
_SHOW_CURSOR: Final = b"\x1b[?25h"
_HIDE_CURSOR: Final = b"\x1b[?25l"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happens while bars are displayed.

    :ivar happen: causes the event
    :ivar codes: the exit codes that the command may have
    """

    happen: Callable[[_Context], None]
    codes: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Context:
    proxy: Proxy
    service: Service
    terminal: Terminal
    rng: random.Random


def _signalled(number: int) -> Callable[[_Context], None]:
    return lambda context: context.terminal.process.send_signal(number)


def _cut(context: _Context) -> None:
    context.service.portal.call(context.proxy.cut_all)


def _outage(context: _Context) -> None:
    """Reject connections for a moment."""
    context.proxy.is_down = True
    _cut(context)
    threading.Event().wait(0.3)
    context.proxy.is_down = False


def _permanent_outage(context: _Context) -> None:
    context.proxy.is_down = True
    _cut(context)


def _resize(context: _Context) -> None:
    for _ in range(3):
        size = struct.pack("HHHH", context.rng.randint(3, 40), context.rng.randint(10, 200), 0, 0)
        fcntl.ioctl(context.terminal.descriptor, termios.TIOCSWINSZ, size)
        context.terminal.process.send_signal(signal.SIGWINCH)
        threading.Event().wait(0.1)


def _resize_and_cut(context: _Context) -> None:
    _resize(context)
    _cut(context)


EVENTS: Final = {
    "nothing": Event(happen=lambda _: None),
    "cut": Event(happen=_cut),
    "outage": Event(happen=_outage, codes=(0, 1)),
    "permanent outage": Event(happen=_permanent_outage, codes=(1,)),
    "Ctrl-C": Event(happen=_signalled(signal.SIGINT), codes=(130, 0)),
    "SIGTERM": Event(happen=_signalled(signal.SIGTERM), codes=(130, 0)),
    "kill": Event(happen=_signalled(signal.SIGKILL), codes=(-9, 0)),
    "resized": Event(happen=_resize),
    "resized and cut": Event(happen=_resize_and_cut),
}


def cases(_bench: Bench, seed: int) -> Iterator[Case]:
    """:data:`CASES` cases, from a seed on."""
    return (case(_bench, str(number)) for number in range(seed, seed + CASES))


def case(_bench: Bench, name: str) -> Case:
    """The case of a seed."""
    return Case(name=name, run=partial(_run, int(name)))


class _Children(Forks):
    """Starts commands that retry quickly."""

    def __init__(self, forks: Forks) -> None:
        self._forks = forks

    def command(
        self, arguments: Iterable[object], directory: Path, environment: Mapping[str, str], **options: Any
    ) -> subprocess.Popen[Any]:
        variables = {**command_environment(directory), child.VARIABLE: Instructions().text()}
        words = (child.__file__, *map(str, arguments))
        return self._forks.python(*words, cwd=directory, env={**variables, **environment}, **options)


def _run(seed: int, bench: Bench, findings: Findings) -> None:
    rng = random.Random(seed)
    name = rng.choice(list(EVENTS))
    event = EVENTS[name]
    columns, rows = rng.choice((40, 80, 120, 200)), rng.choice((6, 24, 50))
    until_bytes = rng.randrange(sum(_SIZES))
    with (
        bench.service(link_rate=_RATE) as service,
        bench.workspace(findings) as workspace,
        proxied(service) as proxy,
    ):
        names = [
            workspace.copy(bench.source(size, number), f"{number}.mp4").name for number, size in enumerate(_SIZES)
        ]
        where = ("--base-url", f"http://127.0.0.1:{proxy.port}")
        arguments = ("upload", *names, *upload_flags(service), *where)
        findings.runs += 1
        with at_terminal(
            _Children(bench.forks), arguments, workspace.folder, columns=columns, rows=rows, APIVIDEO_API_KEY=KEY
        ) as terminal:
            context = _Context(proxy=proxy, service=service, terminal=terminal, rng=rng)
            code = _watch(context, event, until_bytes)
            _check(terminal, code, event, findings, is_resized="resized" in name, has_rows=rows > 6)
        service.wait_for(is_quiet)
        proxy.is_down = False
        if code:
            result = workspace.run(*arguments)
            findings.check(result.code == 0, f"the next run does not recover: {result.summary}")
    if findings.all:
        findings.add(findings.all[0].kind, f"({name} at {columns}x{rows} after {until_bytes:,} bytes)", 0)


def _watch(context: _Context, event: Event, until_bytes: int) -> int:
    """Read the terminal until the command ends, and cause the event meanwhile.

    :returns: the exit code
    """

    def act() -> None:
        context.service.wait_for(
            lambda emulator: (
                emulator.statistics().bytes_received >= until_bytes
                or context.terminal.process.returncode is not None
            )
        )
        event.happen(context)

    actor = threading.Thread(target=act, daemon=True)
    deadline = threading.Timer(_HANG_SECONDS, context.terminal.process.kill)
    actor.start()
    deadline.start()
    code = context.terminal.finish()
    deadline.cancel()
    actor.join(1)
    return code


def _check(
    terminal: Terminal, code: int, event: Event, findings: Findings, *, is_resized: bool, has_rows: bool
) -> None:
    written = terminal.written
    if b"Traceback" in written or b"Exception ignored" in written:
        findings.add(Kind.TRACEBACK, f"…{written[-500:].decode(errors='replace')!r}")
    if code == -9 and -9 not in event.codes:
        findings.add(
            Kind.HANG, f"it did not end within {_HANG_SECONDS:g} s; the last screen: {terminal.screens[-1:]!r}"
        )
        return
    findings.check(code in event.codes, f"exit code {code}; the last screen: {terminal.screens[-1:]!r}")
    if not is_resized:  # pyte does not know the new size
        for screen in terminal.screens:
            bars = Counter(found["name"] for line in screen if (found := _BAR.match(line)))
            if bars and max(bars.values()) > 1 and has_rows:
                findings.add(Kind.WRONG, f"two bars of a file on one screen: {screen!r}")
                break
    if code == -9:
        return  # a killed process cannot clean up
    last_show, last_hide = written.rfind(_SHOW_CURSOR), written.rfind(_HIDE_CURSOR)
    findings.check(last_show >= last_hide, "the cursor is left hidden")
    findings.check(
        is_resized or not any(_BAR.match(line) for screen in terminal.screens[-1:] for line in screen),
        f"bars are left on the screen: {terminal.screens[-1:]!r}",
    )
