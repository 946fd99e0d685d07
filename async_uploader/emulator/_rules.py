"""Which parts an upload accepts: the contract's "Sending the bytes", as pure functions over an `Upload`.

Nothing here knows HTTP, files or time. Every request is checked twice by the same rules: before its body is read,
so that a refusal costs no transfer, and after it, because other requests may have stored parts in the meantime.

"Part" means one request's share of a source, whichever of the three ways the upload uses: a numbered part, a byte
range, or the whole file.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from async_uploader._limits import MAX_PART_BYTES, MAX_PARTS, MAX_VIDEO_BYTES, MIN_PART_BYTES

from ._problems import Problem, by_bytes, by_part

# Twenty digits exceed every limit; the bound keeps int() cheap for longer input.
_PART: Final = re.compile(r"part ([0-9]{1,20})/([0-9]{1,20}|\*)")
_BYTES: Final = re.compile(r"bytes ([0-9]{1,20})-([0-9]{1,20})/([0-9]{1,20}|\*)")


@dataclass(frozen=True, slots=True)
class WholeFile:
    """The whole file in one request, without a Content-Range."""

    @property
    def key(self) -> int:
        return 0

    def __str__(self) -> str:
        return "whole"


@dataclass(frozen=True, slots=True)
class PartRange:
    """`part N/TOTAL`; `total` is None for `part N/*`."""

    number: int
    total: int | None

    @property
    def key(self) -> int:
        return self.number

    def __str__(self) -> str:
        return f"part {self.number}/{_format_total(self.total)}"


@dataclass(frozen=True, slots=True)
class ByteRange:
    """`bytes FROM-TO/TOTAL`, both ends included; `total` is None for `*`."""

    first: int
    last: int
    total: int | None

    @property
    def key(self) -> int:
        return self.first

    @property
    def length(self) -> int:
        return self.last - self.first + 1

    def __str__(self) -> str:
        return f"bytes {self.first}-{self.last}/{_format_total(self.total)}"


ContentRange: TypeAlias = WholeFile | PartRange | ByteRange


def parse_content_range(header: str | None) -> ContentRange:
    """Parse a Content-Range; None, for a missing header, is the whole file.

    :raises Problem: the header is malformed
    """
    if header is None:
        return WholeFile()
    if match := _PART.fullmatch(header):
        return PartRange(int(match[1]), _parse_total(match[2]))
    if match := _BYTES.fullmatch(header):
        return ByteRange(int(match[1]), int(match[2]), _parse_total(match[3]))
    raise Problem("video-content-range-malformed", detail="Use 'part N/TOTAL' or 'bytes FROM-TO/TOTAL'.")


@dataclass(slots=True)
class ReceivedPart:
    """One accepted request body. It counts as received once `is_stored`: its file is in place."""

    range: ContentRange
    size_bytes: int
    is_stored: bool = False


@dataclass(slots=True)
class Upload:
    """The received parts of one source. The first `joined_count` of them are already joined into one file."""

    parts: dict[int, ReceivedPart] = field(default_factory=dict)
    total: int | None = None
    stored_bytes: int = 0
    stored_count: int = 0
    joined_count: int = 0
    joined_bytes: int = 0
    _keys: list[int] = field(default_factory=list)

    @property
    def kind(self) -> type[ContentRange] | None:
        """Which of the three ways this upload uses; None before its first part."""
        return type(self.parts[self._keys[0]].range) if self._keys else None

    @property
    def is_complete(self) -> bool:
        """Whether every part or byte up to the total is stored."""
        if self.kind is WholeFile:
            return self.stored_count == 1
        stored = self.stored_count if self.kind is PartRange else self.stored_bytes
        return self.total is not None and self.total == stored

    @property
    def last_position(self) -> int:
        """The highest part number, or the end of the last byte range; 0 for an empty upload."""
        if not self._keys:
            return 0
        last = self.parts[self._keys[-1]].range
        return last.last + 1 if isinstance(last, ByteRange) else last.key

    def stored_parts(self) -> list[ReceivedPart]:
        """The stored parts, in the order of the file."""
        return [self.parts[key] for key in self._keys if self.parts[key].is_stored]

    def next_to_join(self) -> ReceivedPart | None:
        """The part that follows the joined ones, if it is stored."""
        part = self.parts.get(self.joined_count + 1 if self.kind is PartRange else self.joined_bytes)
        return part if part is not None and part.is_stored else None

    def overlaps(self, requested: ByteRange) -> bool:
        after = bisect_left(self._keys, requested.first)
        if after < len(self._keys) and self._keys[after] <= requested.last:
            return True
        before = self.parts[self._keys[after - 1]].range if after else None
        return isinstance(before, ByteRange) and before.last >= requested.first

    def reserve(self, part: ReceivedPart) -> None:
        """Add a part that was checked: from now on, duplicates of it are refused."""
        key = part.range.key
        self.parts[key] = part
        insort(self._keys, key)
        if not isinstance(part.range, WholeFile) and part.range.total is not None:
            self.total = part.range.total

    def release(self, part: ReceivedPart) -> None:
        """Undo `reserve` for a part that could not be stored."""
        del self.parts[part.range.key]
        self._keys.remove(part.range.key)
        totals = {p.range.total for p in self.parts.values() if not isinstance(p.range, WholeFile)}
        self.total = next((total for total in totals if total is not None), None)

    def mark_stored(self, part: ReceivedPart) -> None:
        part.is_stored = True
        self.stored_count += 1
        self.stored_bytes += part.size_bytes

    def remove_stored(self, part: ReceivedPart) -> None:
        """Undo `reserve` and `mark_stored` for a part that was not joined and whose file was deleted."""
        part.is_stored = False
        self.stored_count -= 1
        self.stored_bytes -= part.size_bytes
        self.release(part)

    def mark_joined(self, part: ReceivedPart) -> None:
        self.joined_count += 1
        self.joined_bytes += part.size_bytes


def unnamed_upload(requested: ContentRange) -> Upload:
    """A stand-in for an upload that the request has not named yet.

    If the total is unknown, the part may be the last one of that upload, so its minimum size cannot be checked.
    """
    if isinstance(requested, PartRange) and requested.total is None and requested.number:
        return Upload(total=requested.number)
    if isinstance(requested, ByteRange) and requested.total is None:
        return Upload(total=requested.last + 1)
    return Upload()


def check_content_range(upload: Upload, requested: ContentRange) -> None:
    """Check whether the upload accepts a part, as far as the header tells.

    :raises Problem: it does not
    """
    if upload.is_complete or upload.kind is WholeFile:
        raise Problem("video-source-already-uploaded")
    if upload.kind is not None and upload.kind is not type(requested):
        raise Problem("video-content-range-" + _conflict(upload, requested))
    if isinstance(requested, PartRange):
        _check_part(upload, requested)
    elif isinstance(requested, ByteRange):
        _check_bytes(upload, requested)


def check_size(upload: Upload, requested: ContentRange, size_bytes: int) -> None:
    """Check the size of the complete file in a request.

    :raises Problem: the part must not have this size
    """
    if size_bytes == 0:
        raise Problem("uploaded-file-empty")
    check_size_so_far(requested, size_bytes)
    if isinstance(requested, ByteRange) and size_bytes != requested.length:
        raise by_bytes("range-mismatch", f"The range has {requested.length} bytes, the file {size_bytes}.")
    if isinstance(requested, PartRange) and size_bytes < MIN_PART_BYTES and not _is_last_part(upload, requested):
        raise by_part("uploaded-file-too-small", f"This part has {size_bytes} bytes.")
    if upload.stored_bytes + size_bytes > MAX_VIDEO_BYTES:
        raise Problem("uploaded-file-too-large", detail=f"A video has at most {MAX_VIDEO_BYTES} bytes.")


def check_body_length(upload: Upload, requested: ContentRange, length: int, *, framing: int) -> None:
    """Check a Content-Length before the body is read.

    :param length: the Content-Length in bytes; the file has at most this size
    :param framing: the most bytes that the form adds; the file has at least `length - framing` bytes
    :raises Problem: no file of a possible size is accepted
    """
    if length < MIN_PART_BYTES and isinstance(requested, PartRange) and not _is_last_part(upload, requested):
        raise by_part("uploaded-file-too-small", f"The whole body has {length} bytes.")
    if isinstance(requested, ByteRange) and not length - framing <= requested.length <= length:
        raise by_bytes("range-mismatch", f"The range has {requested.length} bytes, the whole body {length}.")
    if length - framing > MAX_PART_BYTES:
        raise Problem("uploaded-file-too-large", detail=f"A request has at most {MAX_PART_BYTES} bytes.")


def check_size_so_far(requested: ContentRange, size_bytes: int) -> None:
    """Check the bytes received so far.

    :raises Problem: the file is already too long
    """
    if isinstance(requested, ByteRange):
        if size_bytes > requested.length:
            raise by_bytes("range-mismatch", f"The file is longer than its range of {requested.length} bytes.")
    elif size_bytes > MAX_PART_BYTES:
        raise Problem("uploaded-file-too-large", detail=f"A request has at most {MAX_PART_BYTES} bytes.")


def is_last(requested: ContentRange) -> bool:
    """Whether the header states that this part ends the file."""
    if isinstance(requested, PartRange):
        return requested.number == requested.total
    return isinstance(requested, WholeFile) or (
        requested.total is not None and requested.last == requested.total - 1
    )


def _check_part(upload: Upload, requested: PartRange) -> None:
    if requested.number == 0:
        raise by_part("part-zero")
    if requested.total is not None:
        _check_total_parts(upload, requested.total)
    if requested.number > MAX_PARTS:
        raise by_part("part-too-high-allowed", f"The highest part number is {MAX_PARTS}.")
    total = requested.total or upload.total
    if total is not None and requested.number > total:
        raise by_part("part-too-high-total", f"The upload has {total} parts.")
    if requested.number in upload.parts:
        raise by_part("part-already-sent", f"Part {requested.number} was already received.")


def _check_total_parts(upload: Upload, total: int) -> None:
    if total == 0:
        raise by_part("total-parts-zero")
    if total > MAX_PARTS:
        raise by_part("total-parts-too-high", f"An upload has at most {MAX_PARTS} parts.")
    if upload.total is not None and total != upload.total:
        raise by_part("different-total-parts", f"Earlier requests stated {upload.total} parts.")
    if upload.total is None and total <= upload.last_position:
        raise by_part("total-parts-too-low", f"Part {upload.last_position} was received as not the last.")


def _check_bytes(upload: Upload, requested: ByteRange) -> None:
    if requested.total is not None:
        _check_total_bytes(upload, requested.total)
    if requested.first > requested.last:
        raise by_bytes("from-byte-too-high")
    if requested.last >= MAX_VIDEO_BYTES:
        raise by_bytes("to-byte-too-high-allowed", f"A video has at most {MAX_VIDEO_BYTES} bytes.")
    total = requested.total or upload.total
    if total is not None and requested.last >= total:
        raise by_bytes("to-byte-too-high-total", f"The file has {total} bytes.")
    if upload.overlaps(requested):
        raise by_bytes("range-overlap")
    if requested.length > MAX_PART_BYTES:
        raise by_bytes("range-too-large", f"A range has at most {MAX_PART_BYTES} bytes.")
    if requested.length < MIN_PART_BYTES and (total is None or requested.last != total - 1):
        raise by_bytes("range-too-small")


def _check_total_bytes(upload: Upload, total: int) -> None:
    if total == 0:
        raise by_bytes("total-bytes-zero")
    if total > MAX_VIDEO_BYTES:
        raise by_bytes("total-bytes-too-high", f"A video has at most {MAX_VIDEO_BYTES} bytes.")
    if upload.total is not None and total != upload.total:
        raise by_bytes("different-total-bytes", f"Earlier requests stated {upload.total} bytes.")
    if upload.total is None and total <= upload.last_position:
        raise by_bytes("total-bytes-too-low", f"{upload.last_position} bytes were received as not the last.")


def _conflict(upload: Upload, requested: ContentRange) -> str:
    if isinstance(requested, WholeFile):
        return "already-initiated"
    return "started-with-part" if upload.kind is PartRange else "started-with-bytes"


def _is_last_part(upload: Upload, requested: PartRange) -> bool:
    return requested.number == (requested.total or upload.total)


def _parse_total(text: str) -> int | None:
    return None if text == "*" else int(text)


def _format_total(total: int | None) -> str:
    return "*" if total is None else str(total)
