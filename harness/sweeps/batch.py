"""A batch in which every file meets another oddity, and the others have to be uploaded all the same.

Once the command has checked its files and logs in, some of them are spoiled on disk; the responses to others are
spoiled by a proxy. The results say of each file what happened. When the oddities are over and the files are whole
again, the same command ends with exactly one finished video of each file.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from .bench import Bench, Case, Done, Service, Source, Workspace, finished, is_quiet, upload_flags
from .child import Order
from .counts import Findings, Kind
from .proxy import Request, Response, proxied
from .spoiling import Spoiled, draw

NAME: Final = "batch"
CASES: Final = 40

_FILES: Final = 24
_SOUND: Final = 8
_SIZE_BYTES: Final = 60_000
_ENDPOINTS: Final = ("create", "upload", "status", "get", "update")

Hurt = Callable[[Path], None]


def _unreadable(path: Path) -> None:
    path.chmod(0)


def _vanished(path: Path) -> None:
    path.unlink()


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _shorter(path: Path) -> None:
    os.truncate(path, _SIZE_BYTES // 2)


def _longer(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x" * 1000)


def _rewritten(path: Path) -> None:
    path.write_bytes(bytes(_SIZE_BYTES))


# Not a named pipe in place of a file: an upload waits for the writer of a pipe, as every program does.
_HURTS: Final[tuple[Hurt, ...]] = (
    _unreadable, _vanished, _directory, _link_to_nothing, _loop, _empty, _shorter, _longer, _rewritten,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Oddity:
    """What one file meets.

    :ivar hurt: what happens to it on disk
    :ivar spoiled: what happens to its responses, at this endpoint, once or always
    """

    text: str
    hurt: Hurt | None = None
    spoiled: Spoiled | None = None
    endpoint: str = ""
    is_once: bool = False


def cases(bench: Bench, seed: int) -> Iterator[Case]:
    """So many, from a seed on."""
    return (case(bench, str(number)) for number in range(seed, seed + CASES))


def case(_bench: Bench, name: str) -> Case:
    """The one of a seed."""
    return Case(name=name, run=partial(_run, int(name)))


def _roll(dice: random.Random) -> dict[str, Oddity | None]:
    """By the file's name; None: it meets nothing."""
    hurts = dice.sample(_HURTS, 6)
    oddities: list[Oddity | None] = [Oddity(text=hurt.__name__.strip("_"), hurt=hurt) for hurt in hurts]
    for _ in range(_FILES - _SOUND - len(oddities)):
        # A limit of the account is no oddity of one file: it holds for all of them.
        spoiled = next(one for one in iter(partial(draw, dice), None) if not one.is_of_account)
        endpoint = dice.choice(_ENDPOINTS)
        is_once = dice.random() < 0.5
        text = f"{spoiled.text} for {endpoint} {'once' if is_once else 'always'}"
        oddities.append(Oddity(text=text, spoiled=spoiled, endpoint=endpoint, is_once=is_once))
    oddities += [None] * _SOUND
    dice.shuffle(oddities)
    return {f"{number:02}.mp4": oddity for number, oddity in enumerate(oddities)}


def _run(seed: int, bench: Bench, findings: Findings) -> None:
    dice = random.Random(seed)
    oddities = _roll(dice)
    has_results = dice.random() < 0.7
    sources = {name: bench.source(_SIZE_BYTES, number) for number, name in enumerate(oddities)}
    is_over = False

    with bench.service() as service, bench.workspace(findings) as workspace:
        for name, source in sources.items():
            workspace.copy(source, name)

        async def hurt(request: Request) -> None:
            if request.endpoint == "auth" and request.number == 1 and not is_over:
                for name, oddity in oddities.items():
                    if oddity is not None and oddity.hurt is not None:
                        oddity.hurt(workspace.folder / name)

        def spoil(request: Request, response: Response) -> Response:
            oddity = oddities.get(request.title or "")
            if is_over or oddity is None or oddity.spoiled is None or request.endpoint != oddity.endpoint:
                return response
            return oddity.spoiled.apply(response) if not oddity.is_once or request.number == 1 else response

        with proxied(service, spoil, on_request=hurt) as proxy:
            flags = ("--stall-timeout", "0.5", "--max-attempts", "2", "--concurrency", "4", "--json")
            where = ("--base-url", f"http://127.0.0.1:{proxy.port}")
            results = ("--results", "results.jsonl") if has_results else ()
            command = ("upload", *oddities, *upload_flags(service), *flags, *where, *results)
            order = Order(is_unprivileged=True, stall_seconds=0.5, max_attempts=2)
            done = workspace.run(*command, order=order)
            _check(done, oddities, sources, service, workspace, has_results=has_results)
            is_over = True
            if has_results and not any(finding.kind is Kind.HANG for finding in findings.all):
                service.wait_for(is_quiet)
                _restore(workspace, oddities, sources)
                _check_again(workspace.run(*command, order=order), oddities, sources, service, workspace)


def _check(
    done: Done,
    oddities: dict[str, Oddity | None],
    sources: dict[str, Source],
    service: Service,
    workspace: Workspace,
    *,
    has_results: bool,
) -> None:
    """Every sound file is there; what is said of the others, is said of each, and true."""
    findings = workspace.findings
    told = _told(done, findings)
    there = {view.title: view for view in finished(service)}
    for (name, oddity), one in zip(oddities.items(), told, strict=False):
        title = f"{name} ({oddity.text if oddity else 'sound'})"
        is_failed = isinstance(one, dict) and "error" in one
        if oddity is None:
            findings.check(not is_failed, f"{title} failed: {one!r:.300}")
            findings.check(
                name in there and there[name].sha256 == sources[name].sha256, f"{title} is not there as it was"
            )
        if is_failed:
            findings.check(
                any(line.startswith(f"error: {name}: ") for line in done.errors), f"no message about {title}"
            )
    failed = sum("error" in one for one in told)
    findings.check(done.code == (1 if failed else 0), f"{failed} failed: {done.last_words}")
    findings.check(len(done.errors) == failed, f"{len(done.errors)} messages about {failed} files")
    if has_results:
        recorded = _recorded(workspace)
        for name, oddity in oddities.items():
            findings.check(
                name in recorded, f"the results know nothing of {name} ({oddity.text if oddity else 'sound'})"
            )


def _told(done: Done, findings: Findings) -> list[Any]:
    """The array on standard output, one element for each file."""
    try:
        told = json.loads(done.out)
    except ValueError:
        findings.add(Kind.WRONG, f"no JSON on standard output: {done.out[-100:]!r}; {done.last_words}")
        return []
    findings.check(len(told) == _FILES, f"{len(told)} of {_FILES} files on standard output: {done.last_words}")
    return list(told)


def _recorded(workspace: Workspace) -> dict[str, Any]:
    """The last line of the results about each file."""
    path = workspace.folder / "results.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return {Path(told["path"]).name: told for told in map(json.loads, lines)}


def _restore(workspace: Workspace, oddities: dict[str, Oddity | None], sources: dict[str, Source]) -> None:
    """The files as they were, those that were hurt at a later time."""
    for name, oddity in oddities.items():
        if oddity is not None and oddity.hurt is not None:
            path = workspace.folder / name
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            path.unlink(missing_ok=True)
            shutil.copyfile(sources[name].path, path)


def _check_again(
    done: Done,
    oddities: dict[str, Oddity | None],
    sources: dict[str, Source],
    service: Service,
    workspace: Workspace,
) -> None:
    """Everything is there, once."""
    findings = workspace.findings
    findings.check(done.code == 0, f"it does not recover: {done.last_words}")
    for name, oddity in oddities.items():
        count = sum(view.sha256 == sources[name].sha256 for view in finished(service))
        title = f"{name} ({oddity.text if oddity else 'sound'})"
        findings.check(count, f"{title} is not there in the end")
        if oddity is None or oddity.spoiled is None or not oddity.spoiled.is_lie:
            findings.check(count <= 1, f"{count} finished videos of {title}", Kind.DUPLICATE)
