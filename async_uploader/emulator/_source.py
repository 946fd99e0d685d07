"""One video's bytes on disk: received pieces, and the one source file that they are joined into.

    merged      a line for each piece that was joined, in the file's order: `part-3-of-any 5242880`
    part-7-of-any, bytes-0-5242879-of-9000000, whole
                received pieces, each put there by a rename: the rename is the acknowledgement
    source      the pieces joined so far; the finished source in the end

The line is written before the piece is joined and the piece is removed after, so that one rule tells
where a killed process stopped: a piece whose file is still there is not joined, whatever the log says.
The first piece is not copied but becomes the source. Nothing is fsynced: what a test service must survive
is being killed, not a power cut.

All of this blocks and runs in threads. Only one thread at a time works for one video.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, BinaryIO, Final

from async_uploader._pages import pages

from ._rules import Piece, Range, Upload, parse_content_range

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from threading import Event

_BLOCK_BYTES: Final = 256 * 1024  # stays in the processor's cache between reading, hashing and writing


class Stopped(Exception):
    """Joining was interrupted; it goes on from the same state when the emulator starts again."""


def piece_name(wanted: Range) -> str:
    """A range as a file name: `part 3/*` is `part-3-of-any`."""
    return str(wanted).replace(" ", "-").replace("/", "-of-").replace("*", "any")


def _range_of(name: str) -> Range:
    header = name.replace("-of-", "/").replace("any", "*").replace("-", " ", 1)
    return parse_content_range(None if name == "whole" else header)


class SourceFile:
    """Joins pieces to the source and keeps its SHA-256 up to date."""

    def __init__(self, directory: Path, stop: Event) -> None:
        self.directory = directory
        self.path = directory / "source"
        self._log = directory / "merged"
        self._stop = stop
        self._digest = hashlib.sha256()
        self._hashed_bytes = 0

    def append(self, piece: Piece, offset: int) -> None:
        """Join a received piece to the end of the source, which is `offset` bytes long."""
        name = piece_name(piece.range)
        with self._log.open("a") as log:
            log.write(f"{name} {piece.size_bytes}\n")
        self.hash_prefix(offset)
        arrived = self.directory / name
        if offset == 0:
            arrived.replace(self.path)
            self.hash_prefix(piece.size_bytes)
        else:
            self._copy(arrived, offset)
            arrived.unlink()

    def sha256(self) -> str:
        return self._digest.hexdigest()

    def recover(self) -> Upload:
        """What has arrived, as the directory tells it after any kind of end."""
        upload = Upload()
        for piece in self._recover_log():
            upload.reserve(piece)
            upload.land(piece)
            upload.merge(piece)
        for file in self.directory.iterdir():
            if file.name.startswith(("part-", "bytes-")) or file.name == "whole":
                piece = Piece(_range_of(file.name), file.stat().st_size)
                upload.reserve(piece)
                upload.land(piece)
        if self.path.exists() and self.path.stat().st_size > upload.merged_bytes:
            with self.path.open("r+b") as source:
                source.truncate(upload.merged_bytes)
        return upload

    def _recover_log(self) -> list[Piece]:
        text = self._log.read_text() if self._log.exists() else ""
        kept: list[Piece] = []
        lines: list[str] = []
        for line in text.splitlines(keepends=True):
            name, _, size = line.rstrip("\n").partition(" ")
            if not line.endswith("\n") or (self.directory / name).exists():
                break
            kept.append(Piece(_range_of(name), int(size)))
            lines.append(line)
        if len("".join(lines)) != len(text):
            self._log.write_text("".join(lines))
        return kept

    def _copy(self, arrived: Path, offset: int) -> None:
        with arrived.open("rb") as piece, self.path.open("r+b") as source:
            source.seek(offset)
            source.truncate()
            for block in self._blocks(piece):
                self._digest.update(block)
                self._hashed_bytes += len(block)
                source.write(block)

    def hash_prefix(self, end: int) -> None:
        """Bring the digest up to `end`; after a restart that begins at the first byte again."""
        if self._hashed_bytes == end:
            return
        with self.path.open("rb") as source:
            source.seek(self._hashed_bytes)
            for block in self._blocks(source):
                self._digest.update(block)
                self._hashed_bytes += len(block)

    def _blocks(self, file: BinaryIO) -> Iterator[memoryview]:
        buffer = pages(_BLOCK_BYTES)
        while count := file.readinto(buffer):  # type: ignore[attr-defined]
            if self._stop.is_set():
                raise Stopped
            yield buffer[:count]
