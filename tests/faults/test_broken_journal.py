"""Damaged journals: uploads succeed, without tracebacks or hangs, and undamaged rows stay usable."""

from __future__ import annotations

import logging
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final
from unittest import mock

import anyio
import pytest

from async_uploader import UploaderError, list_unfinished
from async_uploader._limits import MIB
from async_uploader._resume import locks
from async_uploader._resume.entry import Account, Fingerprint, NewEntry
from async_uploader._resume.journal import Journal
from async_uploader._sources.identity import Identity
from harness.forking import Forks
from harness.world import KEY, PART, Source, check_sentence, run_upload, service

from .leaks import join_threads
from .resuming import interrupted_upload

SourceOf = Callable[[int], Source]

_BYTES: Final = PART + 1

# Values that a damaged file, or a person with sqlite3, can put into a column.
_VALUES: Final[tuple[Any, ...]] = (
    None, 0, -1, 2**63 - 1, -(2**63), 1.5, float("inf"), "", "x", "part", "\x1b[2J\n", "../..", "9" * 400,
    b"", b"\xff\xfe", b"/\0", b"x" * 100_000,
)  # fmt: skip
_UPLOAD: Final = (
    "id", "path", "account", "base_url", "video_id", "size_bytes", "mtime_ns", "device", "inode", "sample",
    "ranges", "part_bytes", "started_at", "ctime_ns", "video",
)  # fmt: skip
_PART: Final = ("number", "checksum")


def _fill(path: Path, *, entries: int = 3) -> None:
    journal = Journal(path)
    for number in range(entries):
        identity = Identity(size_bytes=11 * MIB, mtime_ns=number, device=1, inode=2**64 - 1 - number)
        upload = NewEntry(
            path=path.parent / f"{number}.mp4",
            account=Account(fingerprint="a" * 32, base_url="http://127.0.0.1:1"),
            video_id=f"vi{number}",
            fingerprint=Fingerprint(identity=identity, sample="b" * 32),
            ranges="part",
            part_bytes=PART,
            ctime_ns=1,
        )
        entry = journal.begin(upload)
        journal.acknowledge(entry.id, 1, checksum=b"c" * 16, ctime_ns=1)
    journal.close()


def _mutate(path: Path, table: str, column: str, value: Any) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA ignore_check_constraints = ON")
        database.execute("PRAGMA foreign_keys = OFF")
        key = "upload_id" if table == "part" else "id"
        try:
            with database:
                if isinstance(value, bytes) and column not in ("path", "checksum"):
                    value = sqlite3.Binary(value)
                database.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = 2", (value,))
        except sqlite3.IntegrityError:
            # NOT NULL constrains statements, but not damaged pages.
            with database:
                database.execute("PRAGMA writable_schema = ON")
                database.execute("UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', '')")
            database.close()
            with closing(sqlite3.connect(path)) as again, again:
                try:
                    again.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = 2", (value,))
                except sqlite3.IntegrityError:
                    return  # the primary key refuses this value


_DAMAGES: Final = [
    *(("upload", column, value) for column in _UPLOAD for value in _VALUES),
    *(("part", column, value) for column in _PART for value in _VALUES),
]


def test_damaged_values(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Other rows are read. The damaged one is removed with one warning."""
    template = tmp_path / "template.sqlite3"
    _fill(template)
    removed = 0
    for number, (table, column, value) in enumerate(_DAMAGES):
        path = tmp_path / f"{number}.sqlite3"
        shutil.copyfile(template, path)
        _mutate(path, table, column, value)
        caplog.clear()
        journal = Journal(path)
        found = journal.unfinished()
        ids = {entry.video_id for entry in found}
        assert ids >= {"vi0", "vi2"}, (table, column, value)
        for entry in found:
            assert len(list(entry.plan.parts())) <= 10_000
            assert len(entry.missing) <= 10_000
        warnings = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
        assert len(warnings) == (len(found) < 3), (table, column, value)
        if warnings:
            removed += 1
            assert str(path) in warnings[0]
            check_sentence(warnings[0])
            caplog.clear()
            assert len(journal.unfinished()) == 2
            assert caplog.records == []
        journal.close()
        path.unlink()
    assert removed > len(_DAMAGES) // 2


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    """By default, the sqlite3 module fails the whole query because of one such value."""
    path = tmp_path / "journal.sqlite3"
    _fill(path)
    for column in ("account", "base_url", "video_id", "device", "sample", "ranges"):
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(f"UPDATE upload SET {column} = CAST(X'61ff62' AS TEXT) WHERE id = 2")
        journal = Journal(path)
        assert [entry.video_id for entry in journal.unfinished()] == ["vi0", "vi2"]
        journal.close()


def test_random_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Random bytes anywhere in the file: queries succeed, or raise an error that the callers handle."""
    template = tmp_path / "template.sqlite3"
    _fill(template)
    content = template.read_bytes()
    rng = random.Random(8)
    # Most of the file is empty pages, where damage has no effect.
    written = [offset for offset, byte in enumerate(content) if byte]
    opened = 0
    for number in range(400):
        path = tmp_path / f"{number}.sqlite3"
        damaged = bytearray(content)
        for _ in range(rng.choice((1, 1, 2, 8))):
            damaged[rng.choice(written)] = rng.randrange(256)
        path.write_bytes(damaged)
        journal = Journal(path)
        try:
            for entry in journal.unfinished():
                assert len(entry.missing) <= 10_000
                journal.find(entry.path, entry.fingerprint.identity)
                journal.acknowledge(entry.id, 2, checksum=b"d" * 16, ctime_ns=2)
            opened += 1
        except (sqlite3.Error, OSError):
            pass
        finally:
            journal.close()
        for left in tmp_path.glob(f"{number}.sqlite3*"):
            left.unlink()
    assert opened > 100


def test_lock_files_that_cannot_be_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The locks are released all the same, each of them."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    held = [locks.acquire(name) for name in ("path", "inode")]
    with mock.patch.object(Path, "unlink", side_effect=PermissionError):
        locks.release(held)
    locks.release([locks.acquire(name) for name in ("path", "inode")])


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(24))
async def test_upload_with_a_damaged_journal(seed: int, source_of: SourceOf, state: Path) -> None:
    """The upload succeeds, and ``list_unfinished`` raises nothing but UploaderError."""
    source = source_of(_BYTES)
    rng = random.Random(seed)
    path = state / "async_uploader" / "journal.sqlite3"
    async with service() as emulator:
        await interrupted_upload(emulator, source)
        await join_threads()
        if seed % 2:
            with closing(sqlite3.connect(path)) as database, database:
                table, columns = rng.choice((("upload", _UPLOAD), ("part", _PART)))
                try:
                    database.execute(f"UPDATE {table} SET {rng.choice(columns)} = ?", (rng.choice(_VALUES),))
                except sqlite3.IntegrityError:
                    database.execute("UPDATE upload SET video_id = X'00'")
        else:
            content = bytearray(path.read_bytes())
            written = [offset for offset, byte in enumerate(content) if byte]
            for _ in range(4):
                content[rng.choice(written)] = rng.randrange(256)
            path.write_bytes(content)
        with suppress(UploaderError):
            await list_unfinished()
        run = await run_upload(emulator, source, resume="local")
        assert run.video is not None, run.error
        assert (await emulator.finished(run.video.video_id)).sha256 == source.sha256


@pytest.mark.anyio
@pytest.mark.parametrize("statement", [
    "UPDATE upload SET size_bytes = 'much' WHERE id = 2",
    "UPDATE upload SET video_id = CAST(X'ff' AS TEXT) WHERE id = 2",
    "UPDATE upload SET part_bytes = 1, size_bytes = 50000000000 WHERE id = 2",
    "UPDATE part SET number = 77 WHERE upload_id = 2",
    "UPDATE upload SET ranges = 'bits', device = -5, inode = 'x', started_at = 9e999 WHERE id = 2",
])  # fmt: skip
async def test_commands_with_a_damaged_row(
    statement: str, forks: Forks, source_of: SourceOf, tmp_path: Path, state: Path
) -> None:
    """``uploads`` and ``--results`` warn once, and use the other rows."""
    path = state / "async_uploader" / "journal.sqlite3"
    path.parent.mkdir(parents=True)
    source = source_of(_BYTES)
    for command in (["uploads"], ["upload", str(source.path), "--results", "done.jsonl"]):
        path.unlink(missing_ok=True)
        _fill(path)
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(statement)
        async with service() as emulator:
            environment = {
                "APIVIDEO_API_KEY": KEY, "APIVIDEO_BASE_URL": emulator.url, "XDG_STATE_HOME": str(state),
            }  # fmt: skip
            with forks.command(
                command, tmp_path, environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ) as process:
                out, err = await anyio.to_thread.run_sync(process.communicate)
        assert process.returncode == 0, err
        assert "Traceback" not in err
        assert err.count("Removed damaged entries from the journal ") == err.count(".sqlite3: 1") == 1
        if command == ["uploads"]:
            assert [line.split()[0] for line in out.splitlines()] == ["vi0", "vi2"]
