"""What all sweeps share: cases, where they run, how commands run, and what must hold afterwards."""

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
from harness.forking import Forks
from harness.service import KEY, Service, running_service
from harness.world import FRAMING_BYTES

from . import child
from .child import Instructions
from .counts import Findings, Kind

__all__ = ("KEY", "Bench", "Case", "CommandResult", "Service", "Source", "Sweep", "Workspace", "is_quiet")

PART_BYTES: Final = 5 * MIB
#: A command that takes longer hangs. Every case needs far less, even on a busy machine.
HANG_SECONDS: Final = 45.0

_STACK_SECONDS: Final = 2.0

_CHILD: Final = child.__file__
# How Python reports exceptions that were not handled.
_TRACEBACK_SIGNS: Final = (
    "Traceback (most recent call last)", "Exception ignored in", "exception was never retrieved",
    "was never awaited", "Fatal Python error", "Unhandled exception", "ResourceWarning",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A scenario, and how to run it.

    :ivar name: unique within the sweep; repeats the case
    """

    name: str
    run: Callable[[Bench, Findings], None]


class Sweep(Protocol):
    """A module of this package.

    The cases of a sweep may depend on the seed. Otherwise the seed selects their order.
    """

    NAME: str

    def cases(self, bench: Bench, seed: int) -> Iterable[Case]:
        """All cases, in an order in which the first ones are a sample of all."""

    def case(self, bench: Bench, name: str) -> Case:
        """One case, by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file to upload. All cases share it."""

    path: Path
    size_bytes: int
    sha256: str

    @property
    def parts_total(self) -> int:
        """The number of parts."""
        return -(-self.size_bytes // PART_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """The result of a command."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The error messages on standard error."""
        return [line for line in self.err.splitlines() if line.startswith("error:")]

    @property
    def summary(self) -> str:
        """Exit code and last lines of standard error, for a finding."""
        return f"exit code {self.code}: " + " | ".join(self.err.strip().splitlines()[-3:])[-600:]


def is_quiet(emulator: Any) -> bool:
    """Whether no part is being received."""
    return not emulator.statistics().uploads_in_flight


class Workspace:
    """The directory in which the commands of one case run.

    :param machine: where the journal and the locks are; commands with another name share neither
    """

    def __init__(self, bench: Bench, folder: Path, findings: Findings, *, machine: str = "state") -> None:
        self._bench = bench
        self.folder = folder
        self.findings = findings
        self.state = folder / machine / "async_uploader"

    def on_machine(self, machine: str) -> Workspace:
        """The same directory on another machine."""
        return Workspace(self._bench, self.folder, self.findings, machine=machine)

    def copy(self, source: Source, name: str) -> Path:
        """Copy a source into the directory. A link would let this case change the file of others."""
        path = self.folder / name
        shutil.copyfile(source.path, path)
        return path

    def start(
        self,
        *arguments: object,
        instructions: Instructions | None = None,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command.

        :param environment: variables in addition to this process's; default: the API key
        """
        self.findings.runs += 1
        variables = {name: text for name, text in os.environ.items() if not name.startswith("APIVIDEO_")}
        variables |= {
            "XDG_STATE_HOME": str(self.state.parent),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "PYTHONWARNINGS": "error",
            child.VARIABLE: (instructions or Instructions()).text(),
        }
        return self._bench.forks.python(
            *(_CHILD, *map(str, arguments)),
            cwd=self.folder,
            env={**variables, **(key_environment() if environment is None else environment)},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            errors="backslashreplace",
        )

    def finish(self, process: subprocess.Popen[str], *, seconds: float = HANG_SECONDS) -> CommandResult:
        """Wait until a command ends, and check that it did not hang, print a traceback or show a secret."""
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self._bench.dump_stack(process)
            process.kill()
            out, err = process.communicate()
            self.findings.add(
                Kind.HANG, f"{_display_command(process)} did not end within {seconds:g} s: {err[-300:]}"
            )
        result = CommandResult(code=process.returncode, out=out or "", err=err or "")
        self.check_traceback(result.out + result.err, _display_command(process))
        self.findings.check(KEY not in result.out + result.err, f"{_display_command(process)} prints a secret")
        return result

    def check_traceback(self, text: str, command: str) -> None:
        """Check that no exception was printed."""
        for sign in _TRACEBACK_SIGNS:
            if sign in text:
                self.findings.add(Kind.TRACEBACK, f"{command}: …{text.strip()[-200:]}")
                return

    def run(
        self,
        *arguments: object,
        instructions: Instructions | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> CommandResult:
        """Run a command until it ends."""
        return self.finish(self.start(*arguments, instructions=instructions, environment=environment))

    def journal_rows(self) -> dict[str, list[sqlite3.Row]]:
        """The rows of the journal by table. Empty if there is no journal."""
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

    def journaled_videos(self) -> set[str]:
        """The containers in the journal."""
        return {row["video_id"] for row in self.journal_rows().get("upload", [])}

    def is_complete(
        self, result: CommandResult, service: Service, sources: Sequence[Source], *, is_json: bool = False
    ) -> bool:
        """Whether a run that was killed had printed every video and emptied its journal.

        Then only its end was cut off, and there is nothing to resume.
        """
        is_printed = not missing_videos(result, service, sources, is_json=is_json)
        return is_printed and not any(self.journal_rows().values())

    def check_journal_empty(self) -> None:
        """Check that the journal is empty."""
        left = {table: len(rows) for table, rows in self.journal_rows().items() if rows}
        self.findings.check(not left, f"entries left in the journal: {left}")

    def check_videos(
        self,
        service: Service,
        sources: Sequence[Source],
        *,
        unavoidable: Iterable[str] = (),
    ) -> None:
        """Check that each source has exactly one finished video, that nothing else is left, and that no part was
        sent again.

        :param unavoidable: containers that no client could know; they are ignored
        """
        findings = self.findings
        wait_until_finished(service)
        excused = set(unavoidable)
        views = [view for video_id, view in service.emulator.videos.items() if video_id not in excused]
        wanted = Counter(source.sha256 for source in sources)
        found = Counter(view.sha256 for view in views if view.sha256 is not None)
        for sha256, count in wanted.items():
            excess = found[sha256] - count
            if excess < 0:
                findings.add(Kind.WRONG, f"{-excess} of {count} files have no finished video")
            elif excess:
                findings.add(Kind.DUPLICATE, f"{found[sha256]} finished videos of {count} files", excess)
        for view in views:
            if view.sha256 is None:
                findings.add(Kind.ORPHAN, f"container {view.video_id} ({view.title}) is {view.state}")
            elif view.sha256 not in wanted:
                findings.add(Kind.WRONG, f"video {view.video_id} ({view.title}) has the bytes of no file")
        sent_again = _bytes_sent_again(service)
        if sent_again:
            findings.add(
                Kind.BYTES_SENT_AGAIN, f"{sent_again:,} bytes of stored parts were sent again", sent_again
            )


def missing_videos(
    result: CommandResult, service: Service, sources: Sequence[Source], *, is_json: bool = False
) -> list[Source]:
    """The sources whose finished video is not on a command's standard output."""
    if is_json and json_of(result.out) is None:
        return list(sources)
    printed = {view.sha256 for video_id, view in service.emulator.videos.items() if video_id in result.out}
    return [source for source in sources if source.sha256 not in printed]


def wait_until_finished(service: Service) -> None:
    """Wait until every complete upload is a finished video."""
    with suppress(TimeoutError):
        service.portal.call(partial(service.emulator.wait_for, _is_everything_finished, timeout=5))


def _bytes_sent_again(service: Service) -> int:
    """Bytes of stored parts that were received again.

    The form around a part does not count: with an upload token, the form names the video, so the service has to
    read it before it can refuse the part.
    """
    refused = sum(record.endpoint == "upload" and record.status == 400 for record in service.emulator.requests)
    return max(0, service.emulator.statistics().bytes_again - refused * FRAMING_BYTES)


def _is_everything_finished(emulator: Any) -> bool:
    return is_quiet(emulator) and all(view.state != "uploaded" for view in emulator.videos.values())


def _display_command(process: subprocess.Popen[str]) -> str:
    words = " ".join(list(process.args)[4:])  # type: ignore[arg-type]
    return f"`{words if len(words) < 60 else words[:60] + '…'}`"


@dataclass(slots=True)
class _Shared:
    """What the benches of all threads share.

    :ivar sources: by size in bytes and number
    """

    folder: Path
    forks: Forks
    sources: dict[tuple[int, int], Source] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_verbose: bool = False


class Bench:
    """What a thread needs to run cases: a process that forks, an event loop for emulators, and sources."""

    def __init__(self, shared: _Shared, portal: BlockingPortal) -> None:
        self._shared = shared
        self.portal = portal

    @property
    def forks(self) -> Forks:
        """The process that forks."""
        return self._shared.forks

    def source(self, size_bytes: int, number: int = 0) -> Source:
        """A file of the given size. The same size and number always give the same bytes."""
        shared = self._shared
        with shared.lock:
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
        """An emulator with faults."""
        settings = {"rate_window": 1.0, **settings}
        return running_service(self.portal, faults=[Fault.parse(fault) for fault in faults], **settings)

    def add_fault(self, service: Service, fault: str) -> None:
        """Add a fault to a running service."""
        self.portal.call(service.emulator.add_fault, Fault.parse(fault))

    @contextmanager
    def workspace(self, findings: Findings) -> Iterator[Workspace]:
        """A directory for one case."""
        folder = Path(tempfile.mkdtemp(dir=self._shared.folder))
        try:
            yield Workspace(self, folder, findings)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def dump_stack(self, process: subprocess.Popen[str]) -> None:
        """In verbose mode, make a command that hangs print its stack."""
        if self._shared.is_verbose:
            process.send_signal(signal.SIGABRT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_STACK_SECONDS)

    def run(self, case: Case) -> Findings:
        """Run a case. An exception of the case is a finding."""
        findings = Findings()
        try:
            case.run(self, findings)
        except Exception as exc:  # noqa: BLE001 - counts as a finding of this case
            findings.add(Kind.WRONG, f"{type(exc).__name__}: {exc}")
        return findings


@contextmanager
def benches(count: int, *, forks: Forks | None = None, verbose: bool = False) -> Iterator[list[Bench]]:
    """Benches that share one process that forks, with files in memory if possible."""
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


def key_environment() -> dict[str, str]:
    """The environment with an API key."""
    return {"APIVIDEO_API_KEY": KEY}


def json_of(text: str) -> Any:
    """Parse JSON. None if it is invalid."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def shuffled(cases: Sequence[Case], seed: int) -> list[Case]:
    """The cases in an order in which the first ones are a sample of all."""
    return random.Random(seed).sample(cases, len(cases))


def finished_videos(service: Service) -> list[VideoView]:
    """All finished videos."""
    wait_until_finished(service)
    return [view for view in service.emulator.videos.values() if view.sha256 is not None]
