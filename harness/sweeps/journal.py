"""Mutations of the journal: of its values, schema, bytes and files.

A command that uploads two files is killed, which leaves a journal. The journal is mutated. Then the commands that
read it are run.

A broken journal makes one loss unavoidable: the containers of the killed run may stay, unfinished or finished,
because nothing else knows them. Otherwise, each file ends as one finished video with its bytes, no other container
is created, no stored byte is sent again, and every command ends with its exit code and one message. If a wrong
value has the type of its column, one run may fail; the next one has to succeed.
"""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from harness.service import Service

from .bench import Bench, Case
from .child import Injection, Instructions
from .counts import Findings
from .workspace import PART_BYTES, CommandResult, Source, Workspace, is_quiet, json_of, upload_flags

NAME: Final = "journal"
CASES: Final = 300

_SIZES: Final = (PART_BYTES + 1, 100_000)
_MAX_TEXT: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """What was changed.

    :ivar could_be_right: whether the new value is valid, so that no reader can detect it
    :ivar is_unprivileged: whether the commands have to run without root's permissions
    """

    text: str
    could_be_right: bool = False
    is_unprivileged: bool = False


Mutate = Callable[[Path, random.Random], Mutation]


def cases(_bench: Bench, seed: int) -> Iterator[Case]:
    """:data:`CASES` cases, from a seed on."""
    return (case(_bench, str(number)) for number in range(seed, seed + CASES))


def case(_bench: Bench, name: str) -> Case:
    """The case of a seed."""
    return Case(name=name, run=partial(_run, int(name)))


def _run(seed: int, bench: Bench, findings: Findings) -> None:
    rng = random.Random(seed)
    with bench.service() as service, bench.workspace(findings) as workspace:
        sources = [bench.source(size, number) for number, size in enumerate(_SIZES)]
        names = [workspace.copy(source, f"{number}.mp4").name for number, source in enumerate(sources)]
        command = ("upload", *names, *upload_flags(service))
        injection = Injection(
            call=rng.choice(("Journal.acknowledge", "output")), number=rng.randint(1, 2), moment="after"
        )
        workspace.run(*command, instructions=Instructions(injections=(injection,)))
        service.wait_for(is_quiet)
        before = set(service.emulator.videos)
        mutation = _mutate(rng)(workspace.state / "journal.sqlite3", rng)
        try:
            _check(rng, command, before, mutation, service, sources, workspace)
        finally:
            _allow(workspace.state)
        if findings.all:
            findings.add(findings.all[0].kind, f"(the mutation: {mutation.text[:200]})", 0)


def _check(
    rng: random.Random,
    command: tuple[object, ...],
    before: set[str],
    mutation: Mutation,
    service: Service,
    sources: list[Source],
    workspace: Workspace,
) -> None:
    findings = workspace.findings
    instructions = Instructions(is_unprivileged=mutation.is_unprivileged, busy_seconds=0.3)

    def run(*arguments: object) -> CommandResult:
        return workspace.run(*arguments, instructions=instructions)

    _check_message(run("uploads", *rng.choice(((), ("--json",)))), (0, 1), workspace)
    if before and rng.random() < 0.3:
        forget = ("forget", rng.choice(sorted(before)), *rng.choice(((), ("--delete",))))
        _check_message(run(*forget, "--base-url", service.emulator.url), (0, 1, 2), workspace)
    if rng.random() < 0.5:
        command = (*command, "--results", "results.jsonl")
    output = ""
    for is_last in (not mutation.could_be_right, True):
        result = run(*command)
        output += result.out
        if result.code == 0:
            break
        if is_last:
            findings.check(False, f"the upload does not succeed: {result.summary}")
            break
        _check_message(result, (1,), workspace)
    workspace.check_videos(service, sources, unavoidable=_unavoidable(before, output, service))
    _check_message(run("uploads", "--json"), (0, 1), workspace)


def _unavoidable(before: set[str], output: str, service: Service) -> set[str]:
    """The containers of the killed run that no later run has finished."""
    return {video_id for video_id in before if video_id not in output} & set(service.emulator.videos)


def _check_message(result: CommandResult, codes: tuple[int, ...], workspace: Workspace) -> None:
    """Check that the command ends with one of these codes, and with a message unless the code is 0."""
    findings = workspace.findings
    findings.check(result.code in codes, f"unexpected {result.summary}")
    findings.check(not result.code or result.errors, f"no message: {result.summary}")
    if not result.code and result.out.startswith("["):
        findings.check(json_of(result.out) is not None, f"no JSON: {result.out[-200:]!r}")


_VALUES: Final[tuple[object, ...]] = (
    None, 0, -1, 1, 2**31, 2**63 - 1, -(2**63), 0.5, -1e300, float("inf"), "", " ", "abc", "0", "-7", "1e400",
    "nan", "part", "bytes", "..", "../../etc/passwd", "a\0b", "\x1b[2J", "é\u202e", b"", b"\xff\xfe\x00",
    b"\xed\xa0\x80", "9" * 400, "x" * _MAX_TEXT, "{}", "[]", "null", '{"videoId": null}', '{"videoId": "vi1"}',
    "[" * 5000,
)  # fmt: skip


def _value(path: Path, rng: random.Random) -> Mutation:
    """Another value in a column, even against the schema."""
    with closing(_opened(path)) as database:
        table = rng.choice([table for table in _tables(database) if _rows(database, table)] or ["upload"])
        columns = {name: kind for _, name, kind, *_ in database.execute(f"PRAGMA table_info({table})")}
        column = rng.choice(list(columns))
        value = rng.choice(_VALUES)
        old = [row[0] for row in database.execute(f"SELECT typeof({column}) FROM {table}")]
        _loosen(database, table)
        where = rng.choice(("", "WHERE rowid = (SELECT max(rowid) FROM {table})")).format(table=table)
        bound = "CAST(? AS TEXT)" if isinstance(value, bytes) and rng.random() < 0.5 else "?"
        database.execute(f"UPDATE {table} SET {column} = {bound} {where}", (value,))
        new = [row[0] for row in database.execute(f"SELECT typeof({column}) FROM {table}")]
        database.commit()
    return Mutation(text=f"{table}.{column} = {value!r:.60} {where}", could_be_right=bool(set(old) & set(new)))


def _loosen(database: sqlite3.Connection, table: str) -> None:
    """Replace a table by one without types and constraints, so that every value fits."""
    database.execute(f"CREATE TABLE loose AS SELECT * FROM {table}")
    database.execute("PRAGMA foreign_keys = OFF")
    database.execute("PRAGMA legacy_alter_table = ON")
    database.execute(f"DROP TABLE {table}")
    database.execute(f"ALTER TABLE loose RENAME TO {table}")


_STATEMENTS: Final = (
    "PRAGMA user_version = 0", "PRAGMA user_version = 1", "PRAGMA user_version = 99",
    "PRAGMA user_version = -1", "DROP TABLE part", "DROP TABLE upload", "DROP TABLE intent",
    "DELETE FROM upload", "DELETE FROM part", "ALTER TABLE upload DROP COLUMN video_id",
    "ALTER TABLE upload DROP COLUMN sample", "ALTER TABLE upload ADD COLUMN other TEXT",
    "ALTER TABLE part RENAME TO parts",
    "CREATE TRIGGER no BEFORE INSERT ON part BEGIN SELECT RAISE(ABORT, 'no'); END",
    "CREATE TRIGGER no BEFORE INSERT ON upload BEGIN SELECT RAISE(ABORT, 'no'); END",
    "CREATE TRIGGER no BEFORE DELETE ON upload BEGIN SELECT RAISE(FAIL, 'no'); END",
    "CREATE TRIGGER no BEFORE UPDATE ON upload BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
    "UPDATE part SET number = number + 1", "INSERT INTO part (upload_id, number) VALUES (4711, 1)",
    "INSERT INTO part (upload_id, number) SELECT id, 9999 FROM upload", "PRAGMA journal_mode = DELETE",
    "PRAGMA journal_mode = OFF", "PRAGMA application_id = 7", "UPDATE upload SET path = x'2f00ff'",
    "UPDATE upload SET part_bytes = 6291456", "UPDATE upload SET ranges = 'bytes'",
    "UPDATE upload SET mtime_ns = mtime_ns + 1", "UPDATE upload SET size_bytes = size_bytes + 1",
    "UPDATE upload SET started_at = 0", "UPDATE upload SET started_at = 9e9",
    "UPDATE upload SET video_id = (SELECT max(video_id) FROM upload)",
)  # fmt: skip


def _statement(path: Path, rng: random.Random) -> Mutation:
    """Another schema, or contradictory rows."""
    statement = rng.choice(_STATEMENTS)
    with (
        closing(_opened(path)) as database,
        suppress(sqlite3.Error),
    ):  # some statements fail with some versions of SQLite or of the schema
        database.execute("PRAGMA foreign_keys = OFF")
        database.execute(statement)
        database.commit()
    return Mutation(text=statement, could_be_right=statement.startswith(("UPDATE", "INSERT", "DELETE")))


def _flips(path: Path, rng: random.Random) -> Mutation:
    """Flipped bits in the database or its log."""
    target = rng.choice([one for one in _files(path) if one.stat().st_size])
    content = bytearray(target.read_bytes())
    places = [
        rng.randrange(min(len(content), rng.choice((100, len(content))))) for _ in range(rng.choice((1, 3, 50)))
    ]
    for place in places:
        content[place] ^= 1 << rng.randrange(8)
    target.write_bytes(content)
    return Mutation(text=f"flipped bits of {target.name} at {places[:5]}", could_be_right=True)


def _cut(path: Path, rng: random.Random) -> Mutation:
    """A truncated or extended file."""
    target = rng.choice(_files(path))
    size = rng.choice(
        (0, 1, 16, 99, 100, 512, 4095, 4096, target.stat().st_size // 2, target.stat().st_size + 5000)
    )
    os.truncate(target, size)
    return Mutation(text=f"{target.name} is cut to {size} bytes")


def _garbage(path: Path, rng: random.Random) -> Mutation:
    """Random bytes."""
    target = rng.choice(_files(path))
    target.write_bytes(rng.randbytes(rng.choice((10, 5000, 100_000))))
    return Mutation(text=f"{target.name} is random bytes")


def _removed(path: Path, rng: random.Random) -> Mutation:
    """The database, its log or both are missing."""
    gone = rng.choice(("-wal", "-shm", "", "-wal -shm"))
    for suffix in gone.split(" "):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return Mutation(text=f"removed {path.name}{gone}")


def _replaced(path: Path, rng: random.Random) -> Mutation:
    """Something that is not a regular file."""
    kind = rng.choice(("directory", "dangling link", "loop", "FIFO", "device"))
    target = rng.choice((path, path.with_name("locks"), path.with_name(path.name + "-wal")))
    if target.is_dir():
        for one in target.iterdir():
            one.unlink()
        target.rmdir()
    target.unlink(missing_ok=True)
    match kind:
        case "directory":
            target.mkdir()
            (target / "x").mkdir()
        case "dangling link":
            target.symlink_to(path.with_name("nowhere") / "x")
        case "loop":
            target.symlink_to(target)
        case "FIFO":
            os.mkfifo(target)
        case _:
            target.symlink_to("/dev/full")
    return Mutation(text=f"{target.name} is a {kind}")


def _permissions(path: Path, rng: random.Random) -> Mutation:
    """Without read, write or execute permission."""
    target = rng.choice(
        (path, path.parent, path.with_name("locks"), path.parent.parent, path.with_name(path.name + "-wal"))
    )
    mode = rng.choice((0, 0o400, 0o500, 0o200, 0o300))
    if target.exists():
        target.chmod(mode)
    return Mutation(text=f"{target.name} has the mode {mode:o}", is_unprivileged=True)


_MUTATIONS: Final[dict[Mutate, int]] = {
    _value: 12, _statement: 5, _flips: 3, _cut: 2, _garbage: 1, _removed: 2, _replaced: 2, _permissions: 2,
}  # fmt: skip


def _mutate(rng: random.Random) -> Mutate:
    return rng.choices(list(_MUTATIONS), list(_MUTATIONS.values()))[0]


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path)


def _tables(database: sqlite3.Connection) -> list[str]:
    return [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]


def _rows(database: sqlite3.Connection, table: str) -> Any:
    return database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def _files(path: Path) -> list[Path]:
    return sorted(one for one in path.parent.glob(f"{path.name}*") if one.is_file())


def _allow(state: Path) -> None:
    """Restore the permissions, so that the directory can be deleted."""
    for folder in (state.parent, state, state / "locks"):
        if folder.is_dir() and not folder.is_symlink():
            folder.chmod(0o700)
