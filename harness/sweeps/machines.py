"""Commands with the same idempotency key on three machines, two processes each, at once or one after another.

Some are killed at random moments, listings lag behind, and requests fail. Two keys may have identical bytes, and
one key may be used for two sources. At the end, the same commands run once more, without faults. There has to be
exactly one finished video of each key, with the right bytes, and nothing else. Each command that succeeded has
printed that video. No process sends a part that it knows to be stored.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

from async_uploader._limits import MIB
from async_uploader.emulator import VideoView
from harness.service import Service

from .bench import Bench, Case
from .child import Instructions
from .counts import Findings, Kind
from .workspace import (
    PART_BYTES,
    CommandResult,
    Source,
    Workspace,
    finished_videos,
    is_quiet,
    upload_flags,
)

NAME: Final = "machines"
CASES: Final = 500

_MACHINES: Final = 3
_PROCESSES: Final = 2
_SIZES: Final = (200_000, PART_BYTES + 1, 3 * PART_BYTES + MIB)
_LISTING_LAGS: Final = (0.0, 0.0, 0.3, 1.5)
_REFUSED: Final = "belongs to another source"
_FAULTS: Final = (
    "create,times=1:cut,when=stored", "create,times=1:cut", "create,times=2:status=503,when=stored",
    "list,times=2:cut", "list,times=3:status=500", "status,times=3:status=500", "delete,times=2:status=503",
    "delete,times=2:cut,when=stored", "upload,times=1:cut,when=stored", "upload,times=2:status=503",
    "upload,part=last,times=1:status=500,when=stored", "get,times=1:cut",
)  # fmt: skip
# How long a command may wait for the request at which it is killed.
_KILL_TIMEOUT_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.01
# As in production. With less, stories end with two videos of one key.
_CREATION_SECONDS: Final = 1.0

World = Literal["one key", "two keys", "two sources"]
Order = Literal["at once", "staggered", "one after another"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One command.

    :ivar key: number of the idempotency key
    :ivar source: number of the source
    :ivar delay_seconds: before the command starts
    :ivar kill_after: requests of all commands, from its start, after which it is killed; None: it is not killed
    """

    machine: int
    key: int
    source: int
    delay_seconds: float
    kill_after: int | None
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What happens on the machines.

    :ivar sizes: of the sources in bytes
    """

    world: World
    order: Order
    sizes: tuple[int, ...]
    listing_lag: float
    faults: tuple[str, ...]
    starts: tuple[Start, ...]


def random_story(rng: random.Random) -> Story:
    """Generate a story."""
    world: World = rng.choice(("one key", "one key", "two keys", "two sources"))
    order: Order = rng.choice(("at once", "staggered", "one after another"))
    places = [machine for machine in range(_MACHINES) for _ in range(_PROCESSES)]
    rng.shuffle(places)
    return Story(
        world=world,
        order=order,
        sizes=tuple(rng.choice(_SIZES) for _ in range(2 if world == "two sources" else 1)),
        listing_lag=rng.choice(_LISTING_LAGS),
        faults=tuple(rng.sample(_FAULTS, rng.choice((0, 0, 1, 2)))),
        starts=tuple(_random_start(rng, world, order, machine) for machine in places),
    )


def _random_start(rng: random.Random, world: World, order: Order, machine: int) -> Start:
    flags: list[str] = []
    if rng.random() < 0.3:
        flags += ["--ranges", "bytes"]
    if rng.random() < 0.3:
        flags += ["--part-size", "7MiB"]
    return Start(
        machine=machine,
        key=rng.randrange(2) if world == "two keys" else 0,
        source=rng.randrange(2) if world == "two sources" else 0,
        delay_seconds=rng.uniform(0, 2.5) if order == "staggered" else 0.0,
        kill_after=rng.randrange(1, 25) if rng.random() < 0.4 else None,
        flags=tuple(flags),
    )


def cases(bench: Bench, seed: int) -> Iterator[Case]:
    """Cases with seeds from ``seed``."""
    for number in range(seed, seed + CASES):
        yield case(bench, str(number))


def case(_: Bench, name: str) -> Case:
    """The case with a seed."""
    return Case(name=name, run=partial(_run, random_story(random.Random(int(name)))))


def _run(story: Story, bench: Bench, findings: Findings) -> None:
    settings: dict[str, Any] = {"listing_lag": story.listing_lag, "connection_rate": 20 * MIB, "latency": 0.01}
    with bench.service(*story.faults, **settings) as service, bench.workspace(findings) as workspace:
        _StoryRun(story, bench, service, workspace).run()


class _StoryRun:
    """Runs one story, and checks its result.

    :ivar printed: the outputs of the commands that succeeded, by key
    """

    def __init__(self, story: Story, bench: Bench, service: Service, workspace: Workspace) -> None:
        self._story = story
        self._service = service
        self._workspace = workspace
        self._findings = workspace.findings
        self._sources = [bench.source(size, number) for number, size in enumerate(story.sizes)]
        self._names = [workspace.copy(source, f"{number}.mp4").name for number, source in enumerate(self._sources)]
        self._sent_again = workspace.folder / "sent again"
        self._printed: list[tuple[int, str]] = []
        self._lock = threading.Lock()

    def run(self) -> None:
        threads = 1 if self._story.order == "one after another" else len(self._story.starts)
        with ThreadPoolExecutor(threads) as pool:
            for future in [pool.submit(self._run_command, start) for start in self._story.starts]:
                future.result()
        self._service.wait_for(is_quiet)
        self._service.portal.call(self._service.emulator.clear_faults)
        time.sleep(self._story.listing_lag)
        winners = self._run_again()
        self._check(winners)

    def _run_command(self, start: Start) -> None:
        time.sleep(start.delay_seconds)
        result = self._command(start)
        if result.code == 0:
            with self._lock:
                self._printed.append((start.key, result.out))
            return
        is_expected = (
            (result.code == -9 and start.kill_after is not None)
            or (result.code == 1 and self._story.world == "two sources" and _REFUSED in result.err)
            or (result.code == 1 and self._story.faults)
        )
        self._findings.check(is_expected, f"a command fails: {result.summary}")

    def _command(self, start: Start) -> CommandResult:
        workspace = self._workspace.on_machine(f"machine {start.machine}")
        requests = self._service.emulator.requests
        kill_at = None if start.kill_after is None else len(requests) + start.kill_after
        process = workspace.start(
            *("upload", self._names[start.source], "--idempotency-key", _key(start.key)),
            *upload_flags(self._service, "--title", _key(start.key), *start.flags),
            instructions=Instructions(sent_again=str(self._sent_again), creation_seconds=_CREATION_SECONDS),
        )
        ends_at = time.monotonic() + _KILL_TIMEOUT_SECONDS
        while kill_at is not None and process.poll() is None and time.monotonic() < ends_at:
            if len(self._service.emulator.requests) >= kill_at:
                process.kill()
                break
            time.sleep(_POLL_SECONDS)
        return workspace.finish(process)

    def _run_again(self) -> dict[int, Source]:
        """Run each command once more, on a new machine.

        :returns: the source of each key
        """
        winners: dict[int, Source] = {}
        for key, number in sorted({(start.key, start.source) for start in self._story.starts}):
            start = Start(machine=_MACHINES, key=key, source=number, delay_seconds=0.0, kill_after=None, flags=())
            result = self._command(start)
            if result.code == 0:
                self._findings.check(key not in winners, f"key {key} has two sources")
                winners[key] = self._sources[number]
                self._printed.append((key, result.out))
            else:
                is_refused = result.code == 1 and _REFUSED in result.err
                self._findings.check(
                    is_refused and self._story.world == "two sources", f"the last command fails: {result.summary}"
                )
        return winners

    def _check(self, winners: dict[int, Source]) -> None:
        findings = self._findings
        finished = {view.video_id: view for view in finished_videos(self._service)}
        by_key: dict[int, list[VideoView]] = {key: [] for key in winners}
        for video_id, view in self._service.emulator.videos.items():
            key = next((key for key in winners if view.title == _key(key)), None)
            if video_id not in finished or key is None:
                findings.add(Kind.ORPHAN, f"container {video_id} is {view.state}")
            else:
                by_key[key].append(view)
        used = {start.key for start in self._story.starts}
        findings.check(winners.keys() == used, f"keys {sorted(used - winners.keys())} have no video")
        for key, views in by_key.items():
            if len(views) > 1:
                findings.add(Kind.DUPLICATE, f"key {key} has {len(views)} videos", len(views) - 1)
            for view in views:
                findings.check(view.sha256 == winners[key].sha256, f"video {view.video_id} has other bytes")
            outputs = [out for printed_key, out in self._printed if printed_key == key]
            right = [out for out in outputs if any(view.video_id in out for view in views)]
            findings.check(len(right) == len(outputs), f"key {key}: commands printed {outputs}")
        if self._sent_again.exists() and (lines := self._sent_again.read_text().splitlines()):
            findings.add(Kind.BYTES_SENT_AGAIN, f"known parts were sent again: {lines}", len(lines))


def _key(number: int) -> str:
    """The key, and the title of its video."""
    return f"key {number}"
