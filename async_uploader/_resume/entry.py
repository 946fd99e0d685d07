"""The data that the journal stores about an upload."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from msgspec import Struct

from async_uploader._plan import Part, Plan
from async_uploader._sources.identity import Identity
from async_uploader._types import Ranges


class Account(Struct, frozen=True, kw_only=True):
    """A credential and the service it is for.

    :param fingerprint: a one-way hash of both; it identifies the account, and gives no access to it
    """

    fingerprint: str
    base_url: str

    @classmethod
    def of(cls, secret: str, base_url: str) -> Self:
        """The account of a credential."""
        digest = hashlib.blake2b(f"{base_url}\0{secret}".encode(), digest_size=16, person=b"async_uploader")
        return cls(fingerprint=digest.hexdigest(), base_url=base_url)


class Fingerprint(Struct, frozen=True, kw_only=True):
    """Identifies a file.

    :param identity: on this machine
    :param sample: by its content, on any machine
    """

    identity: Identity
    sample: str


class NewEntry(Struct, frozen=True, kw_only=True):
    """An upload to record.

    :param parts_done: numbers of the parts that the service has acknowledged
    :param checksums: of these parts, by number, if they are known
    :param ctime_ns: the file's change time at which the checksums were correct; None on Windows, and in entries of
        older versions
    :param video: the finished Video as the service returned it; None while the upload is unfinished
    """

    path: Path
    account: Account
    video_id: str
    fingerprint: Fingerprint
    ranges: Ranges
    part_bytes: int
    ctime_ns: int | None
    parts_done: frozenset[int] = frozenset()
    checksums: Mapping[int, bytes] = {}
    video: Mapping[str, Any] | None = None

    @property
    def plan(self) -> Plan:
        """How the source is split into parts."""
        return Plan(total_bytes=self.fingerprint.identity.size_bytes, part_bytes=self.part_bytes, concurrency=1)

    @property
    def missing(self) -> list[Part]:
        """The parts that are not acknowledged."""
        return [part for part in self.plan.parts() if part.number not in self.parts_done]


class Entry(NewEntry, frozen=True, kw_only=True):
    """A recorded upload.

    :param id: of the row
    :param started_at: when it was recorded, in seconds since the epoch
    :param has_thumbnail: whether the thumbnail was added to the finished video
    """

    id: int
    started_at: float
    has_thumbnail: bool = False
