"""What may be uploaded when: the contract's "Sending the bytes" as pure functions over an `Upload`.

Nothing here knows HTTP, files or time. A request is judged twice by the same rules: once from its headers,
so that a refusal costs no body, and once when its body has arrived, because others may have landed meanwhile.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from async_uploader._limits import MAX_PART_BYTES, MAX_PARTS, MAX_VIDEO_BYTES, MIN_PART_BYTES

from ._problems import Problem, by_bytes, by_part

# Twenty digits are far beyond every limit; more are nonsense that int() need not swallow.
_PART: Final = re.compile(r"part ([0-9]{1,20})/([0-9]{1,20}|\*)")
_BYTES: Final = re.compile(r"bytes ([0-9]{1,20})-([0-9]{1,20})/([0-9]{1,20}|\*)")


@dataclass(frozen=True, slots=True)
class Whole:
    """The whole file in one request, without a Content-Range."""

    @property
    def key(self) -> int:
        return 0

    def __str__(self) -> str:
        return "whole"


@dataclass(frozen=True, slots=True)
class Part:
    """`part N/TOTAL`; `total` is None for `part N/*`."""

    number: int
    total: int | None

    @property
    def key(self) -> int:
        return self.number

    def __str__(self) -> str:
        return f"part {self.number}/{_star(self.total)}"


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
        return f"bytes {self.first}-{self.last}/{_star(self.total)}"


Range: TypeAlias = Whole | Part | ByteRange


def parse_content_range(header: str | None) -> Range:
    """The header's meaning; its absence means the whole file."""
    if header is None:
        return Whole()
    if match := _PART.fullmatch(header):
        return Part(int(match[1]), _total(match[2]))
    if match := _BYTES.fullmatch(header):
        return ByteRange(int(match[1]), int(match[2]), _total(match[3]))
    raise Problem("video-content-range-malformed", detail="Use 'part N/TOTAL' or 'bytes FROM-TO/TOTAL'.")


@dataclass(slots=True)
class Piece:
    """One accepted body. It counts as received once it has `landed`, that is, is safe in its file."""

    range: Range
    size_bytes: int
    landed: bool = False


@dataclass(slots=True)
class Upload:
    """What has arrived of one source; `merged` pieces of it are already joined into one file."""

    pieces: dict[int, Piece] = field(default_factory=dict)
    total: int | None = None
    landed_bytes: int = 0
    landed_pieces: int = 0
    merged_pieces: int = 0
    merged_bytes: int = 0
    _keys: list[int] = field(default_factory=list)

    @property
    def kind(self) -> type[Whole | Part | ByteRange] | None:
        """Which of the three ways this upload keeps to; None before its first piece."""
        return type(self.pieces[self._keys[0]].range) if self._keys else None

    @property
    def is_complete(self) -> bool:
        """Whether every part or byte up to the total has landed."""
        if self.kind is Whole:
            return self.landed_pieces == 1
        return self.total is not None and self.total == (
            self.landed_pieces if self.kind is Part else self.landed_bytes
        )

    def landed(self) -> list[Piece]:
        """The received pieces in the file's order."""
        return [self.pieces[key] for key in self._keys if self.pieces[key].landed]

    def next_to_merge(self) -> Piece | None:
        """The piece that continues the joined prefix, once it is there."""
        piece = self.pieces.get(self.merged_pieces + 1 if self.kind is Part else self.merged_bytes)
        return piece if piece is not None and piece.landed else None

    def reserve(self, piece: Piece) -> None:
        """Take a piece that was judged: from here on a duplicate of it is refused."""
        key = piece.range.key
        self.pieces[key] = piece
        insort(self._keys, key)
        if not isinstance(piece.range, Whole) and piece.range.total is not None:
            self.total = piece.range.total

    def land(self, piece: Piece) -> None:
        piece.landed = True
        self.landed_pieces += 1
        self.landed_bytes += piece.size_bytes

    def release(self, piece: Piece) -> None:
        """Undo `reserve` for a piece that could not be kept."""
        del self.pieces[piece.range.key]
        self._keys.remove(piece.range.key)
        totals = {p.range.total for p in self.pieces.values() if not isinstance(p.range, Whole)}
        self.total = next((total for total in totals if total is not None), None)

    def take_back(self, piece: Piece) -> None:
        """Undo `reserve` and `land` for a piece that is not joined, and whose file is gone."""
        piece.landed = False
        self.landed_pieces -= 1
        self.landed_bytes -= piece.size_bytes
        self.release(piece)

    def merge(self, piece: Piece) -> None:
        self.merged_pieces += 1
        self.merged_bytes += piece.size_bytes

    @property
    def highest(self) -> int:
        """The highest part number, or the end of the last range, that is there."""
        if not self._keys:
            return 0
        last = self.pieces[self._keys[-1]].range
        return last.last + 1 if isinstance(last, ByteRange) else last.key

    def overlaps(self, wanted: ByteRange) -> bool:
        after = bisect_left(self._keys, wanted.first)
        if after < len(self._keys) and self._keys[after] <= wanted.last:
            return True
        before = self.pieces[self._keys[after - 1]].range if after else None
        return isinstance(before, ByteRange) and before.last >= wanted.first


def check_range(upload: Upload, wanted: Range) -> None:
    """Whether a piece may come now, as far as its header tells."""
    if upload.is_complete or upload.kind is Whole:
        raise Problem("video-source-already-uploaded")
    if upload.kind is not None and upload.kind is not type(wanted):
        raise Problem("video-content-range-" + _conflict(upload, wanted))
    if isinstance(wanted, Part):
        _check_part(upload, wanted)
    elif isinstance(wanted, ByteRange):
        _check_bytes(upload, wanted)


def check_size(upload: Upload, wanted: Range, size_bytes: int) -> None:
    """Whether a body of this many file bytes may be this piece."""
    if size_bytes == 0:
        raise Problem("uploaded-file-empty")
    check_so_far(wanted, size_bytes)
    if isinstance(wanted, ByteRange) and size_bytes != wanted.length:
        raise by_bytes("range-mismatch", f"The range has {wanted.length} bytes, the file {size_bytes}.")
    if isinstance(wanted, Part) and size_bytes < MIN_PART_BYTES and not _is_last_part(upload, wanted):
        raise by_part("uploaded-file-too-small", f"This part has {size_bytes} bytes.")
    if upload.landed_bytes + size_bytes > MAX_VIDEO_BYTES:
        raise Problem("uploaded-file-too-large", detail=f"At most {MAX_VIDEO_BYTES} bytes a video.")


def check_body_length(upload: Upload, wanted: Range, length: int, *, framing: int) -> None:
    """What a Content-Length already gives away: the file is at most `length`, at least `length - framing`."""
    if length < MIN_PART_BYTES and isinstance(wanted, Part) and not _is_last_part(upload, wanted):
        raise by_part("uploaded-file-too-small", f"The whole body has {length} bytes.")
    if isinstance(wanted, ByteRange) and not length - framing <= wanted.length <= length:
        raise by_bytes("range-mismatch", f"The range has {wanted.length} bytes, the whole body {length}.")
    if length - framing > MAX_PART_BYTES:
        raise Problem("uploaded-file-too-large", detail=f"At most {MAX_PART_BYTES} bytes a request.")


def check_so_far(wanted: Range, size_bytes: int) -> None:
    """Where a body can be given up, because the file in it is already too long."""
    if isinstance(wanted, ByteRange):
        if size_bytes > wanted.length:
            raise by_bytes("range-mismatch", f"The file is longer than its range of {wanted.length} bytes.")
    elif size_bytes > MAX_PART_BYTES:
        raise Problem("uploaded-file-too-large", detail=f"At most {MAX_PART_BYTES} bytes a request.")


def is_last(wanted: Range) -> bool:
    """Whether the header says that this piece ends the file."""
    if isinstance(wanted, Part):
        return wanted.number == wanted.total
    return isinstance(wanted, Whole) or (wanted.total is not None and wanted.last == wanted.total - 1)


def _check_part(upload: Upload, wanted: Part) -> None:
    if wanted.number == 0:
        raise by_part("part-zero")
    if wanted.total is not None:
        _check_total_parts(upload, wanted.total)
    if wanted.number > MAX_PARTS:
        raise by_part("part-too-high-allowed", f"At most {MAX_PARTS} parts.")
    total = wanted.total or upload.total
    if total is not None and wanted.number > total:
        raise by_part("part-too-high-total", f"There are {total} parts.")
    if wanted.number in upload.pieces:
        raise by_part("part-already-sent", f"Part {wanted.number} is already there.")


def _check_total_parts(upload: Upload, total: int) -> None:
    if total == 0:
        raise by_part("total-parts-zero")
    if total > MAX_PARTS:
        raise by_part("total-parts-too-high", f"At most {MAX_PARTS} parts.")
    if upload.total is not None and total != upload.total:
        raise by_part("different-total-parts", f"It was {upload.total}.")
    if upload.total is None and total <= upload.highest:
        raise by_part("total-parts-too-low", f"Part {upload.highest} is there, and was not the last.")


def _check_bytes(upload: Upload, wanted: ByteRange) -> None:
    if wanted.total is not None:
        _check_total_bytes(upload, wanted.total)
    if wanted.first > wanted.last:
        raise by_bytes("from-byte-too-high")
    if wanted.last >= MAX_VIDEO_BYTES:
        raise by_bytes("to-byte-too-high-allowed", f"At most {MAX_VIDEO_BYTES} bytes.")
    total = wanted.total or upload.total
    if total is not None and wanted.last >= total:
        raise by_bytes("to-byte-too-high-total", f"There are {total} bytes.")
    if upload.overlaps(wanted):
        raise by_bytes("range-overlap")
    if wanted.length > MAX_PART_BYTES:
        raise by_bytes("range-too-large", f"At most {MAX_PART_BYTES} bytes a range.")
    if wanted.length < MIN_PART_BYTES and (total is None or wanted.last != total - 1):
        raise by_bytes("range-too-small")


def _check_total_bytes(upload: Upload, total: int) -> None:
    if total == 0:
        raise by_bytes("total-bytes-zero")
    if total > MAX_VIDEO_BYTES:
        raise by_bytes("total-bytes-too-high", f"At most {MAX_VIDEO_BYTES} bytes.")
    if upload.total is not None and total != upload.total:
        raise by_bytes("different-total-bytes", f"It was {upload.total}.")
    if upload.total is None and total <= upload.highest:
        raise by_bytes("total-bytes-too-low", f"{upload.highest} bytes are there, and were not the end.")


def _conflict(upload: Upload, wanted: Range) -> str:
    if isinstance(wanted, Whole):
        return "already-initiated"
    return "started-with-part" if upload.kind is Part else "started-with-bytes"


def _is_last_part(upload: Upload, wanted: Part) -> bool:
    return wanted.number == (wanted.total or upload.total)


def _total(text: str) -> int | None:
    return None if text == "*" else int(text)


def _star(total: int | None) -> str:
    return "*" if total is None else str(total)
