"""What was begun and how far it got, on disk: enough to go on after a crash, and no secret.

SQLite in WAL mode with ``synchronous=FULL``: a row that was written is there after kill -9 and after a power
cut, several processes may write, and the file is never half of anything. What the journal says is never
believed over the service: it tells where to ask and how the source was cut. Only an upload token, which cannot
ask, has to trust it.

Everything here blocks; :mod:`._resume` calls it in a thread.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import platformdirs
import tenacity

from async_uploader._limits import MAX_PART_BYTES, MAX_PARTS, MAX_VIDEO_BYTES
from async_uploader._plan import Part, Plan
from async_uploader._sources.identity import CHECKSUM_BYTES, Identity

log: Final = logging.getLogger("async_uploader.resume")

# Others write for moments only.
_BUSY_SECONDS: Final = 10
# The service deletes empty containers after 7 days, and an upload must end within 7 days of its start.
_KEPT_SECONDS: Final = 7 * 24 * 3600.0
# Old rows are deleted when the file is opened, and this often while it stays open.
_TIDY_SECONDS: Final = 3600.0
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
    """An upload that was begun and is not forgotten.

    :ivar video: the finished Video as the service gave it; None while the upload is unfinished
    :ivar ctime_ns: the file's change time when the parts that were sent were right; None in older entries, and
        where there is none
    :ivar checksums: of the parts that were sent, by number, as far as they are known
    """

    id: int
    path: Path
    account: Account
    video_id: str
    fingerprint: Fingerprint
    ranges: Literal["part", "bytes"]
    part_bytes: int
    started_at: float
    parts_done: frozenset[int]
    ctime_ns: int | None
    checksums: Mapping[int, bytes]
    video: Mapping[str, Any] | None = None

    @property
    def plan(self) -> Plan:
        """How the source was cut."""
        return Plan(total_bytes=self.fingerprint.identity.size_bytes, part_bytes=self.part_bytes, concurrency=1)

    @property
    def missing(self) -> list[Part]:
        """The parts that, by the journal, have not arrived."""
        return [part for part in self.plan.parts() if part.number not in self.parts_done]


def state_directory() -> Path:
    """The platform's folder for state; ``XDG_STATE_HOME`` moves it where that is the custom.

    :raises OSError: the user has no home directory
    """
    try:
        path = platformdirs.user_state_path("async_uploader", appauthor=False)
    except (RuntimeError, KeyError) as exc:  # what Path.home() and pwd raise for an unknown user
        raise _no_home() from exc
    if str(path).startswith("~"):
        # What os.path.expanduser() gives then: a folder of this name would be made where the command runs.
        raise _no_home()
    return path


def _no_home() -> OSError:
    return OSError("the user has no home directory; set HOME or XDG_STATE_HOME")


def reason_of(exc: Exception) -> str:
    """Why the journal cannot be used, on one line: SQLite quotes what it finds in a damaged file."""
    text = str(exc) or type(exc).__name__
    return text if text.isprintable() else ascii(text)


class Journal:
    """The file, open from its first use until :meth:`close`. For one thread at a time.

    :raises sqlite3.Error, OSError: from every method, when the file is corrupt, the disk full, …
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._tidied_at = -_TIDY_SECONDS

    @property
    def path(self) -> Path:
        """Where the file is.

        :raises OSError: the user has no home directory
        """
        return self._path or state_directory() / "journal.sqlite3"

    @property
    def shown(self) -> str:
        """The file for a message."""
        try:
            return str(self.path)
        except OSError:
            return "The journal"

    def intend(self, intent: str, *, path: Path, account: Account) -> None:
        """Record that a container is about to be created, whose metadata will carry ``intent``."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO intent (id, path, account, started_at) VALUES (?, ?, ?, ?)",
                (intent, os.fsencode(path), account.fingerprint, time.time()),
            )

    def intents(self, path: Path, account: Account) -> list[str]:
        """The intents of a source, oldest first: no container of theirs was recorded."""
        with self._transaction() as db:
            rows = db.execute(
                "SELECT id FROM intent WHERE path = ? AND account = ? ORDER BY started_at",
                (os.fsencode(path), account.fingerprint),
            )
            return [intent for (intent,) in rows if isinstance(intent, str) and _INTENT.fullmatch(intent)]

    def withdraw(self, intents: Iterable[str]) -> None:
        """Forget intents: their containers do not exist, or are known otherwise."""
        with self._transaction() as db:
            db.executemany("DELETE FROM intent WHERE id = ?", [(intent,) for intent in intents])

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
        video: Mapping[str, Any] | None = None,
        intent: str | None = None,
        checksums: Mapping[int, bytes] | None = None,
        ctime_ns: int | None = None,
        replaces: int | None = None,
    ) -> Entry:
        """Record an upload; what was known of the same source and account before is forgotten.

        :param video: the finished Video, if this is known already
        :param intent: the intent with which the container was created; it is withdrawn
        :param checksums: of parts that are done, by number, as far as they are known
        :param ctime_ns: the file's change time when they were right
        :param replaces: the entry that is continued, which may have had another path
        """
        identity = fingerprint.identity
        with self._transaction() as db:
            self._tidy(db)
            db.execute("DELETE FROM intent WHERE id = ?", (intent,))
            db.execute(
                "DELETE FROM upload WHERE id = ? OR (path = ? AND account = ?)",
                (replaces, os.fsencode(path), account.fingerprint),
            )
            row_id = db.execute(
                "INSERT INTO upload (path, account, base_url, video_id, size_bytes, mtime_ns, device, inode,"
                " sample, ranges, part_bytes, started_at, video, ctime_ns)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    os.fsencode(path), account.fingerprint, account.base_url, video_id,
                    identity.size_bytes, identity.mtime_ns, str(identity.device), str(identity.inode),
                    fingerprint.sample, ranges, part_bytes, time.time(), _written(video), ctime_ns,
                ),
            ).lastrowid  # fmt: skip
            assert row_id is not None
            known = checksums or {}
            db.executemany(
                "INSERT INTO part (upload_id, number, checksum) VALUES (?, ?, ?)",
                [(row_id, number, known.get(number)) for number in parts_done],
            )
            (row,) = db.execute("SELECT * FROM upload WHERE id = ?", (row_id,))
            return _entry(db, row)

    def acknowledge(
        self,
        entry_id: int,
        part_number: int,
        video: Mapping[str, Any] | None = None,
        checksum: bytes | None = None,
        ctime_ns: int | None = None,
    ) -> None:
        """The service has a part.

        :param video: the finished Video, if the response to this part brought it
        :param checksum: of the part's bytes
        :param ctime_ns: the file's change time at which all parts that were sent are right
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
                self._finish(db, entry_id, video)

    def finish(self, entry_id: int, video: Mapping[str, Any]) -> None:
        """The upload is finished; the entry stays until it is forgotten, or 7 days old."""
        with self._transaction() as db:
            self._finish(db, entry_id, video)

    def _finish(self, db: sqlite3.Connection, entry_id: int, video: Mapping[str, Any]) -> None:
        db.execute("UPDATE upload SET video = ? WHERE id = ?", (_written(video), entry_id))

    def doubt(self, entry_id: int) -> None:
        """The acknowledgements cannot be right: the service has accepted every part, and has no video."""
        with self._transaction() as db:
            db.execute("DELETE FROM part WHERE upload_id = ?", (entry_id,))

    def forget(self, entry_id: int) -> None:
        """The result was delivered, or the upload is given up."""
        with self._transaction() as db:
            db.execute("DELETE FROM upload WHERE id = ?", (entry_id,))

    def forget_videos(self, video_ids: Iterable[str]) -> None:
        """Forget the uploads into these containers, finished or not, in one transaction."""
        with self._transaction() as db:
            db.execute("CREATE TEMP TABLE IF NOT EXISTS forgotten (video_id TEXT PRIMARY KEY)")
            db.execute("DELETE FROM temp.forgotten")
            db.executemany("INSERT OR IGNORE INTO temp.forgotten VALUES (?)", [(one,) for one in video_ids])
            db.execute("DELETE FROM upload WHERE video_id IN (SELECT video_id FROM temp.forgotten)")

    def find(self, path: Path, identity: Identity) -> list[Entry]:
        """What was begun from a path, or from the same file under another path, for whichever account."""
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
        """Everything that was begun and is not forgotten, oldest first; finished uploads included."""
        with self._transaction() as db:
            return self._entries(db, "", ())

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        if self._db is not None:
            self._db.close()
            self._db = None
            self._tidied_at = -_TIDY_SECONDS

    def _tidy(self, db: sqlite3.Connection) -> None:
        """Delete what nobody asks about any more: finished uploads and intents of more than 7 days ago."""
        if time.monotonic() - self._tidied_at >= _TIDY_SECONDS:
            self._tidied_at = time.monotonic()
            oldest = time.time() - _KEPT_SECONDS
            db.execute("DELETE FROM upload WHERE video IS NOT NULL AND started_at < ?", (oldest,))
            db.execute("DELETE FROM intent WHERE started_at < ?", (oldest,))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with _only_database_errors():
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
            # Text that is not UTF-8 must spoil its own row only, and not the whole answer.
            db.text_factory = _text
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
                self._tidy(db)
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
        """The entries of some rows; what cannot be one is removed, so that it is in nobody's way."""
        rows = db.execute(f"SELECT * FROM upload {where} ORDER BY id", values).fetchall()  # noqa: S608 - ours
        entries, damaged = [], []
        for row in rows:
            try:
                entries.append(_entry(db, row))
            except (msgspec.ValidationError, _Damaged) as exc:
                damaged.append(_about(row))
                log.debug("%s: %s", self.shown, exc)
                db.execute("DELETE FROM upload WHERE id = ?", (row["id"],))
        if damaged:
            known = ", ".join(filter(None, damaged))
            log.warning(
                "The journal %s has damaged entries (%d), which are removed%s.",
                *(self.shown, len(damaged), known and f"; their videos are {known}"),
            )
        return entries


class _Damaged(Exception):
    """A row has values that belong together in no way."""


def _text(encoded: bytes) -> str:
    return encoded.decode("utf-8", "surrogateescape")


@contextmanager
def _only_database_errors() -> Iterator[None]:
    """What a damaged file makes of SQLite's Python module, beside its own errors."""
    try:
        yield
    except (sqlite3.Error, OSError):
        raise
    except (
        *(ValueError, LookupError, OverflowError, MemoryError, SystemError),
        *(msgspec.ValidationError, _Damaged),
    ) as exc:
        # Messages that quote the file are no UTF-8, columns have other names, lengths are beyond all memory.
        raise sqlite3.DatabaseError("the file is damaged") from exc


def _about(row: sqlite3.Row) -> str:
    """The video of a damaged entry, if it can still be read."""
    try:
        return msgspec.convert(row["video_id"], _Identifier)
    except (LookupError, msgspec.ValidationError):
        return ""


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY


# No address, path or credential looks otherwise; and none of it can break a line of a message or a URL.
_INTENT: Final = re.compile(r"[0-9A-Za-z_-]{1,200}")
_Text = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e\u00a1-\ud7ff\ue000-\uffff]+\Z", max_length=2000)]
_Identifier = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.~-]+\Z", max_length=200)]
_Unsigned64 = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,20}\Z")]
_Number = Annotated[int, msgspec.Meta(ge=1, le=MAX_PARTS)]


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row of ``upload``, with the values that it can have."""

    id: int
    path: Annotated[bytes, msgspec.Meta(min_length=1, max_length=100_000)]
    account: _Identifier
    base_url: _Text
    video_id: _Identifier
    size_bytes: Annotated[int, msgspec.Meta(ge=1, le=MAX_VIDEO_BYTES)]
    mtime_ns: int
    device: _Unsigned64
    inode: _Unsigned64
    sample: _Identifier
    ranges: Literal["part", "bytes"]
    part_bytes: Annotated[int, msgspec.Meta(ge=1, le=MAX_PART_BYTES)]
    started_at: Annotated[float, msgspec.Meta(ge=0, lt=1e11)]
    ctime_ns: int | None
    video: object


class _PartRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of ``part``."""

    number: _Number
    checksum: Annotated[bytes, msgspec.Meta(min_length=CHECKSUM_BYTES, max_length=CHECKSUM_BYTES)] | None = None


def _entry(db: sqlite3.Connection, row: sqlite3.Row) -> Entry:
    """What a row says.

    :raises msgspec.ValidationError, _Damaged: it cannot have been written so
    """
    values = dict(row)
    if not isinstance(values.get("path"), bytes):
        raise _Damaged("the path is no BLOB")  # msgspec would take text for Base64
    one = msgspec.convert(values, _Row)
    path = Path(os.fsdecode(one.path))
    if b"\0" in one.path or not path.is_absolute():
        raise _Damaged("the path cannot be one")
    parts = [
        msgspec.convert(dict(part), _PartRow)
        for part in db.execute("SELECT number, checksum FROM part WHERE upload_id = ?", (one.id,))
    ]
    entry = Entry(
        id=one.id,
        path=path,
        account=Account(fingerprint=one.account, base_url=one.base_url),
        video_id=one.video_id,
        fingerprint=Fingerprint(
            identity=Identity(
                size_bytes=one.size_bytes,
                mtime_ns=one.mtime_ns,
                device=int(one.device),
                inode=int(one.inode),
            ),
            sample=one.sample,
        ),
        ranges=one.ranges,
        part_bytes=one.part_bytes,
        started_at=one.started_at,
        parts_done=frozenset(part.number for part in parts),
        ctime_ns=one.ctime_ns,
        video=_read(one.video, one.video_id),
        checksums={part.number: part.checksum for part in parts if part.checksum is not None},
    )
    parts_total = entry.plan.parts_total or 0
    if parts_total > MAX_PARTS or max(entry.parts_done, default=0) > parts_total:
        raise _Damaged("there cannot be these parts")
    return entry


def _written(video: Mapping[str, Any] | None) -> str | None:
    return None if video is None else json.dumps(video)


def _read(text: object, video_id: str) -> dict[str, Any] | None:
    """The Video of a row. One that cannot be read counts as missing: then the service is asked."""
    try:
        video = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    return video if isinstance(video, dict) and video.get("videoId") == video_id else None
