"""The tables of the journal: opening the database, and migrating it to the current version."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

import tenacity

from async_uploader._private_directory import make_private_directory

# Each script migrates to the next version of the schema; the first one creates it. Released scripts never change.
_MIGRATIONS: Final = (
    """
CREATE TABLE upload (
    id INTEGER PRIMARY KEY,
    path BLOB NOT NULL,          -- as the file system encodes it, UTF-8 or not
    account TEXT NOT NULL,       -- Account.fingerprint
    base_url TEXT NOT NULL,
    video_id TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    device TEXT NOT NULL,        -- unsigned 64 bits, which INTEGER cannot hold
    inode TEXT NOT NULL,
    sample TEXT NOT NULL,        -- see content_sample()
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
-- A container that is about to be created. Its metadata contains the id, so that it can be found if the process is
-- killed before it has recorded the container.
CREATE TABLE intent (
    id TEXT PRIMARY KEY,
    path BLOB NOT NULL,
    account TEXT NOT NULL,
    started_at REAL NOT NULL
) WITHOUT ROWID;
-- The finished video as the service returned it (JSON). NULL while the upload is unfinished.
ALTER TABLE upload ADD COLUMN video TEXT;
-- The change time of the file. NULL in entries of older versions.
ALTER TABLE upload ADD COLUMN ctime_ns INTEGER;
-- A checksum of the bytes that were sent. NULL if it was not computed.
ALTER TABLE part ADD COLUMN checksum BLOB
""",
    """
-- Whether the thumbnail was added to the finished video. The service has one for each video, added or not.
ALTER TABLE upload ADD COLUMN has_thumbnail INTEGER NOT NULL DEFAULT 0
""",
)


def open_database(path: Path, *, busy_seconds: float) -> sqlite3.Connection:
    """Open the journal in WAL mode, creating or migrating it.

    With ``synchronous=FULL``, a committed transaction survives kill -9 and a power failure.

    :param busy_seconds: how long to wait for other processes
    :raises sqlite3.Error, OSError: the file is not a journal of this or an older version, or cannot be written
    """
    make_private_directory(path.parent)
    # Created here, so that no other user can read it. SQLite gives its other files the same mode.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    db = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None, check_same_thread=False)
    try:
        db.row_factory = sqlite3.Row
        # Text that is not UTF-8 must damage only its own row, and not the results of a query.
        db.text_factory = _decode
        # SQLite ignores its timeout if several processes open a new file at the same moment.
        tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_busy),
            stop=tenacity.stop_after_delay(busy_seconds),
            wait=tenacity.wait_random(0, 0.05),
            reraise=True,
        )(db.execute, "PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("BEGIN IMMEDIATE")
        with db:
            _migrate(db)
    except BaseException:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > len(_MIGRATIONS):
        raise sqlite3.DatabaseError(f"it was written by a newer version ({version})")
    for script in _MIGRATIONS[version:]:
        for statement in script.split(";"):
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {len(_MIGRATIONS):d}")


def _decode(encoded: bytes) -> str:
    return encoded.decode("utf-8", "surrogateescape")


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
