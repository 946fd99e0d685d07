"""Converts rows of the journal to values, and validates them: a damaged file can contain anything."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from async_uploader._limits import MAX_PART_BYTES, MAX_PARTS, MAX_VIDEO_BYTES
from async_uploader._sources.checksum import CHECKSUM_BYTES
from async_uploader._sources.identity import Identity
from async_uploader._types import Ranges

from .entry import Account, Entry, Fingerprint


class DamagedRow(Exception):
    """A row contains values that this package never writes."""


# These patterns accept every URL, id and hash, and nothing that could break a message or a URL.
_INTENT: Final = re.compile(r"[0-9A-Za-z_-]{1,200}")
_Text = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e\u00a1-\ud7ff\ue000-\uffff]+\Z", max_length=2000)]
_Identifier = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.~-]+\Z", max_length=200)]
_Unsigned64 = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,20}\Z")]
_PartNumber = Annotated[int, msgspec.Meta(ge=1, le=MAX_PARTS)]


class _UploadRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of ``upload`` with valid values."""

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
    ranges: Ranges
    part_bytes: Annotated[int, msgspec.Meta(ge=1, le=MAX_PART_BYTES)]
    started_at: Annotated[float, msgspec.Meta(ge=0, lt=1e11)]
    ctime_ns: int | None
    video: object
    has_thumbnail: int


class _PartRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of ``part`` with valid values."""

    number: _PartNumber
    checksum: Annotated[bytes, msgspec.Meta(min_length=CHECKSUM_BYTES, max_length=CHECKSUM_BYTES)] | None = None


def read_entry(db: sqlite3.Connection, row: sqlite3.Row) -> Entry:
    """Convert a row of ``upload`` and its parts.

    :raises msgspec.ValidationError, DamagedRow: the row is damaged
    """
    upload = _read_upload(row)
    parts = [
        msgspec.convert(dict(part), _PartRow)
        for part in db.execute("SELECT number, checksum FROM part WHERE upload_id = ?", (upload.id,))
    ]
    entry = Entry(
        id=upload.id,
        path=Path(os.fsdecode(upload.path)),
        account=Account(fingerprint=upload.account, base_url=upload.base_url),
        video_id=upload.video_id,
        fingerprint=Fingerprint(identity=_identity(upload), sample=upload.sample),
        ranges=upload.ranges,
        part_bytes=upload.part_bytes,
        started_at=upload.started_at,
        has_thumbnail=bool(upload.has_thumbnail),
        parts_done=frozenset(part.number for part in parts),
        ctime_ns=upload.ctime_ns,
        video=_read_video(upload.video, upload.video_id),
        checksums={part.number: part.checksum for part in parts if part.checksum is not None},
    )
    parts_total = entry.plan.parts_total or 0
    if parts_total > MAX_PARTS or max(entry.parts_done, default=0) > parts_total:
        raise DamagedRow("the part numbers do not fit the sizes")
    return entry


def _read_upload(row: sqlite3.Row) -> _UploadRow:
    values = dict(row)
    if not isinstance(values.get("path"), bytes):
        raise DamagedRow("the path is not a BLOB")  # msgspec would decode text as Base64
    upload = msgspec.convert(values, _UploadRow)
    if b"\0" in upload.path or not Path(os.fsdecode(upload.path)).is_absolute():
        raise DamagedRow("the path is not an absolute path")
    return upload


def _identity(upload: _UploadRow) -> Identity:
    return Identity(
        size_bytes=upload.size_bytes,
        mtime_ns=upload.mtime_ns,
        device=int(upload.device),
        inode=int(upload.inode),
    )


def _read_video(text: object, video_id: str) -> dict[str, Any] | None:
    """The finished Video. None if it is damaged: it is then requested from the service."""
    try:
        video = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    return video if isinstance(video, dict) and video.get("videoId") == video_id else None


def video_text(video: Mapping[str, Any] | None) -> str | None:
    """A Video as the column ``video`` stores it."""
    return None if video is None else json.dumps(video)


def video_id_of(row: sqlite3.Row) -> str:
    """The video of a damaged row, for a message; empty if it is damaged, too."""
    try:
        return msgspec.convert(row["video_id"], _Identifier)
    except (LookupError, msgspec.ValidationError):
        return ""


def is_intent(value: object) -> bool:
    """Whether a value of the column ``intent.id`` is valid."""
    return isinstance(value, str) and _INTENT.fullmatch(value) is not None
