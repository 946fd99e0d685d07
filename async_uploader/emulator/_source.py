"""One video's bytes on disk: received pieces, and the one source file that they are joined into.

    merged      a line for each piece that was joined, in the file's order: `part-3-of-any 5242880`
    part-7-of-any, bytes-0-5242879-of-9000000, whole
                received pieces, each put there by a rename: the rename is the acknowledgement
    source      the pieces joined so far; the finished source in the end

The line is written before the piece is joined and the piece is removed after, so that one rule tells
where a killed process stopped: a piece whose file is still there is not joined, whatever the log says.
The first piece is not copied but becomes the source. Nothing is fsynced: what a test service must survive
is being killed, not a power cut.

Joining needs no room for a second copy. A piece is copied to the end of the source if there is ample room: the
copy must not take what parts need that come in meanwhile. If not, the piece is moved there from its end, block by
block, and cut off by as much as has been moved. Its line has its whole size, so a piece that is shorter than its
line says has been moved from there on, and the rest of it follows.

All of this blocks and runs in threads. Only one thread at a time works for one video.
"""

from __future__ import annotations

import errno
import hashlib
import os
from typing import TYPE_CHECKING, BinaryIO, Final

from async_uploader._buffers import page_aligned_buffer

from ._room import NO_ROOM, Room
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


def _line(piece: Piece) -> bytes:
    return f"{piece_name(piece.range)} {piece.size_bytes}\n".encode()


class SourceFile:
    """Joins pieces to the source and keeps its SHA-256 up to date."""

    def __init__(self, directory: Path, stop: Event, room: Room | None = None) -> None:
        self.directory = directory
        self.path = directory / "source"
        self._log = directory / "merged"
        self._log_bytes = 0
        self._logged: Piece | None = None  # the last line's piece
        self._stop = stop
        self._room = room
        self._digest = hashlib.sha256()
        self._hashed_bytes = 0

    def append(self, piece: Piece, offset: int) -> None:
        """Join a received piece to the end of the source, which is `offset` bytes long.

        It may be called again after it has failed.

        :raises OSError: reading or writing failed; no byte of the piece is lost
        """
        arrived = self.directory / piece_name(piece.range)
        self._note(piece)
        self.hash_prefix(offset)
        if arrived.exists():  # or an earlier call has joined it, and failed after that
            if offset == 0:
                arrived.replace(self.path)
            else:
                self._copy_or_move(arrived, piece, offset)
                arrived.unlink()
        self.hash_prefix(offset + piece.size_bytes)

    def take_back(self, piece: Piece, offset: int) -> bool:
        """Remove a received piece that is not joined to the source, which is `offset` bytes long.

        :return: whether it is removed; one that is moved in part is not
        """
        arrived = self.directory / piece_name(piece.range)
        if not arrived.exists() or arrived.stat().st_size < piece.size_bytes:
            return False
        if self._logged is not None and piece_name(self._logged.range) == arrived.name:
            # Before the piece: a line without its piece means that this was joined.
            self._log_bytes -= len(_line(piece))
            os.truncate(self._log, self._log_bytes)
            self._logged = None
        arrived.unlink()
        if self._hashed_bytes > offset:  # begin again: what comes in its place may be something else
            self._digest, self._hashed_bytes = hashlib.sha256(), 0
        return True

    def sha256(self) -> str:
        return self._digest.hexdigest()

    def recover(self) -> Upload:
        """What has arrived, as the directory tells it after any kind of end."""
        upload = Upload()
        for piece in self._recover_log():
            upload.reserve(piece)
            upload.land(piece)
            upload.merge(piece)
        end = upload.merged_bytes
        for file in self.directory.iterdir():
            if file.name.startswith(("part-", "bytes-")) or file.name == "whole":
                piece = Piece(_range_of(file.name), file.stat().st_size)
                if self._logged is not None and self._logged.range == piece.range:
                    if piece.size_bytes < self._logged.size_bytes:  # moved from there on
                        end = upload.merged_bytes + self._logged.size_bytes
                    piece.size_bytes = self._logged.size_bytes
                upload.reserve(piece)
                upload.land(piece)
        if self.path.exists() and self.path.stat().st_size > end:
            os.truncate(self.path, end)
        return upload

    def _recover_log(self) -> list[Piece]:
        """The pieces that were joined; a line for one that is still there is kept, but not its piece."""
        text = self._log.read_text() if self._log.exists() else ""
        kept: list[Piece] = []
        for line in text.splitlines(keepends=True):
            name, _, size = line.rstrip("\n").partition(" ")
            if not line.endswith("\n"):
                break
            self._logged = Piece(_range_of(name), int(size))
            self._log_bytes += len(line)
            if (self.directory / name).exists():
                break
            kept.append(self._logged)
        if self._log_bytes != len(text):
            os.truncate(self._log, self._log_bytes)
        return kept

    def _note(self, piece: Piece) -> None:
        """Write a piece's line, unless that is the last one already."""
        if self._logged is not None and self._logged.range == piece.range:
            return
        line = _line(piece)
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            os.ftruncate(log, self._log_bytes)  # what a full disk has left of a line
            if os.pwrite(log, line, self._log_bytes) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(log)
        self._log_bytes += len(line)
        self._logged = piece

    def _copy_or_move(self, arrived: Path, piece: Piece, offset: int) -> None:
        if arrived.stat().st_size == piece.size_bytes:
            try:
                if self._copy(arrived, offset):
                    return
            except OSError as error:
                os.truncate(self.path, offset)
                if error.errno not in NO_ROOM:
                    raise
        self._move(arrived, offset)

    def _copy(self, arrived: Path, offset: int) -> bool:
        """Copy a piece, if there is ample room for that."""
        position = offset
        with arrived.open("rb") as piece, self.path.open("r+b") as source:
            size_bytes = os.fstat(piece.fileno()).st_size
            if self._room is not None and not self._room.has_ample(source.fileno(), size_bytes):
                return False
            source.seek(offset)
            source.truncate()
            for block in self._blocks(piece):
                self._hash(block, position)
                source.write(block)
                position += len(block)
        return True

    def _move(self, arrived: Path, offset: int) -> None:
        """Move a piece from its end, so that each block gives its room to the next."""
        buffer = page_aligned_buffer(_BLOCK_BYTES)
        with arrived.open("r+b") as piece, self.path.open("r+b") as source:
            remaining = os.fstat(piece.fileno()).st_size
            while remaining:
                if self._stop.is_set():
                    raise Stopped
                start = (remaining - 1) // _BLOCK_BYTES * _BLOCK_BYTES
                block = buffer[: remaining - start]
                if os.preadv(piece.fileno(), [block], start) != len(block):
                    raise OSError(errno.EIO, f"{arrived} is shorter than it was")
                done = 0
                while done < len(block):
                    done += os.pwrite(source.fileno(), block[done:], offset + start + done)
                os.ftruncate(piece.fileno(), start)
                remaining = start

    def hash_prefix(self, end: int) -> None:
        """Bring the digest up to `end`; after a restart that begins at the first byte again."""
        if self._hashed_bytes >= end:
            return
        with self.path.open("rb") as source:
            source.seek(self._hashed_bytes)
            for block in self._blocks(source):
                self._hash(block[: end - self._hashed_bytes], self._hashed_bytes)
                if self._hashed_bytes == end:
                    return

    def _hash(self, block: memoryview, position: int) -> None:
        """Hash a block of the source; what an earlier attempt has hashed of it is left out."""
        fresh = block[max(self._hashed_bytes - position, 0) :]
        self._digest.update(fresh)
        self._hashed_bytes += len(fresh)

    def _blocks(self, file: BinaryIO) -> Iterator[memoryview]:
        buffer = page_aligned_buffer(_BLOCK_BYTES)
        while count := file.readinto(buffer):  # type: ignore[attr-defined]
            if self._stop.is_set():
                raise Stopped
            yield buffer[:count]
