"""Where the bytes are: a file on disk, read in slices, as often as it takes.

A slice is read by its own descriptor, in threads, into the caller's buffer; nothing of it is kept. Every slice
is checked against the file's identity when it is opened and again before its last bytes are handed out, so a
file that changes under the upload ends it before a part of the other file can complete it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import aiofiles
import aiofiles.os
from aiofiles.threadpool.binary import AsyncFileIO
from anyio import CancelScope, move_on_after

from ._errors import SourceError
from ._limits import KIB, MAX_VIDEO_BYTES
from ._plan import Part
from ._units import format_size

# A read that takes longer than this hangs; its descriptor is then left to it.
_CLOSE_SECONDS: Final = 0.5
_SAMPLES: Final = 256
_SAMPLE_BYTES: Final = 16 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What tells a file from another one, or from itself before a change."""

    size_bytes: int
    mtime_ns: int
    device: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """The identity that a ``stat()`` shows."""
        return cls(
            size_bytes=status.st_size, mtime_ns=status.st_mtime_ns, device=status.st_dev, inode=status.st_ino
        )


class FileSource:
    """A regular file. Made by :meth:`open`, which checks it."""

    def __init__(self, path: Path, identity: Identity, threads: ThreadPoolExecutor) -> None:
        self.path = path
        self.identity = identity
        self._threads = threads

    @classmethod
    async def open(cls, path: str | os.PathLike[str], *, threads: ThreadPoolExecutor) -> Self:
        """Look at a file and remember what it was.

        :raises SourceError: it is missing, no regular file, unreadable, empty, or bigger than the service takes
        """
        where = Path(path)
        try:
            status = await aiofiles.os.stat(where, executor=threads)
            _check_kind(where, status)
            source = cls(where, Identity.of(status), threads)
            await (await source._open()).close()
        except FileNotFoundError as exc:
            raise SourceError(f"{_shown(where)} does not exist.") from exc
        except (OSError, ValueError) as exc:  # ValueError: a NUL in the path
            reason = getattr(exc, "strerror", None) or exc
            raise SourceError(f"{_shown(where)} cannot be read: {reason}.") from exc
        return source

    @property
    def name(self) -> str:
        """The file's name without its folders; what cannot be encoded in UTF-8 is replaced."""
        return os.fsencode(self.path.name).decode("utf-8", "replace")

    @property
    def shown(self) -> str:
        """The path for a message."""
        return _shown(self.path)

    @property
    def size_bytes(self) -> int:
        """The size that the upload will have."""
        return self.identity.size_bytes

    async def sample(self) -> str:
        """A hash of the size and of 256 blocks spread over the file: the same content, wherever it lies.

        Reading all of a large file first would cost minutes; a file that differs only between the blocks is
        told from this one by its identity, on the same machine.

        :raises SourceError: the file cannot be read
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, _sample, self.path, self.size_bytes)
        except OSError as exc:
            raise SourceError(f"{_shown(self.path)} cannot be read: {exc.strerror}.") from exc

    @asynccontextmanager
    async def reading(self, part: Part) -> AsyncIterator[SliceReader]:
        """A reader of one part's bytes, for one attempt.

        :raises SourceError: the file has changed or cannot be read
        """
        await self._check_identity()
        try:
            file = await self._open()
        except OSError as exc:
            raise SourceError(f"{_shown(self.path)} cannot be read: {exc.strerror}.") from exc
        reader = SliceReader(self, file, part.size_bytes)
        try:
            await file.seek(part.offset)
            yield reader
        finally:
            with move_on_after(_CLOSE_SECONDS, shield=True):
                await reader.settle()
                await file.close()

    async def _open(self) -> AsyncFileIO:
        # Shielded: aiofiles would lose the descriptor if it were cancelled between open() and its return.
        with CancelScope(shield=True):
            file = await aiofiles.open(self.path, "rb", buffering=0, executor=self._threads)
        return file  # noqa: RET504 - a scope might swallow, for all a type checker knows

    async def _check_identity(self) -> None:
        try:
            now = Identity.of(await aiofiles.os.stat(self.path, executor=self._threads))
        except OSError as exc:
            raise SourceError(f"{_shown(self.path)} cannot be read any more: {exc.strerror}.") from exc
        if now != self.identity:
            raise SourceError(
                f"{_shown(self.path)} has changed since the upload began{_difference(self.identity, now)}."
            )


class SliceReader:
    """Reads one part of a file from its first byte to its last."""

    def __init__(self, source: FileSource, file: AsyncFileIO, size_bytes: int) -> None:
        self._source = source
        self._file = file
        self._left_bytes = size_bytes
        self._read: asyncio.Future[int | None] | None = None

    async def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer's start; returns how many bytes, 0 at the end of the part.

        A cancelled call may go on writing into ``buffer`` from its thread: do not use that buffer again.

        :raises SourceError: the file has changed or cannot be read
        """
        if not self._left_bytes:
            return 0
        try:
            self._read = asyncio.ensure_future(self._file.readinto(buffer[: self._left_bytes]))
            # Shielded, so that settle() can wait for the thread. None would mean "would block", which a
            # regular file never says.
            count = await asyncio.shield(self._read) or 0
        except OSError as exc:
            raise SourceError(f"{_shown(self._source.path)} cannot be read: {exc.strerror}.") from exc
        self._left_bytes -= count
        if not count or not self._left_bytes:
            # Before the last bytes leave, so that no changed part is ever complete. A file that ends early
            # has changed, too.
            await self._source._check_identity()  # noqa: SLF001 - the other half of one thing
        if not count:
            raise SourceError(f"{_shown(self._source.path)} ended before the size that it reports.")
        return count

    async def settle(self) -> None:
        """Wait for a read that was cancelled: its thread still uses the descriptor."""
        if self._read is not None:
            await asyncio.gather(self._read, return_exceptions=True)


def _sample(path: Path, size_bytes: int) -> str:
    digest = hashlib.blake2b(str(size_bytes).encode(), digest_size=16)
    step_bytes = max(1, size_bytes // _SAMPLES)
    with path.open("rb") as file:
        for offset in (*range(0, size_bytes, max(step_bytes, _SAMPLE_BYTES)), max(0, size_bytes - _SAMPLE_BYTES)):
            file.seek(offset)
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _check_kind(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise SourceError(f"{_shown(path)} is a directory; name a file.")
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{_shown(path)} is not a regular file.")
    if not status.st_size:
        raise SourceError(f"{_shown(path)} is empty; there is nothing to upload.")
    if status.st_size > MAX_VIDEO_BYTES:
        raise SourceError(
            f"{_shown(path)} has {format_size(status.st_size)}; "
            f"the service takes at most {format_size(MAX_VIDEO_BYTES)} a video."
        )


def _difference(before: Identity, now: Identity) -> str:
    if before.size_bytes != now.size_bytes:
        return f": it had {before.size_bytes:,} bytes and has {now.size_bytes:,} now"
    if (before.device, before.inode) != (now.device, now.inode):
        return ": another file has taken its place"
    return ": it was written to"


def _shown(path: Path) -> str:
    """A path for a message: on one line, whatever characters its name has."""
    text = str(path)
    return text if text.isprintable() else ascii(text)
