"""What was begun and how far it got, on disk: enough to go on after a crash, and no secret.

SQLite in WAL mode with ``synchronous=FULL``: a row that was written is there after kill -9 and after a power
cut, several processes may write, and the file is never half of anything. What the journal says is never
believed over the service: it tells where to ask and how the source was cut. Only an upload token, which cannot
ask, has to trust it.

Everything here blocks; :mod:`._resume` calls it in a thread.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import platformdirs
import tenacity

from ._plan import Part, Plan
from ._source import Identity

# Others write for moments only.
_BUSY_SECONDS: Final = 10
# Each entry leads from one version of the schema to the next; the first one makes an empty journal.
_MIGRATIONS: Final = (
    """
CREATE TABLE upload (
    id INTEGER PRIMARY KEY,
    path BLOB NOT NULL,          -- as the file system has it, UTF-8 or not
    account TEXT NOT NULL,       -- a fingerprint of credential and host, see Account
    base_url TEXT NOT NULL,
    video_id TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    device TEXT NOT NULL,        -- unsigned 64 bits, which INTEGER cannot hold
    inode TEXT NOT NULL,
    sample TEXT NOT NULL,        -- see FileSource.sample
    ranges TEXT NOT NULL,
    part_bytes INTEGER NOT NULL,
    started_at REAL NOT NULL,
    UNIQUE (path, account)
);
CREATE TABLE part (
    upload_id INTEGER NOT NULL REFERENCES upload (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    PRIMARY KEY (upload_id, number)
) WITHOUT ROWID
""",
    """
-- A container that is about to be created. Its metadata carries the id, so that a container whose creation was
-- not recorded before a crash can be found.
CREATE TABLE intent (
    id TEXT PRIMARY KEY,
    path BLOB NOT NULL,
    account TEXT NOT NULL,
    started_at REAL NOT NULL
) WITHOUT ROWID;
-- The finished video, as the service gave it (JSON). NULL while the upload is unfinished.
ALTER TABLE upload ADD COLUMN video TEXT;
-- When the file's contents or attributes last changed. NULL in entries of older versions.
ALTER TABLE upload ADD COLUMN ctime_ns INTEGER;
-- A checksum of the bytes that were sent. NULL if it was not computed.
ALTER TABLE part ADD COLUMN checksum BLOB
""",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who uploads to where. ``fingerprint`` is a one-way hash: it tells accounts apart and opens none."""

    fingerprint: str
    base_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """A file on this machine (``identity``) and, by its content, on any other (``sample``)."""

    identity: Identity
    sample: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An upload that was begun and has not ended."""

    id: int
    path: Path
    account: Account
    video_id: str
    fingerprint: Fingerprint
    ranges: Literal["part", "bytes"]
    part_bytes: int
    started_at: float
    parts_done: frozenset[int]

    @property
    def plan(self) -> Plan:
        """How the source was cut."""
        return Plan(total_bytes=self.fingerprint.identity.size_bytes, part_bytes=self.part_bytes, concurrency=1)

    @property
    def missing(self) -> list[Part]:
        """The parts that, by the journal, have not arrived."""
        return [part for part in self.plan.parts() if part.number not in self.parts_done]


def state_directory() -> Path:
    """The platform's folder for state; ``XDG_STATE_HOME`` moves it where that is the custom."""
    return platformdirs.user_state_path("async_uploader", appauthor=False)


class Journal:
    """The file, open from its first use until :meth:`close`. For one thread at a time.

    :raises sqlite3.Error, OSError: from every method, when the file is corrupt, the disk full, …
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or state_directory() / "journal.sqlite3"
        self._db: sqlite3.Connection | None = None

    def begin(
        self,
        *,
        path: Path,
        account: Account,
        video_id: str,
        fingerprint: Fingerprint,
        ranges: Literal["part", "bytes"],
        part_bytes: int,
        parts_done: frozenset[int] = frozenset(),
    ) -> Entry:
        """Record an upload; what was known of the same source and account before is forgotten."""
        identity = fingerprint.identity
        with self._transaction() as db:
            db.execute(
                "DELETE FROM upload WHERE path = ? AND account = ?", (os.fsencode(path), account.fingerprint)
            )
            row_id = db.execute(
                "INSERT INTO upload (path, account, base_url, video_id, size_bytes, mtime_ns, device, inode,"
                " sample, ranges, part_bytes, started_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    os.fsencode(path), account.fingerprint, account.base_url, video_id,
                    identity.size_bytes, identity.mtime_ns, str(identity.device), str(identity.inode),
                    fingerprint.sample, ranges, part_bytes, time.time(),
                ),
            ).lastrowid  # fmt: skip
            assert row_id is not None
            db.executemany(
                "INSERT INTO part (upload_id, number) VALUES (?, ?)", [(row_id, number) for number in parts_done]
            )
            return self._entries(db, "WHERE id = ?", (row_id,))[0]

    def acknowledge(self, entry_id: int, part_number: int) -> None:
        """The service has a part."""
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO part (upload_id, number) VALUES (?, ?)", (entry_id, part_number))

    def forget(self, entry_id: int) -> None:
        """The upload has ended, or is given up."""
        with self._transaction() as db:
            db.execute("DELETE FROM upload WHERE id = ?", (entry_id,))

    def find(self, path: Path) -> list[Entry]:
        """What was begun from a path, for whichever account."""
        with self._transaction() as db:
            return self._entries(db, "WHERE path = ?", (os.fsencode(path),))

    def unfinished(self) -> list[Entry]:
        """Everything that was begun, oldest first."""
        with self._transaction() as db:
            return self._entries(db, "", ())

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        if self._db is not None:
            self._db.close()
            self._db = None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self._db = self._db or self._open()
        db.execute("BEGIN IMMEDIATE")
        with db:
            yield db

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made by us, so that nobody else can read it; SQLite gives its other files the same mode.
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            db.row_factory = sqlite3.Row
            # SQLite does not wait here for others who open a new file at the same moment, whatever its timeout.
            tenacity.Retrying(
                retry=tenacity.retry_if_exception(_is_busy),
                stop=tenacity.stop_after_delay(_BUSY_SECONDS),
                wait=tenacity.wait_random(0, 0.05),
                reraise=True,
            )(db.execute, "PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("BEGIN IMMEDIATE")
            with db:
                self._migrate(db)
        except BaseException:
            db.close()
            raise
        return db

    def _migrate(self, db: sqlite3.Connection) -> None:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(_MIGRATIONS):
            raise sqlite3.DatabaseError(f"it was written by a newer version ({version})")
        for script in _MIGRATIONS[version:]:
            for statement in script.split(";"):
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(_MIGRATIONS):d}")

    def _entries(self, db: sqlite3.Connection, where: str, values: tuple[object, ...]) -> list[Entry]:
        rows = db.execute(f"SELECT * FROM upload {where} ORDER BY id", values).fetchall()  # noqa: S608 - ours
        return [_entry(db, row) for row in rows]


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY


def _entry(db: sqlite3.Connection, row: sqlite3.Row) -> Entry:
    parts = db.execute("SELECT number FROM part WHERE upload_id = ?", (row["id"],))
    return Entry(
        id=row["id"],
        path=Path(os.fsdecode(row["path"])),
        account=Account(fingerprint=row["account"], base_url=row["base_url"]),
        video_id=row["video_id"],
        fingerprint=Fingerprint(
            identity=Identity(
                size_bytes=row["size_bytes"],
                mtime_ns=row["mtime_ns"],
                device=int(row["device"]),
                inode=int(row["inode"]),
            ),
            sample=row["sample"],
        ),
        ranges=row["ranges"],
        part_bytes=row["part_bytes"],
        started_at=row["started_at"],
        parts_done=frozenset(number for (number,) in parts),
    )
