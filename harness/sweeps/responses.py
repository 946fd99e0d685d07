"""Responses that no service should send, to every command.

A proxy spoils the responses of one endpoint, once or every time. Whatever comes, a command ends in bounded time,
with exit code 0, 1 or 2, with one plain message if it failed, and without a traceback. The same upload, run again
with sound responses, makes exactly one finished video of each file.

A response that could be true but is not (a *lie*: another number, another verdict) may lead the uploader to give a
container up, and then to a second video: nobody can tell. Then only what the command says is checked.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from .bench import (
    PART_BYTES,
    Bench,
    Case,
    Done,
    Service,
    Workspace,
    finished,
    is_quiet,
    upload_flags,
    with_key,
)
from .child import Order, Strike
from .counts import Findings, Kind
from .proxy import Proxy, Request, Response, proxied
from .spoiling import Spoiled, Where, draw

NAME: Final = "responses"
CASES: Final = 600

# Waits that a response asks for end by then, and so does everything that trickles.
_STALL_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command, and what it asks the service for.

    :ivar words: VIDEO and TOKEN stand for one that exists
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
# Uploads have the most to read.
_WEIGHTS: Final = [6 if command.files else 2 for command in COMMANDS.values()]


def cases(bench: Bench, seed: int) -> Iterator[Case]:
    """So many, from a seed on."""
    return (case(bench, str(number)) for number in range(seed, seed + CASES))


def case(_bench: Bench, name: str) -> Case:
    """The one of a seed."""
    return Case(name=name, run=partial(_run, int(name)))


def _run(seed: int, bench: Bench, findings: Findings) -> None:
    dice = random.Random(seed)
    name = dice.choices(list(COMMANDS), _WEIGHTS)[0]
    command = COMMANDS[name]
    where = Where(
        endpoint=dice.choice(command.endpoints), numbers=dice.choice((None, frozenset({1}), frozenset({1, 2})))
    )
    spoiled = draw(dice)
    is_struck = False

    def spoil(request: Request, response: Response) -> Response:
        nonlocal is_struck
        if is_sound or not where.holds(request):
            return response
        is_struck = True
        return spoiled.apply(response)

    is_sound = True
    with bench.service() as service, bench.workspace(findings) as workspace, proxied(service, spoil) as proxy:
        scenario = _Scenario(bench, command, service, proxy, workspace)
        if dice.random() < 0.3 and command.files and "--no-resume" not in command.words:
            scenario.interrupt()
        is_sound = False
        done = scenario.run()
        scenario.check_end(done)
        is_sound = True
        if any(finding.kind is Kind.HANG for finding in findings.all):
            pass  # it was killed, which is another sweep's
        elif command.files and is_struck:
            scenario.check_again(done, spoiled)
    if findings.all:
        what = f"{spoiled.text} for {where.endpoint} {sorted(where.numbers) if where.numbers else 'always'}"
        findings.add(findings.all[0].kind, f"({name}: {what})", 0)


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
        self._environment = {"APIVIDEO_UPLOAD_TOKEN": token} if command.has_token else dict(with_key())
        words = list(command.words)
        if "VIDEO" in words:
            words[words.index("VIDEO")] = self._video_id()
        if "TOKEN" in words:
            words[words.index("TOKEN")] = token
        where = ("--base-url", f"http://127.0.0.1:{proxy.port}")
        flags = upload_flags(service) if names else ()
        self._words = (*words, *names, *flags, *(where if words[0] != "uploads" else ()))

    def _video_id(self) -> str:
        return self._service.ask(lambda client: client.create_video(title="there already")).video_id

    def interrupt(self) -> None:
        """A run that is killed before: the next one resumes."""
        strike = Strike(call="Journal.acknowledge", number=1, moment="after")
        self._workspace.run(*self._words, order=Order(strikes=(strike,)), environment=self._environment)
        self._service.wait_for(is_quiet)

    def run(self) -> Done:
        """With spoiled responses."""
        order = Order(stall_seconds=_STALL_SECONDS, max_attempts=2)
        flags = ("--stall-timeout", _STALL_SECONDS, "--max-attempts", "2") if self._sources else ()
        return self._workspace.run(*self._words, *flags, order=order, environment=self._environment)

    def check_end(self, done: Done) -> None:
        """How every command ends."""
        findings = self._findings
        findings.check(done.code in (0, 1, 2), f"unexpected {done.last_words}")
        if any(finding.kind is not Kind.WRONG for finding in findings.all):
            return  # what it said is not worth looking at
        most = max(1, len(self._sources)) if done.code else 0
        least = 1 if done.code else 0
        findings.check(least <= len(done.errors) <= most, f"{len(done.errors)} messages: {done.last_words}")
        for line in done.err.splitlines():
            findings.check(line.isprintable() and len(line) < 2000, f"no plain line: {line[:200]!r}")

    def check_again(self, before: Done, spoiled: Spoiled) -> None:
        """The same command with sound responses."""
        runs = 0
        done = before
        while done.code and runs < 3:
            done = self._workspace.run(*self._words, environment=self._environment)
            runs += 1
        self._findings.check(done.code == 0, f"it does not recover: {done.last_words}")
        if spoiled.is_lie or self._command.has_token:
            return
        for source in self._sources:
            count = sum(view.sha256 == source.sha256 for view in finished(self._service))
            self._findings.check(count, f"a file of {source.size_bytes} bytes is not there")
            self._findings.check(count <= 1, f"{count} finished videos of a file", Kind.DUPLICATE)
