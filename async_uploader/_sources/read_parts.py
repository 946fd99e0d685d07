"""Detects that bytes of a file changed after they were read.

The problem: a program that restores the modification time after a write (``touch -r``) leaves the file's identity
as it was. The change time (``st_ctime``) reveals that something happened, but a chmod, a rename or a new hard link
changes it, too. So if the change time differs, the parts read so far are read again and their checksums compared.

Rejected: treating every new change time as a modification (a chmod would fail the upload), and hashing the whole
file first (minutes for a large one).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from async_uploader._plan import Part

from .checksum import part_checksums
from .identity import ctime_ns_of, settled_status

# A file whose change time differs after each of so many comparisons is constantly being changed.
_MAX_COMPARISONS: Final = 8


class ContentsChanged(Exception):
    """Bytes of a file differ from those that were read before."""


class NotComparable(ContentsChanged):
    """The file was changed, and a part that was sent has no checksum to compare."""


class ConstantlyChanging(ContentsChanged):
    """The change time differs after every comparison."""


class ReadPart(Struct, frozen=True, kw_only=True):
    """A part that was read completely.

    :param checksum: of the bytes that were read; None if an earlier process read them and did not record it
    :param ctime_ns: a change time of the file at which it had these bytes
    """

    part: Part
    checksum: bytes | None
    ctime_ns: int | None


class ReadParts:
    """The parts of a file that were read completely, and the change time at which all of them were correct.

    This ensures that an upload never completes with bytes of two states of a file. The last bytes of a part are
    sent only after a check, and the part is added here *before* that check. A check that finds a new change time
    compares all added parts. If two parts end at the same time, at least one of their checks covers both; the
    check of the part that is read last covers all. If it passes, there was a moment at which the file had exactly
    the bytes that were sent. Later changes do not matter, because all bytes are in memory or sent.

    :param ctime_ns: the file's change time when it was opened
    """

    def __init__(self, path: Path, *, ctime_ns: int | None) -> None:
        self._path = path
        self._parts: dict[int, ReadPart] = {}
        self.ctime_ns = ctime_ns

    def add(self, part: Part, checksum: bytes | None, *, ctime_ns: int | None) -> None:
        """Add a part that was read completely, by this process or an earlier one.

        :param ctime_ns: the change time before the part was read
        :raises ContentsChanged: the part was read before, with other bytes
        """
        before = self._parts.get(part.number)
        if before is not None and before.part == part and before.checksum not in (None, checksum):
            raise ContentsChanged
        self._parts[part.number] = ReadPart(part=part, checksum=checksum, ctime_ns=ctime_ns)

    def clear(self) -> None:
        """Remove all parts, because the upload starts again."""
        self._parts.clear()

    def checksum(self, part_number: int) -> bytes | None:
        """The checksum of a part, if it is known."""
        known = self._parts.get(part_number)
        return known.checksum if known else None

    def without_checksum(self) -> list[Part]:
        """The parts that cannot be compared."""
        return [known.part for known in self._parts.values() if known.checksum is None]

    def accept(self, compared: Iterable[ReadPart], *, ctime_ns: int | None) -> None:
        """Store the result of :meth:`compare`."""
        for known in compared:
            # A part that was read again in the meantime will have its own check.
            if self._parts.get(known.part.number) is known:
                self._parts[known.part.number] = replace(known, ctime_ns=ctime_ns)
        self.ctime_ns = ctime_ns

    def compare(
        self, check_identity: Callable[[os.stat_result], None], stop: threading.Event
    ) -> tuple[list[ReadPart], int | None]:
        """Read all parts again that were read before the file's last change. Blocks; call it in a thread.

        :param check_identity: raises if a status belongs to another file
        :param stop: ends the comparison early; the result is then meaningless
        :returns: the parts that were compared, and the change time at which they are correct
        :raises ContentsChanged: a part has other bytes now, or cannot be compared
        """
        for _ in range(_MAX_COMPARISONS):
            status = settled_status(self._path)
            check_identity(status)
            ctime_ns = ctime_ns_of(status)
            # Listed after the status was taken: a part that is added later is checked against a later status.
            outdated = [known for known in list(self._parts.values()) if known.ctime_ns != ctime_ns]
            if any(known.checksum is None for known in outdated):
                raise NotComparable
            found = part_checksums(self._path, [known.part for known in outdated], stop)
            if any(found.get(known.part.number) != known.checksum for known in outdated) and not stop.is_set():
                raise ContentsChanged
            status = self._path.stat()
            check_identity(status)
            # The change time stayed the same, so all parts were correct at one moment, not one after the other.
            if ctime_ns_of(status) == ctime_ns or stop.is_set():
                return outdated, ctime_ns
        raise ConstantlyChanging
