"""The directory in which the commands of a case run, and the checks of their result."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from async_uploader._limits import MIB
from async_uploader.emulator import VideoView
from harness.forking import Forks, command_environment
from harness.service import KEY, Service
from harness.world import FRAMING_BYTES

from . import child
from .child import Instructions
from .counts import Findings, Kind

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

    :param verbose: make commands that hang print their stack
    :param machine: where the journal and the locks are; commands of another machine do not see them
    """

    def __init__(
        self, forks: Forks, folder: Path, findings: Findings, *, verbose: bool = False, machine: str = "state"
    ) -> None:
        self._forks = forks
        self._verbose = verbose
        self.folder = folder
        self.findings = findings
        self.state = folder / machine / "async_uploader"

    def on_machine(self, machine: str) -> Workspace:
        """The same directory on another machine."""
        return Workspace(self._forks, self.folder, self.findings, verbose=self._verbose, machine=machine)

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
        variables = {
            **command_environment(self.folder),
            "XDG_STATE_HOME": str(self.state.parent),
            child.VARIABLE: (instructions or Instructions()).text(),
        }
        return self._forks.python(
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
            self._dump_stack(process)
            process.kill()
            out, err = process.communicate()
            self.findings.add(
                Kind.HANG, f"{_display_command(process)} did not end within {seconds:g} s: {err[-300:]}"
            )
        result = CommandResult(code=process.returncode, out=out or "", err=err or "")
        self.check_traceback(result.out + result.err, _display_command(process))
        self.findings.check(KEY not in result.out + result.err, f"{_display_command(process)} prints a secret")
        return result

    def _dump_stack(self, process: subprocess.Popen[str]) -> None:
        """Make a command that hangs print its stack."""
        if self._verbose:
            process.send_signal(signal.SIGABRT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_STACK_SECONDS)

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


def finished_videos(service: Service) -> list[VideoView]:
    """All finished videos."""
    wait_until_finished(service)
    return [view for view in service.emulator.videos.values() if view.sha256 is not None]
