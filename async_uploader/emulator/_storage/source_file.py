"""One video's bytes on disk: the received parts, and the source file that they are joined into.

    merged      the log: a line for each joined part, in the order of the file: `part-3-of-any 5242880`
    part-7-of-any, bytes-0-5242879-of-9000000, whole
                received parts. Each is put in place by a rename, before the request is acknowledged
    source      the joined parts; in the end, the finished source

A part's log line is written before the part is joined, and its file is deleted afterwards. So after a kill, one
rule decides: a part whose file still exists is not joined, whatever the log says. The first part is not copied:
its file becomes the source. Nothing is synced to disk: the emulator must survive a kill, not a power failure.

Joining needs no space for a second copy. A part is copied to the end of the source if there is ample space, so
that the copy does not take the space of other parts. Otherwise the part is moved, block by block
from its end, and its file is truncated after each block. Its log line states its full size. A file that is shorter
than its line says was therefore moved from there on, and the rest of it follows.

All of this blocks, and runs in threads. Only one thread at a time works on a video.
"""

from __future__ import annotations

import errno
import hashlib
import os
from typing import TYPE_CHECKING, BinaryIO, Final

from async_uploader._buffers import page_aligned_buffer
from async_uploader.emulator._rules import ContentRange, ReceivedPart, Upload, parse_content_range

from .disk_space import DISK_FULL, DiskSpace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from threading import Event

BLOCK_BYTES: Final = 256 * 1024  # stays in the processor's cache between reading, hashing and writing


class JoiningStopped(Exception):
    """Joining was interrupted. It continues from the same state when the emulator starts again."""


def part_file_name(content_range: ContentRange) -> str:
    """A range as a file name: `part 3/*` is `part-3-of-any`."""
    return str(content_range).replace(" ", "-").replace("/", "-of-").replace("*", "any")


def _parse_file_name(name: str) -> ContentRange:
    header = name.replace("-of-", "/").replace("any", "*").replace("-", " ", 1)
    return parse_content_range(None if name == "whole" else header)


def _log_line(part: ReceivedPart) -> bytes:
    return f"{part_file_name(part.range)} {part.size_bytes}\n".encode()


class SourceFile:
    """Joins parts to the source and keeps its SHA-256 up to date.

    :param stop: set to interrupt the work
    :param space: decides whether a part may be copied; None always copies
    """

    def __init__(self, directory: Path, stop: Event, space: DiskSpace | None = None) -> None:
        self.directory = directory
        self.path = directory / "source"
        self._log = directory / "merged"
        self._log_bytes = 0
        self._last_logged: ReceivedPart | None = None
        self._stop = stop
        self._space = space
        self._digest = hashlib.sha256()
        self._hashed_bytes = 0

    def append(self, part: ReceivedPart, offset: int) -> None:
        """Join a received part to the end of the source, which is `offset` bytes long.

        The call can be repeated after a failure.

        :raises OSError: reading or writing failed; no byte of the part is lost
        """
        part_file = self.directory / part_file_name(part.range)
        self._append_to_log(part)
        self.hash_up_to(offset)
        if part_file.exists():  # otherwise an earlier call joined it, and failed afterwards
            if offset == 0:
                part_file.replace(self.path)
            else:
                self._copy_or_move(part_file, part, offset)
                part_file.unlink()
        self.hash_up_to(offset + part.size_bytes)

    def remove_part(self, part: ReceivedPart, offset: int) -> bool:
        """Delete a received part that is not joined to the source, which is `offset` bytes long.

        :returns: whether the part was deleted; False for a part that was partly moved
        """
        part_file = self.directory / part_file_name(part.range)
        if not part_file.exists() or part_file.stat().st_size < part.size_bytes:
            return False
        if self._last_logged is not None and part_file_name(self._last_logged.range) == part_file.name:
            # The line goes first: a line without its part file means that the part was joined.
            self._log_bytes -= len(_log_line(part))
            os.truncate(self._log, self._log_bytes)
            self._last_logged = None
        part_file.unlink()
        if self._hashed_bytes > offset:  # the replacement may have other bytes
            self._digest, self._hashed_bytes = hashlib.sha256(), 0
        return True

    def sha256(self) -> str:
        return self._digest.hexdigest()

    def recover(self) -> Upload:
        """Read the received parts from the directory, however the previous emulator ended."""
        upload = Upload()
        for part in self._recover_log():
            upload.reserve(part)
            upload.mark_stored(part)
            upload.mark_joined(part)
        end = upload.joined_bytes
        for file in self.directory.iterdir():
            if file.name.startswith(("part-", "bytes-")) or file.name == "whole":
                part = ReceivedPart(_parse_file_name(file.name), file.stat().st_size)
                if self._last_logged is not None and self._last_logged.range == part.range:
                    if part.size_bytes < self._last_logged.size_bytes:  # moved from there on
                        end = upload.joined_bytes + self._last_logged.size_bytes
                    part.size_bytes = self._last_logged.size_bytes
                upload.reserve(part)
                upload.mark_stored(part)
        if self.path.exists() and self.path.stat().st_size > end:
            os.truncate(self.path, end)
        return upload

    def _recover_log(self) -> list[ReceivedPart]:
        """Read the joined parts. A last line whose part file exists is kept, but its part is not joined."""
        text = self._log.read_text() if self._log.exists() else ""
        joined: list[ReceivedPart] = []
        for line in text.splitlines(keepends=True):
            name, _, size = line.rstrip("\n").partition(" ")
            if not line.endswith("\n"):
                break
            self._last_logged = ReceivedPart(_parse_file_name(name), int(size))
            self._log_bytes += len(line)
            if (self.directory / name).exists():
                break
            joined.append(self._last_logged)
        if self._log_bytes != len(text):
            os.truncate(self._log, self._log_bytes)
        return joined

    def _append_to_log(self, part: ReceivedPart) -> None:
        """Write a part's line, unless it is already the last one."""
        if self._last_logged is not None and self._last_logged.range == part.range:
            return
        line = _log_line(part)
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            os.ftruncate(log, self._log_bytes)  # removes an incomplete line that a full disk left
            if os.pwrite(log, line, self._log_bytes) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(log)
        self._log_bytes += len(line)
        self._last_logged = part

    def _copy_or_move(self, part_file: Path, part: ReceivedPart, offset: int) -> None:
        if part_file.stat().st_size == part.size_bytes:
            try:
                if self._copy(part_file, offset):
                    return
            except OSError as error:
                os.truncate(self.path, offset)
                if error.errno not in DISK_FULL:
                    raise
        self._move(part_file, offset)

    def _copy(self, part_file: Path, offset: int) -> bool:
        """Copy a part if there is ample space; False if there is not."""
        position = offset
        with part_file.open("rb") as part, self.path.open("r+b") as source:
            size_bytes = os.fstat(part.fileno()).st_size
            if self._space is not None and not self._space.can_copy(source.fileno(), size_bytes):
                return False
            source.seek(offset)
            source.truncate()
            for block in self._blocks(part):
                self._hash(block, position)
                source.write(block)
                position += len(block)
        return True

    def _move(self, part_file: Path, offset: int) -> None:
        """Move a part from its end: each block frees the space for the next."""
        buffer = page_aligned_buffer(BLOCK_BYTES)
        with part_file.open("r+b") as part, self.path.open("r+b") as source:
            remaining = os.fstat(part.fileno()).st_size
            while remaining:
                if self._stop.is_set():
                    raise JoiningStopped
                start = (remaining - 1) // BLOCK_BYTES * BLOCK_BYTES
                block = buffer[: remaining - start]
                if os.preadv(part.fileno(), [block], start) != len(block):
                    raise OSError(errno.EIO, f"{part_file} was truncated")
                done = 0
                while done < len(block):
                    done += os.pwrite(source.fileno(), block[done:], offset + start + done)
                os.ftruncate(part.fileno(), start)
                remaining = start

    def hash_up_to(self, end: int) -> None:
        """Bring the digest up to byte `end`. After a restart, this starts at the first byte again."""
        if self._hashed_bytes >= end:
            return
        with self.path.open("rb") as source:
            source.seek(self._hashed_bytes)
            for block in self._blocks(source):
                self._hash(block[: end - self._hashed_bytes], self._hashed_bytes)
                if self._hashed_bytes == end:
                    return

    def _hash(self, block: memoryview, position: int) -> None:
        """Hash a block of the source, except for the bytes that a failed attempt already hashed."""
        unhashed = block[max(self._hashed_bytes - position, 0) :]
        self._digest.update(unhashed)
        self._hashed_bytes += len(unhashed)

    def _blocks(self, file: BinaryIO) -> Iterator[memoryview]:
        buffer = page_aligned_buffer(BLOCK_BYTES)
        while count := file.readinto(buffer):  # type: ignore[attr-defined]
            if self._stop.is_set():
                raise JoiningStopped
            yield buffer[:count]
