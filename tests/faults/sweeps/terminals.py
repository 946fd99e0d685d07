"""Bars on a terminal while connections are cut, the service is away, the window changes, or the command is killed.

No traceback, never two bars of one file on a screen, and a terminal that is as usable afterwards as before.
"""

from __future__ import annotations

import fcntl
import os
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

from ...cli.terminal import Terminal, at_terminal  # noqa: TID252 - found however pytest is started
from ...forking import Forks  # noqa: TID252 - likewise
from . import child
from .child import Order
from .counts import Findings, Kind
from .harness import KEY, PART_BYTES, Bench, Case, Service, is_quiet, upload_flags
from .proxy import Proxy, proxied

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
    """What happens while bars are drawn.

    :ivar codes: how the command may end
    """

    happen: Callable[[_Scene], None]
    codes: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    proxy: Proxy
    service: Service
    terminal: Terminal
    dice: random.Random


def _signalled(number: int) -> Callable[[_Scene], None]:
    return lambda scene: scene.terminal.process.send_signal(number)


def _cut(scene: _Scene) -> None:
    scene.service.portal.call(scene.proxy.cut_all)


def _outage(scene: _Scene) -> None:
    """Until some connections have been tried in vain."""
    scene.proxy.is_down = True
    _cut(scene)
    threading.Event().wait(0.3)
    scene.proxy.is_down = False


def _gone(scene: _Scene) -> None:
    scene.proxy.is_down = True
    _cut(scene)


def _resize(scene: _Scene) -> None:
    for _ in range(3):
        size = struct.pack("HHHH", scene.dice.randint(3, 40), scene.dice.randint(10, 200), 0, 0)
        fcntl.ioctl(scene.terminal.descriptor, termios.TIOCSWINSZ, size)
        scene.terminal.process.send_signal(signal.SIGWINCH)
        threading.Event().wait(0.1)


def _resize_and_cut(scene: _Scene) -> None:
    _resize(scene)
    _cut(scene)


EVENTS: Final = {
    "nothing": Event(happen=lambda _: None),
    "cut": Event(happen=_cut),
    "outage": Event(happen=_outage, codes=(0, 1)),
    "gone": Event(happen=_gone, codes=(1,)),
    "Ctrl-C": Event(happen=_signalled(signal.SIGINT), codes=(130, 0)),
    "SIGTERM": Event(happen=_signalled(signal.SIGTERM), codes=(130, 0)),
    "kill": Event(happen=_signalled(signal.SIGKILL), codes=(-9, 0)),
    "resized": Event(happen=_resize),
    "resized and cut": Event(happen=_resize_and_cut),
}


def cases(_bench: Bench, seed: int) -> Iterator[Case]:
    """So many, from a seed on."""
    return (case(_bench, str(number)) for number in range(seed, seed + CASES))


def case(_bench: Bench, name: str) -> Case:
    """The one of a seed."""
    return Case(name=name, run=partial(_run, int(name)))


class _Children(Forks):
    """Starts commands that retry quickly."""

    def __init__(self, forks: Forks) -> None:
        self._forks = forks

    def command(
        self, arguments: Iterable[object], directory: Path, environment: Mapping[str, str], **options: Any
    ) -> subprocess.Popen[Any]:
        # A worker of pytest-xdist has COLUMNS and LINES, which hide the size of the terminal from the command.
        hidden = ("APIVIDEO_", "COLUMNS", "LINES")
        surroundings = {name: text for name, text in os.environ.items() if not name.startswith(hidden)}
        surroundings |= {
            "XDG_STATE_HOME": str(directory / "state"),
            "XDG_CONFIG_HOME": str(directory / "config"),
            child.VARIABLE: Order().text(),
        }
        words = (child.__file__, *map(str, arguments))
        return self._forks.python(*words, cwd=directory, env={**surroundings, **environment}, **options)


def _run(seed: int, bench: Bench, findings: Findings) -> None:
    dice = random.Random(seed)
    name = dice.choice(list(EVENTS))
    event = EVENTS[name]
    columns, rows = dice.choice((40, 80, 120, 200)), dice.choice((6, 24, 50))
    until_bytes = dice.randrange(sum(_SIZES))
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
            scene = _Scene(proxy=proxy, service=service, terminal=terminal, dice=dice)
            code = _watch(scene, event, until_bytes)
            _check(terminal, code, event, findings, is_resized="resized" in name, has_rows=rows > 6)
        service.wait_for(is_quiet)
        proxy.is_down = False
        if code:
            done = workspace.run(*arguments)
            findings.check(done.code == 0, f"it does not recover: {done.last_words}")
    if findings.all:
        findings.add(findings.all[0].kind, f"({name} at {columns}x{rows} after {until_bytes:,} bytes)", 0)


def _watch(scene: _Scene, event: Event, until_bytes: int) -> int:
    """Read the terminal to its end, while the event happens.

    :return: the exit code
    """

    def act() -> None:
        scene.service.wait_for(
            lambda emulator: (
                emulator.statistics().bytes_received >= until_bytes
                or scene.terminal.process.returncode is not None
            )
        )
        event.happen(scene)

    actor = threading.Thread(target=act, daemon=True)
    deadline = threading.Timer(_HANG_SECONDS, scene.terminal.process.kill)
    actor.start()
    deadline.start()
    code = scene.terminal.finish()
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
    if not is_resized:  # the emulated screen does not know of it
        for screen in terminal.screens:
            bars = Counter(found["name"] for line in screen if (found := _BAR.match(line)))
            if bars and max(bars.values()) > 1 and has_rows:
                findings.add(Kind.WRONG, f"two bars of a file on a screen: {screen!r}")
                break
    if code == -9:
        return  # nobody could tidy up
    shown, hidden = written.rfind(_SHOW_CURSOR), written.rfind(_HIDE_CURSOR)
    findings.check(shown >= hidden, "the cursor is left hidden")
    findings.check(
        is_resized or not any(_BAR.match(line) for screen in terminal.screens[-1:] for line in screen),
        f"bars are left: {terminal.screens[-1:]!r}",
    )
