"""What all sweeps share: cases, where they run, one command run to its end, and what must hold afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from anyio.from_thread import BlockingPortal, start_blocking_portal

from async_uploader._limits import MIB
from async_uploader.emulator import Fault, VideoView

from ...cli.conftest import KEY, Service, running_service  # noqa: TID252 - found however pytest is started
from ...forking import Forks  # noqa: TID252 - likewise
from ..world import FRAMING_BYTES  # noqa: TID252 - likewise
from . import child
from .child import Order
from .counts import Findings, Kind

__all__ = ("KEY", "Bench", "Case", "Done", "Service", "Source", "Sweep", "Workspace", "is_quiet")

PART_BYTES: Final = 5 * MIB
#: A command that has not ended by then hangs. Far more than any case needs, since the machine may be busy.
HANG_SECONDS: Final = 45.0

_LAST_WORDS_SECONDS: Final = 2.0

_CHILD: Final = child.__file__
# What a program says of an exception that nobody has handled.
_SIGNS_OF_TRACEBACK: Final = (
    "Traceback (most recent call last)", "Exception ignored in", "exception was never retrieved",
    "was never awaited", "Fatal Python error", "Unhandled exception", "ResourceWarning",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A scenario, and how to run it.

    :ivar name: tells it from all other cases of its sweep, and is what it is replayed by
    """

    name: str
    run: Callable[[Bench, Findings], None]


class Sweep(Protocol):
    """A module of this package.

    ``cases`` gives those of a seed; a sweep that has no dice always gives the same ones.
    """

    NAME: str

    def cases(self, bench: Bench, seed: int) -> Iterable[Case]:
        """All cases, in an order that a part of them is a fair sample."""

    def case(self, bench: Bench, name: str) -> Case:
        """One of them, by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file to upload, which all cases share."""

    path: Path
    size_bytes: int
    sha256: str

    @property
    def parts_total(self) -> int:
        """How many parts it makes."""
        return -(-self.size_bytes // PART_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines of standard error that tell a failure."""
        return [line for line in self.err.splitlines() if line.startswith("error:")]

    @property
    def last_words(self) -> str:
        """The end of what it said, for a finding."""
        return f"exit code {self.code}: " + " | ".join(self.err.strip().splitlines()[-3:])[-600:]


def is_quiet(emulator: Any) -> bool:
    """Nothing is being received."""
    return not emulator.statistics().uploads_in_flight


class Workspace:
    """A directory, empty but for copies of sources, in which commands of one case run."""

    def __init__(self, bench: Bench, folder: Path, findings: Findings) -> None:
        self._bench = bench
        self.folder = folder
        self.findings = findings
        self.state = folder / "state" / "async_uploader"

    def copy(self, source: Source, name: str) -> Path:
        """A source under a name of this case. No link: another case's link would change when the file changed."""
        path = self.folder / name
        shutil.copyfile(source.path, path)
        return path

    def start(
        self,
        *arguments: object,
        order: Order | None = None,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command.

        :param environment: what it has beside this process's; default: the API key
        """
        self.findings.runs += 1
        surroundings = {name: text for name, text in os.environ.items() if not name.startswith("APIVIDEO_")}
        surroundings |= {
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "PYTHONWARNINGS": "error",
            child.VARIABLE: (order or Order()).text(),
        }
        return self._bench.forks.python(
            *(_CHILD, *map(str, arguments)),
            cwd=self.folder,
            env={**surroundings, **(with_key() if environment is None else environment)},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            errors="backslashreplace",
        )

    def finish(self, process: subprocess.Popen[str], *, seconds: float = HANG_SECONDS) -> Done:
        """Wait for its end, and see that it ended as a command should."""
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self._bench.look_at(process)
            process.kill()
            out, err = process.communicate()
            self.findings.add(Kind.HANG, f"{_shown(process)} did not end within {seconds:g} s: {err[-300:]}")
        done = Done(code=process.returncode, out=out or "", err=err or "")
        self.check_traceback(done.out + done.err, _shown(process))
        self.findings.check(KEY not in done.out + done.err, f"{_shown(process)} shows a secret")
        return done

    def check_traceback(self, text: str, command: str) -> None:
        """No exception came out."""
        for sign in _SIGNS_OF_TRACEBACK:
            if sign in text:
                self.findings.add(Kind.TRACEBACK, f"{command}: …{text.strip()[-200:]}")
                return

    def run(
        self, *arguments: object, order: Order | None = None, environment: Mapping[str, str] | None = None
    ) -> Done:
        """Run a command to its end."""
        return self.finish(self.start(*arguments, order=order, environment=environment))

    def rows(self) -> dict[str, list[sqlite3.Row]]:
        """What is in the journal, by table; none of it if there is no journal."""
        path = self.state / "journal.sqlite3"
        if not path.exists():
            return {}
        database = sqlite3.connect(path)
        database.row_factory = sqlite3.Row
        try:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {table: database.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
        finally:
            database.close()

    def known_videos(self) -> set[str]:
        """The containers that the journal knows."""
        return {row["video_id"] for row in self.rows().get("upload", [])}

    def is_over(self, done: Done, service: Service, sources: Sequence[Source], *, is_json: bool = False) -> bool:
        """Whether a run that was ended by force had said everything and remembered nothing.

        Then only its end was cut off, and there is nothing that could be run again.
        """
        is_said = not missing_in(done, service, sources, is_json=is_json)
        return is_said and not any(self.rows().values())

    def check_journal_empty(self) -> None:
        """Nothing is left in it."""
        left = {table: len(rows) for table, rows in self.rows().items() if rows}
        self.findings.check(not left, f"left in the journal: {left}")

    def check_videos(
        self,
        service: Service,
        sources: Sequence[Source],
        *,
        unavoidable: Iterable[str] = (),
    ) -> None:
        """Exactly one finished video for each source, nothing else, and no stored byte received twice.

        :param unavoidable: containers that nobody could know of; they do not count
        """
        findings = self.findings
        settle(service)
        excused = set(unavoidable)
        views = [view for video_id, view in service.emulator.videos.items() if video_id not in excused]
        wanted = Counter(source.sha256 for source in sources)
        found = Counter(view.sha256 for view in views if view.sha256 is not None)
        for sha256, count in wanted.items():
            excess = found[sha256] - count
            if excess < 0:
                findings.add(Kind.WRONG, f"{-excess} of {count} files are not there")
            elif excess:
                findings.add(Kind.DUPLICATE, f"{found[sha256]} finished videos of {count} files", excess)
        for view in views:
            if view.sha256 is None:
                findings.add(Kind.ORPHAN, f"container {view.video_id} ({view.title}) is {view.state}")
            elif view.sha256 not in wanted:
                findings.add(Kind.WRONG, f"video {view.video_id} ({view.title}) has other bytes than any file")
        sent_again = _bytes_again(service)
        if sent_again:
            findings.add(Kind.BYTES_AGAIN, f"{sent_again:,} bytes of stored parts were sent again", sent_again)


def missing_in(done: Done, service: Service, sources: Sequence[Source], *, is_json: bool = False) -> list[Source]:
    """The files whose finished video is not on a run's standard output."""
    if is_json and json_of(done.out) is None:
        return list(sources)
    told = {view.sha256 for video_id, view in service.emulator.videos.items() if video_id in done.out}
    return [source for source in sources if source.sha256 not in told]


def settle(service: Service) -> None:
    """Wait until everything that can be finished is."""
    with suppress(TimeoutError):
        service.portal.call(partial(service.emulator.wait_for, _is_settled, timeout=5))


def _bytes_again(service: Service) -> int:
    """Bytes of stored parts that were received again.

    The form around a part does not count: with an upload token it tells which video the part is for, so that the
    service cannot refuse the part before that.
    """
    refused = sum(record.endpoint == "upload" and record.status == 400 for record in service.emulator.requests)
    return max(0, service.emulator.statistics().bytes_again - refused * FRAMING_BYTES)


def _is_settled(emulator: Any) -> bool:
    return is_quiet(emulator) and all(view.state != "uploaded" for view in emulator.videos.values())


def _shown(process: subprocess.Popen[str]) -> str:
    words = " ".join(list(process.args)[4:])  # type: ignore[arg-type]
    return f"`{words if len(words) < 60 else words[:60] + '…'}`"


@dataclass(slots=True)
class _Shared:
    """What threads share.

    :ivar sources: by size in bytes and number
    """

    folder: Path
    forks: Forks
    sources: dict[tuple[int, int], Source] = field(default_factory=dict)
    turn: threading.Lock = field(default_factory=threading.Lock)
    is_verbose: bool = False


class Bench:
    """Where cases run: a warm process, a thread for emulators, sources. One for each thread of a sweep."""

    def __init__(self, shared: _Shared, portal: BlockingPortal) -> None:
        self._shared = shared
        self.portal = portal

    @property
    def forks(self) -> Forks:
        """The warm process."""
        return self._shared.forks

    def source(self, size_bytes: int, number: int = 0) -> Source:
        """A file of a size, always the same; other numbers, other bytes."""
        shared = self._shared
        with shared.turn:
            key = size_bytes, number
            if key not in shared.sources:
                path = shared.folder / f"{size_bytes}-{number}.mp4"
                content = random.Random(f"{key}").randbytes(size_bytes)
                path.write_bytes(content)
                shared.sources[key] = Source(
                    path=path, size_bytes=size_bytes, sha256=hashlib.sha256(content).hexdigest()
                )
            return shared.sources[key]

    def service(self, *faults: str, **settings: Any) -> AbstractContextManager[Service]:
        """A local service with faults."""
        settings = {"rate_window": 1.0, **settings}
        return running_service(self.portal, faults=[Fault.parse(fault) for fault in faults], **settings)

    def add_fault(self, service: Service, fault: str) -> None:
        """One more."""
        self.portal.call(service.emulator.add_fault, Fault.parse(fault))

    @contextmanager
    def workspace(self, findings: Findings) -> Iterator[Workspace]:
        """A directory for one case."""
        folder = Path(tempfile.mkdtemp(dir=self._shared.folder))
        try:
            yield Workspace(self, folder, findings)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def look_at(self, process: subprocess.Popen[str]) -> None:
        """Have a command that hangs say where, if somebody wants to know."""
        if self._shared.is_verbose:
            process.send_signal(signal.SIGABRT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_LAST_WORDS_SECONDS)

    def run(self, case: Case) -> Findings:
        """Run a case. What the case itself raises is a finding, too."""
        findings = Findings()
        try:
            case.run(self, findings)
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is this case's
            findings.add(Kind.WRONG, f"{type(exc).__name__}: {exc}")
        return findings


@contextmanager
def benches(count: int, *, forks: Forks | None = None, verbose: bool = False) -> Iterator[list[Bench]]:
    """So many, over one warm process; in memory if the machine has a file system there."""
    memory = Path("/dev/shm")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)))
        shared = _Shared(folder=folder, forks=forks or stack.enter_context(Forks()), is_verbose=verbose)
        yield [Bench(shared, stack.enter_context(start_blocking_portal())) for _ in range(count)]


def upload_flags(service: Service, *flags: object) -> tuple[object, ...]:
    """The flags of ``upload`` that every case needs."""
    return (
        *("--base-url", service.emulator.url, "--part-size", "5MiB", "--concurrency", "2"),
        *("--stall-timeout", "2", "--max-attempts", "3", *flags),
    )


def with_key() -> dict[str, str]:
    """The environment of an API key."""
    return {"APIVIDEO_API_KEY": KEY}


def json_of(text: str) -> Any:
    """A document, None if it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def shuffled(cases: Sequence[Case], seed: int) -> list[Case]:
    """In an order that any beginning of is a sample."""
    return random.Random(seed).sample(cases, len(cases))


def finished(service: Service) -> list[VideoView]:
    """All finished videos."""
    settle(service)
    return [view for view in service.emulator.videos.values() if view.sha256 is not None]
