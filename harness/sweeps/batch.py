"""Batches in which many files have a different fault each. The other files have to be uploaded nevertheless.

Once the command has checked its files and logs in, some files are damaged on disk. A proxy changes the responses
for others. The results file has an entry for every file. When the faults are over and the files are restored, the
same command has to end with exactly one finished video of each file.
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

from harness.service import Service

from .bench import Bench, Case
from .child import Instructions
from .corruptions import Corruption, random_corruption
from .counts import Findings, Kind
from .proxy import Request, Response, proxied
from .workspace import CommandResult, Source, Workspace, finished_videos, is_quiet, upload_flags

NAME: Final = "batch"
CASES: Final = 40

_FILES: Final = 24
_INTACT_FILES: Final = 8
_SIZE_BYTES: Final = 60_000
_ENDPOINTS: Final = ("create", "upload", "status", "get", "update")

Damage = Callable[[Path], None]


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


# Without named pipes: opening one waits for a writer, in every program.
_DAMAGES: Final[tuple[Damage, ...]] = (
    _unreadable, _vanished, _directory, _link_to_nothing, _loop, _empty, _shorter, _longer, _rewritten,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFault:
    """The fault of one file.

    :ivar damage: what happens to the file on disk
    :ivar corruption: what happens to its responses of ``endpoint``, once or always
    """

    text: str
    damage: Damage | None = None
    corruption: Corruption | None = None
    endpoint: str = ""
    is_once: bool = False


def cases(bench: Bench, seed: int) -> Iterator[Case]:
    """:data:`CASES` cases, from a seed on."""
    return (case(bench, str(number)) for number in range(seed, seed + CASES))


def case(_bench: Bench, name: str) -> Case:
    """The case of a seed."""
    return Case(name=name, run=partial(_run, int(name)))


def _random_faults(rng: random.Random) -> dict[str, FileFault | None]:
    """A fault for each file name. None: the file has no fault."""
    damages = rng.sample(_DAMAGES, 6)
    faults: list[FileFault | None] = [
        FileFault(text=damage.__name__.strip("_"), damage=damage) for damage in damages
    ]
    for _ in range(_FILES - _INTACT_FILES - len(faults)):
        # A rate limit affects all files.
        corruption = next(one for one in iter(partial(random_corruption, rng), None) if not one.is_of_account)
        endpoint = rng.choice(_ENDPOINTS)
        is_once = rng.random() < 0.5
        text = f"{corruption.text} for {endpoint} {'once' if is_once else 'always'}"
        faults.append(FileFault(text=text, corruption=corruption, endpoint=endpoint, is_once=is_once))
    faults += [None] * _INTACT_FILES
    rng.shuffle(faults)
    return {f"{number:02}.mp4": fault for number, fault in enumerate(faults)}


def _run(seed: int, bench: Bench, findings: Findings) -> None:
    rng = random.Random(seed)
    faults = _random_faults(rng)
    has_results = rng.random() < 0.7
    sources = {name: bench.source(_SIZE_BYTES, number) for number, name in enumerate(faults)}
    is_fixed = False

    with bench.service() as service, bench.workspace(findings) as workspace:
        for name, source in sources.items():
            workspace.copy(source, name)

        async def damage(request: Request) -> None:
            if request.endpoint == "auth" and request.number == 1 and not is_fixed:
                for name, fault in faults.items():
                    if fault is not None and fault.damage is not None:
                        fault.damage(workspace.folder / name)

        def transform(request: Request, response: Response) -> Response:
            fault = faults.get(request.title or "")
            if is_fixed or fault is None or fault.corruption is None or request.endpoint != fault.endpoint:
                return response
            return fault.corruption.apply(response) if not fault.is_once or request.number == 1 else response

        with proxied(service, transform, on_request=damage) as proxy:
            where = ("--base-url", f"http://127.0.0.1:{proxy.port}", "--concurrency", "4", "--json")
            results = ("--results", "results.jsonl") if has_results else ()
            command = ("upload", *faults, *upload_flags(service), *where, *results)
            limits = ("--stall-timeout", "1", "--max-attempts", "2")
            instructions = Instructions(is_unprivileged=True, stall_seconds=1.0, max_attempts=2)
            result = workspace.run(*command, *limits, instructions=instructions)
            _check(result, faults, sources, service, workspace, has_results=has_results)
            is_fixed = True
            if has_results and not any(finding.kind is Kind.HANG for finding in findings.all):
                service.wait_for(is_quiet)
                _restore(workspace, faults, sources)
                again = workspace.run(*command, instructions=Instructions(is_unprivileged=True))
                _check_again(again, faults, sources, service, workspace)


def _check(
    result: CommandResult,
    faults: dict[str, FileFault | None],
    sources: dict[str, Source],
    service: Service,
    workspace: Workspace,
    *,
    has_results: bool,
) -> None:
    """Every intact file has its video. Every error is reported once, for the right file."""
    findings = workspace.findings
    reported = _reported(result, findings)
    videos = {view.title: view for view in finished_videos(service)}
    for (name, fault), one in zip(faults.items(), reported, strict=False):
        title = f"{name} ({fault.text if fault else 'intact'})"
        has_failed = isinstance(one, dict) and "error" in one
        if fault is None:
            findings.check(not has_failed, f"{title} failed: {one!r:.300}")
            findings.check(
                name in videos and videos[name].sha256 == sources[name].sha256,
                f"{title} has no finished video with its bytes",
            )
        if has_failed:
            findings.check(
                # A sentence that begins with the name does not name the file twice.
                any(line.startswith((f"error: {name}: ", f"error: {name} ")) for line in result.errors),
                f"no message about {title}",
            )
    failed = sum("error" in one for one in reported)
    findings.check(result.code == (1 if failed else 0), f"{failed} failed: {result.summary}")
    findings.check(len(result.errors) == failed, f"{len(result.errors)} messages about {failed} files")
    if has_results:
        recorded = _recorded(workspace)
        for name, fault in faults.items():
            findings.check(
                name in recorded, f"the results have no entry for {name} ({fault.text if fault else 'intact'})"
            )


def _reported(result: CommandResult, findings: Findings) -> list[Any]:
    """The array on standard output, with one element per file."""
    try:
        reported = json.loads(result.out)
    except ValueError:
        findings.add(Kind.WRONG, f"no JSON on standard output: {result.out[-100:]!r}; {result.summary}")
        return []
    findings.check(
        len(reported) == _FILES, f"{len(reported)} of {_FILES} files on standard output: {result.summary}"
    )
    return list(reported)


def _recorded(workspace: Workspace) -> dict[str, Any]:
    """The last line about each file in the results file."""
    path = workspace.folder / "results.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return {Path(reported["path"]).name: reported for reported in map(json.loads, lines)}


def _restore(workspace: Workspace, faults: dict[str, FileFault | None], sources: dict[str, Source]) -> None:
    """Restore the damaged files."""
    for name, fault in faults.items():
        if fault is not None and fault.damage is not None:
            path = workspace.folder / name
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            path.unlink(missing_ok=True)
            shutil.copyfile(sources[name].path, path)


def _check_again(
    result: CommandResult,
    faults: dict[str, FileFault | None],
    sources: dict[str, Source],
    service: Service,
    workspace: Workspace,
) -> None:
    """Every file has one finished video."""
    findings = workspace.findings
    findings.check(result.code == 0, f"the next run does not recover: {result.summary}")
    for name, fault in faults.items():
        count = sum(view.sha256 == sources[name].sha256 for view in finished_videos(service))
        title = f"{name} ({fault.text if fault else 'intact'})"
        findings.check(count, f"{title} has no finished video")
        if fault is None or fault.corruption is None or not fault.corruption.is_plausible:
            findings.check(count <= 1, f"{count} finished videos of {title}", Kind.DUPLICATE)
