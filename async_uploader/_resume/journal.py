"""The journal: a database of unfinished uploads on this machine, which survives crashes and contains no secret.

It records the container of each source, and how the source is split into parts. It also records acknowledgements,
but only an upload token, which cannot request the status, relies on them: otherwise, the status lists the stored
parts.

Everything here blocks; :class:`.JournalWorker` runs it in a thread.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from async_uploader._sources.identity import Identity

from .entry import Account, Entry, NewEntry
from .rows import DamagedRow, is_intent, read_entry, video_id_of, video_text
from .schema import open_database
from .state_directory import state_directory

log: Final = logging.getLogger("async_uploader.resume")

# Transactions of other processes take milliseconds.
_BUSY_SECONDS: Final = 10
# The service deletes empty containers after 7 days, and an upload must be finished within 7 days.
_RETENTION_SECONDS: Final = 7 * 24 * 3600.0
# How often outdated rows are deleted while the file stays open.
_CLEANUP_SECONDS: Final = 3600.0

_INSERT_UPLOAD: Final = """
INSERT INTO upload (path, account, base_url, video_id, size_bytes, mtime_ns, device, inode, sample, ranges,
                    part_bytes, started_at, video, ctime_ns)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


class Journal:
    """The queries of the journal. The first one opens the file. For one thread at a time.

    :param path: the file; default: in the state directory
    :raises sqlite3.Error, OSError: from every query, if the file is damaged, the disk is full, …
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._cleaned_at = -_CLEANUP_SECONDS

    @property
    def path(self) -> Path:
        """The file.

        :raises OSError: the user has no home directory
        """
        return self._path or state_directory() / "journal.sqlite3"

    @property
    def display_name(self) -> str:
        """The journal as messages name it, at the start of a sentence."""
        try:
            return f"The journal {self.path}"
        except OSError:
            return "The journal"

    def add_intent(self, intent: str, *, path: Path, account: Account) -> None:
        """Record that a container is about to be created with ``intent`` in its metadata."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO intent (id, path, account, started_at) VALUES (?, ?, ?, ?)",
                (intent, os.fsencode(path), account.fingerprint, time.time()),
            )

    def intents(self, path: Path, account: Account) -> list[str]:
        """The intents for a source, oldest first. Their containers, if any, are not recorded."""
        with self._transaction() as db:
            rows = db.execute(
                "SELECT id FROM intent WHERE path = ? AND account = ? ORDER BY started_at",
                (os.fsencode(path), account.fingerprint),
            )
            return [intent for (intent,) in rows if is_intent(intent)]

    def remove_intents(self, intents: Iterable[str]) -> None:
        """Delete intents whose containers do not exist, or are known."""
        with self._transaction() as db:
            db.executemany("DELETE FROM intent WHERE id = ?", [(intent,) for intent in intents])

    def begin(self, upload: NewEntry, *, intent: str | None = None, replaces: int | None = None) -> Entry:
        """Record an upload. It replaces other entries for the same path and account.

        :param intent: the intent with which the container was created; it is removed
        :param replaces: the entry of the upload that is resumed, which may have another path
        """
        path, account = os.fsencode(upload.path), upload.account
        identity = upload.fingerprint.identity
        with self._transaction() as db:
            self._clean_up(db)
            db.execute("DELETE FROM intent WHERE id = ?", (intent,))
            db.execute(
                "DELETE FROM upload WHERE id = ? OR (path = ? AND account = ?)",
                (replaces, path, account.fingerprint),
            )
            row_id = db.execute(
                _INSERT_UPLOAD,
                (
                    path, account.fingerprint, account.base_url, upload.video_id,
                    identity.size_bytes, identity.mtime_ns, str(identity.device), str(identity.inode),
                    upload.fingerprint.sample, upload.ranges, upload.part_bytes, time.time(),
                    video_text(upload.video), upload.ctime_ns,
                ),
            ).lastrowid  # fmt: skip
            assert row_id is not None
            db.executemany(
                "INSERT INTO part (upload_id, number, checksum) VALUES (?, ?, ?)",
                [(row_id, number, upload.checksums.get(number)) for number in upload.parts_done],
            )
            (row,) = db.execute("SELECT * FROM upload WHERE id = ?", (row_id,))
            return read_entry(db, row)

    def acknowledge(
        self,
        entry_id: int,
        part_number: int,
        *,
        video: Mapping[str, Any] | None = None,
        checksum: bytes | None = None,
        ctime_ns: int | None = None,
    ) -> None:
        """Record that the service has stored a part.

        :param video: the finished Video, if the response to this part contained it
        :param checksum: of the bytes of the part
        :param ctime_ns: the file's change time at which all parts sent so far are correct
        """
        with self._transaction() as db:
            db.execute(
                "INSERT INTO part (upload_id, number, checksum) VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET checksum = excluded.checksum",
                (entry_id, part_number, checksum),
            )
            db.execute(
                "UPDATE upload SET ctime_ns = ? WHERE id = ? AND ctime_ns IS NOT ?", (ctime_ns, entry_id, ctime_ns)
            )
            if video is not None:
                _store_video(db, entry_id, video)

    def finish(self, entry_id: int, video: Mapping[str, Any]) -> None:
        """Record the finished Video. The entry stays until :meth:`forget`, or for 7 days."""
        with self._transaction() as db:
            _store_video(db, entry_id, video)

    def record_thumbnail(self, entry_id: int) -> None:
        """Record that the thumbnail is added to the finished Video."""
        with self._transaction() as db:
            db.execute("UPDATE upload SET has_thumbnail = 1 WHERE id = ?", (entry_id,))

    def forget_parts(self, entry_id: int) -> None:
        """Delete the acknowledgements, because some of them are wrong."""
        with self._transaction() as db:
            db.execute("DELETE FROM part WHERE upload_id = ?", (entry_id,))

    def forget(self, entry_id: int) -> None:
        """Delete an entry, because its result was delivered or it cannot be resumed."""
        with self._transaction() as db:
            db.execute("DELETE FROM upload WHERE id = ?", (entry_id,))

    def forget_videos(self, video_ids: Iterable[str]) -> None:
        """Delete the entries of videos, finished or not, in one transaction."""
        with self._transaction() as db:
            db.execute("CREATE TEMP TABLE IF NOT EXISTS forgotten (video_id TEXT PRIMARY KEY)")
            db.execute("DELETE FROM temp.forgotten")
            db.executemany("INSERT OR IGNORE INTO temp.forgotten VALUES (?)", [(one,) for one in video_ids])
            db.execute("DELETE FROM upload WHERE video_id IN (SELECT video_id FROM temp.forgotten)")

    def find(self, path: Path, identity: Identity) -> list[Entry]:
        """The uploads of a path, or of the same file under another path, to any account."""
        with self._transaction() as db:
            return self._entries(
                db,
                "WHERE path = ? OR (inode = ? AND device = ? AND size_bytes = ? AND mtime_ns = ?)",
                (
                    os.fsencode(path), str(identity.inode), str(identity.device),
                    identity.size_bytes, identity.mtime_ns,
                ),
            )  # fmt: skip

    def unfinished(self) -> list[Entry]:
        """All uploads, oldest first; also those that are finished, but whose result was not delivered."""
        with self._transaction() as db:
            return self._entries(db, "", ())

    def close(self) -> None:
        """Close the file. The next query opens it again."""
        if self._db is not None:
            self._db.close()
            self._db = None
            self._cleaned_at = -_CLEANUP_SECONDS

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with _only_database_errors():
            db = self._db = self._db or self._open()
            db.execute("BEGIN IMMEDIATE")
            with db:
                yield db

    def _open(self) -> sqlite3.Connection:
        db = open_database(self.path, busy_seconds=_BUSY_SECONDS)
        try:
            db.execute("BEGIN IMMEDIATE")
            with db:
                self._clean_up(db)
        except BaseException:
            db.close()
            raise
        return db

    def _clean_up(self, db: sqlite3.Connection) -> None:
        """Delete finished uploads and intents that are older than 7 days."""
        if time.monotonic() - self._cleaned_at >= _CLEANUP_SECONDS:
            self._cleaned_at = time.monotonic()
            oldest = time.time() - _RETENTION_SECONDS
            db.execute("DELETE FROM upload WHERE video IS NOT NULL AND started_at < ?", (oldest,))
            db.execute("DELETE FROM intent WHERE started_at < ?", (oldest,))

    def _entries(self, db: sqlite3.Connection, where: str, values: tuple[object, ...]) -> list[Entry]:
        """The entries of the selected rows. Damaged rows are removed with a warning."""
        rows = db.execute(f"SELECT * FROM upload {where} ORDER BY id", values).fetchall()  # noqa: S608 - constants
        entries, damaged = [], []
        for row in rows:
            try:
                entries.append(read_entry(db, row))
            except (msgspec.ValidationError, DamagedRow) as exc:
                log.debug("%s: %s", self.display_name, exc)
                damaged.append(video_id_of(row))
                db.execute("DELETE FROM upload WHERE id = ?", (row["id"],))
        if damaged:
            videos = ", ".join(filter(None, damaged))
            log.warning(
                "Removed damaged entries from the journal %s: %d%s.",
                *(self.path, len(damaged), videos and f" (videos: {videos})"),
            )
        return entries


def _store_video(db: sqlite3.Connection, entry_id: int, video: Mapping[str, Any]) -> None:
    db.execute("UPDATE upload SET video = ? WHERE id = ?", (video_text(video), entry_id))


@contextmanager
def _only_database_errors() -> Iterator[None]:
    """Translate all other exceptions that a damaged file causes into errors of sqlite3.

    For example, an error message of SQLite quotes text that is not UTF-8, a column is missing, or a length is far
    too large.
    """
    try:
        yield
    except (sqlite3.Error, OSError):
        raise
    except (
        *(ValueError, LookupError, OverflowError, MemoryError, SystemError),
        *(msgspec.ValidationError, DamagedRow),
    ) as exc:
        raise sqlite3.DatabaseError("the file is damaged") from exc


def reason_of(exc: Exception) -> str:
    """Why the journal cannot be used, on one line: SQLite quotes the contents of damaged files."""
    text = str(exc) or "no reason given"
    return text if text.isprintable() else ascii(text)
