"""Invalid responses to every command.

A proxy changes the responses of one endpoint, once or always. Every command has to end in bounded time, with exit
code 0, 1 or 2, without a traceback, and with one message if it fails. The same upload with valid responses then
has to make exactly one finished video of each file.

A *plausible* corruption (another number, another status) may cause the uploader to abandon a container and create
a second video, because no client can detect it. In these cases only the command's output is checked.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from harness.service import Service

from .bench import Bench, Case
from .child import Injection, Instructions
from .corruptions import Corruption, RequestFilter, random_corruption
from .counts import Findings, Kind
from .proxy import Proxy, Request, Response, proxied
from .workspace import (
    PART_BYTES,
    CommandResult,
    Workspace,
    finished_videos,
    is_quiet,
    key_environment,
    upload_flags,
)

NAME: Final = "responses"
CASES: Final = 600

# Keeps slow responses short.
_STALL_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command, and the endpoints that it uses.

    :ivar words: the arguments; VIDEO and TOKEN stand for existing ones
    :ivar files: the sizes of the files that it uploads
    """

    words: tuple[str, ...]
    endpoints: tuple[str, ...]
    files: tuple[int, ...] = ()
    has_token: bool = False


_UPLOADS: Final = ("auth", "create", "upload", "upload", "upload", "status", "get", "list", "update", "delete")
COMMANDS: Final = {
    "upload": Command(words=("upload",), endpoints=_UPLOADS, files=(100_000,)),
    "upload of parts": Command(words=("upload",), endpoints=_UPLOADS, files=(PART_BYTES + 1,)),
    "upload --resume": Command(words=("upload", "--resume"), endpoints=_UPLOADS, files=(PART_BYTES + 1,)),
    "upload --no-resume": Command(words=("upload", "--no-resume"), endpoints=_UPLOADS, files=(100_000,)),
    "upload --wait": Command(
        words=("upload", "--wait", "--wait-timeout", "5", "--json"), endpoints=("get", "status"), files=(1000,)
    ),
    "upload of several": Command(words=("upload", "--json"), endpoints=_UPLOADS, files=(100_000, 1000, 2000)),
    "upload with a token": Command(
        words=("upload",), endpoints=("upload",), files=(PART_BYTES + 1,), has_token=True
    ),
    "import": Command(words=("import", "https://example.invalid/x.mp4"), endpoints=("auth", "create")),
    "import --json": Command(words=("import", "VIDEO", "--json"), endpoints=("auth", "create")),
    "status": Command(words=("status", "VIDEO"), endpoints=("auth", "status")),
    "status --json": Command(words=("status", "VIDEO", "--json"), endpoints=("auth", "status")),
    "delete": Command(words=("delete", "VIDEO"), endpoints=("auth", "delete")),
    "forget": Command(words=("forget", "VIDEO", "--delete"), endpoints=("auth", "delete")),
    "tokens create": Command(words=("tokens", "create"), endpoints=("auth", "tokens")),
    "tokens create --json": Command(words=("tokens", "create", "--json"), endpoints=("auth", "tokens")),
    "tokens list": Command(words=("tokens", "list"), endpoints=("auth", "tokens")),
    "tokens list --json": Command(words=("tokens", "list", "--json"), endpoints=("auth", "tokens")),
    "tokens delete": Command(words=("tokens", "delete", "TOKEN"), endpoints=("auth", "tokens")),
    "uploads": Command(words=("uploads",), endpoints=("auth",)),
}
# Uploads read the most responses.
_WEIGHTS: Final = [6 if command.files else 2 for command in COMMANDS.values()]


def cases(bench: Bench, seed: int) -> Iterator[Case]:
    """:data:`CASES` cases, from a seed on."""
    return (case(bench, str(number)) for number in range(seed, seed + CASES))


def case(_bench: Bench, name: str) -> Case:
    """The case of a seed."""
    return Case(name=name, run=partial(_run, int(name)))


def _run(seed: int, bench: Bench, findings: Findings) -> None:
    rng = random.Random(seed)
    name = rng.choices(list(COMMANDS), _WEIGHTS)[0]
    command = COMMANDS[name]
    where = RequestFilter(
        endpoint=rng.choice(command.endpoints), numbers=rng.choice((None, frozenset({1}), frozenset({1, 2})))
    )
    corruption = random_corruption(rng)
    is_corrupted = False

    def transform(request: Request, response: Response) -> Response:
        nonlocal is_corrupted
        if is_valid or not where.matches(request):
            return response
        is_corrupted = True
        return corruption.apply(response)

    is_valid = True
    with bench.service() as service, bench.workspace(findings) as workspace, proxied(service, transform) as proxy:
        scenario = _Scenario(bench, command, service, proxy, workspace)
        if rng.random() < 0.3 and command.files and "--no-resume" not in command.words:
            scenario.interrupt()
        is_valid = False
        result = scenario.run()
        scenario.check_end(result)
        is_valid = True
        if any(finding.kind is Kind.HANG for finding in findings.all):
            pass  # it was killed; see the sweep `kills`
        elif command.files and is_corrupted:
            scenario.check_again(result, corruption)
    if findings.all:
        description = (
            f"{corruption.text} for {where.endpoint} {sorted(where.numbers) if where.numbers else 'always'}"
        )
        findings.add(findings.all[0].kind, f"({name}: {description})", 0)


class _Scenario:
    def __init__(
        self, bench: Bench, command: Command, service: Service, proxy: Proxy, workspace: Workspace
    ) -> None:
        self._command = command
        self._service = service
        self._workspace = workspace
        self._findings = workspace.findings
        self._sources = [bench.source(size, number) for number, size in enumerate(command.files)]
        names = [workspace.copy(source, f"{number}.mp4").name for number, source in enumerate(self._sources)]
        token = service.make_token() if command.has_token or "TOKEN" in command.words else ""
        self._environment = {"APIVIDEO_UPLOAD_TOKEN": token} if command.has_token else dict(key_environment())
        words = list(command.words)
        if "VIDEO" in words:
            words[words.index("VIDEO")] = self._video_id()
        if "TOKEN" in words:
            words[words.index("TOKEN")] = token
        where = ("--base-url", f"http://127.0.0.1:{proxy.port}")
        flags = upload_flags(service) if names else ()
        self._words = (*words, *names, *flags, *(where if words[0] != "uploads" else ()))

    def _video_id(self) -> str:
        return self._service.request(lambda client: client.create_video(title="existing video")).video_id

    def interrupt(self) -> None:
        """Kill an upload, so that the next run resumes it."""
        injection = Injection(call="Journal.acknowledge", number=1, moment="after")
        self._workspace.run(
            *self._words, instructions=Instructions(injections=(injection,)), environment=self._environment
        )
        self._service.wait_for(is_quiet)

    def run(self) -> CommandResult:
        """Run the command with invalid responses."""
        instructions = Instructions(stall_seconds=_STALL_SECONDS, max_attempts=2)
        flags = ("--stall-timeout", _STALL_SECONDS, "--max-attempts", "2") if self._sources else ()
        return self._workspace.run(*self._words, *flags, instructions=instructions, environment=self._environment)

    def check_end(self, result: CommandResult) -> None:
        """Check exit code and messages."""
        findings = self._findings
        findings.check(result.code in (0, 1, 2), f"unexpected {result.summary}")
        if any(finding.kind is not Kind.WRONG for finding in findings.all):
            return  # the output after a hang or a traceback is meaningless
        max_errors = max(1, len(self._sources)) if result.code else 0
        min_errors = 1 if result.code else 0
        findings.check(
            min_errors <= len(result.errors) <= max_errors, f"{len(result.errors)} messages: {result.summary}"
        )
        for line in result.err.splitlines():
            findings.check(line.isprintable() and len(line) < 2000, f"unreadable line: {line[:200]!r}")

    def check_again(self, before: CommandResult, corruption: Corruption) -> None:
        """Run the same command with valid responses, and check the videos."""
        runs = 0
        result = before
        while result.code and runs < 3:
            result = self._workspace.run(*self._words, environment=self._environment)
            runs += 1
        self._findings.check(result.code == 0, f"the next run does not recover: {result.summary}")
        if corruption.is_plausible or self._command.has_token:
            return
        for source in self._sources:
            count = sum(view.sha256 == source.sha256 for view in finished_videos(self._service))
            self._findings.check(count, f"a file of {source.size_bytes} bytes has no finished video")
            self._findings.check(count <= 1, f"{count} finished videos of a file", Kind.DUPLICATE)
