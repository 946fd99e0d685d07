"""Where the bytes are: a file on disk, read in slices, as often as it takes.

A slice is read by its own descriptor, in threads, into the caller's buffer; only a checksum of it is kept. Every
slice is checked against the file's identity when it is opened and again before its last bytes are handed out, so a
file that changes under the upload ends it before a part of the other file can complete it. If only the file's
change time differs, the parts that were read are read again and compared; see :mod:`._identity`.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import stat
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Final, Protocol, Self, TypeVar

import aiofiles.os
from aiofiles.threadpool import wrap
from aiofiles.threadpool.binary import AsyncFileIO
from anyio import Lock, move_on_after
from msgspec import Struct

from async_uploader._errors import SourceError
from async_uploader._limits import KIB, MAX_VIDEO_BYTES
from async_uploader._plan import Part, Plan
from async_uploader._units import format_size

from .identity import (
    Checksum,
    ContentsChanged,
    Identity,
    NotComparable,
    ReadPart,
    ReadParts,
    UnsettledFile,
    checksums,
    ctime_ns_of,
    open_regular_file,
    settled_status,
)

T = TypeVar("T")

# What takes longer than this hangs; its descriptor is then left to it.
_SETTLE_SECONDS: Final = 0.4
_CAN_READ_AT_ONCE: Final = hasattr(os, "RWF_NOWAIT")
_SAMPLES: Final = 256
_SAMPLE_BYTES: Final = 16 * KIB


class Reader(Protocol):
    """One attempt's view of a part's bytes."""

    async def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer's start; returns how many bytes, 0 at the end of the part."""
        ...


class PartSource(Struct, frozen=True, kw_only=True):
    """A part and its bytes.

    :param open: opens the bytes for one attempt
    :param release: to be called once the service has the part
    """

    part: Part
    open: Callable[[], AbstractAsyncContextManager[Reader]]
    release: Callable[[], None]


class Source(Protocol):
    """Where the bytes of an upload are."""

    @property
    def name(self) -> str:
        """What the video is called, unless it is given a title."""
        ...

    @property
    def shown(self) -> str:
        """The source for a message."""
        ...

    @property
    def size_bytes(self) -> int | None:
        """How many bytes there are, where that is known ahead."""
        ...

    async def prime(self) -> None:
        """See that there is something to upload, before there is a container for it."""
        ...

    def pieces(self, plan: Plan, *, received: frozenset[int]) -> AsyncGenerator[PartSource, None]:
        """The parts that the service does not have yet, in order. The last one knows that it is."""
        ...

    async def aclose(self) -> None:
        """Let go of everything; what comes from the caller is left as it was."""
        ...


def _nothing_to_release() -> None:
    """A slice of a file is read again, not kept."""


class FileSource:
    """A regular file. Made by :meth:`open`, which checks it.

    :ivar path: as the caller named it
    :ivar real_path: absolute, without symbolic links
    """

    def __init__(self, path: Path, found: Found, threads: ThreadPoolExecutor) -> None:
        self.path = path
        self.real_path = found.real_path
        self.identity = found.identity
        self._read_parts = ReadParts(path, ctime_ns=found.ctime_ns)
        self._verification = Lock()
        self._sample: str | None = None
        self._threads = threads

    @classmethod
    async def open(cls, path: str | os.PathLike[str], *, threads: ThreadPoolExecutor) -> Self:
        """Look at a file and remember what it was.

        :raises SourceError: it is missing, no regular file, unreadable, empty, or bigger than the service takes
        """
        where = Path(path)
        try:
            found = await asyncio.get_running_loop().run_in_executor(threads, _looked_at, where)
        except FileNotFoundError as exc:
            raise SourceError(f"{_shown(where)} does not exist.") from exc
        except (OSError, ValueError) as exc:  # ValueError: a NUL in the path
            reason = getattr(exc, "strerror", None) or exc
            raise SourceError(f"{_shown(where)} cannot be read: {reason}.") from exc
        return cls(where, found, threads)

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
            self._sample = await loop.run_in_executor(self._threads, _sample, self.path, self.size_bytes)
        except OSError as exc:
            raise SourceError(f"{_shown(self.path)} cannot be read: {exc.strerror}.") from exc
        return self._sample

    @property
    def ctime_ns(self) -> int | None:
        """The file's change time at which all parts that were read were right; None where there is none."""
        return self._read_parts.ctime_ns

    def checksum(self, part_number: int) -> bytes | None:
        """The checksum of a part that was read to its end, or remembered."""
        return self._read_parts.checksum(part_number)

    async def remember(
        self, parts: Iterable[Part], known: Mapping[int, bytes], *, ctime_ns: int | None, read_others: bool
    ) -> None:
        """Compare parts that an earlier process sent with the file, and remember them for later comparisons.

        :param known: their checksums, as far as they were recorded
        :param ctime_ns: the file's change time when they were right; None if it was not recorded
        :param read_others: read the parts without a checksum now, if the file was not changed since
        :raises SourceError: the file was changed since, and a part has other bytes or no checksum
        """
        self._read_parts.clear()
        seen_ns = self.ctime_ns if ctime_ns is None else ctime_ns
        for part in parts:
            self._read_parts.add(part, known.get(part.number), ctime_ns=seen_ns)
        if seen_ns != self.ctime_ns:
            await self._verify()
        elif read_others and (others := self._read_parts.without_checksum()):
            found = await self._in_thread(lambda stop: checksums(self.path, others, stop))
            for part in others:
                self._read_parts.add(part, found.get(part.number), ctime_ns=seen_ns)

    def forget(self) -> None:
        """Nothing was sent yet: the upload starts anew."""
        self._read_parts.clear()

    async def prime(self) -> None:
        """Nothing: it was looked at when it was opened."""

    async def aclose(self) -> None:
        """Nothing: descriptors are open only while a part is read."""

    async def pieces(self, plan: Plan, *, received: frozenset[int]) -> AsyncGenerator[PartSource, None]:
        """All parts but those that the service has already, in order."""
        for part in plan.parts():
            if part.number not in received:
                yield PartSource(part=part, open=partial(self.reading, part), release=_nothing_to_release)

    @asynccontextmanager
    async def reading(self, part: Part) -> AsyncIterator[SliceReader]:
        """A reader of one part's bytes, for one attempt.

        :raises SourceError: the file has changed or cannot be read
        """
        file, ctime_ns = await self._open(part)
        reader = SliceReader(self, wrap(file, executor=self._threads), part, ctime_ns=ctime_ns)
        try:
            if ctime_ns != self.ctime_ns:
                # Not needed to be safe, but to send nothing of a file that has changed already.
                await self._verify()
            yield reader
        finally:
            await reader.settle()
            # Nobody waits for it: a file system may take its time. Again, where the threads are shut down before.
            self._threads.submit(file.close).add_done_callback(lambda _: file.close())

    async def _open(self, part: Part) -> tuple[FileIO, int | None]:
        # Shielded: the descriptor would be lost if this were cancelled between open() and its return.
        opening = asyncio.get_running_loop().run_in_executor(self._threads, self._opened_at, part)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close)
            raise

    def _opened_at(self, part: Part) -> tuple[FileIO, int | None]:
        """A file, and its change time from before anything of it is read."""
        file = self._opened(part)
        return file, ctime_ns_of(os.fstat(file.fileno()))

    def _opened(self, part: Part) -> FileIO:
        try:
            self._compare(self.path.stat())
            file = open_regular_file(self.path)
            file.seek(part.offset)
        except OSError as exc:
            raise self._unreadable(exc) from exc
        return file

    async def check(self, part: Part, checksum: bytes, *, ctime_ns: int | None) -> None:
        """Check that the file is what was read of it; called before a part's last bytes are handed out.

        :param checksum: of the whole part
        :param ctime_ns: the file's change time from before the part was read
        :raises SourceError: it has changed or cannot be read
        """
        try:
            # Before the status is asked, or a part that ends at the same time could miss this one; see ReadParts.
            self._read_parts.add(part, checksum, ctime_ns=ctime_ns)
        except ContentsChanged as exc:
            raise self._changed(exc) from exc
        now_ns = await self.check_identity()
        if not now_ns == ctime_ns == self.ctime_ns:
            await self._verify()

    async def check_identity(self) -> int | None:
        """Check that the file is the one that was opened; returns its change time.

        :raises SourceError: it is not, or cannot be read
        """
        try:
            status = await aiofiles.os.stat(self.path, executor=self._threads)
        except OSError as exc:
            raise self._unreadable(exc) from exc
        self._compare(status)
        return ctime_ns_of(status)

    async def _verify(self) -> None:
        """Something has changed the file, or its attributes: compare the parts that were read with it.

        One at a time. What the first one has verified, the next one need not read again.
        """
        async with self._verification:
            try:
                verified, ctime_ns = await self._in_thread(self._verified)
            except ContentsChanged as exc:
                raise self._changed(exc) from exc
            self._read_parts.accept(verified, ctime_ns=ctime_ns)

    def _verified(self, stop: threading.Event) -> tuple[list[ReadPart], int | None]:
        found = self._read_parts.verify(self._compare, stop)
        # The journal and the marks identify the file by its sample.
        if self._sample is not None and _sample(self.path, self.size_bytes) != self._sample:
            raise ContentsChanged
        return found

    async def _in_thread(self, call: Callable[[threading.Event], T]) -> T:
        """Run what reads for long. It stops soon after a cancellation, which does not wait for it."""
        stop = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call, stop)
        except OSError as exc:
            raise self._unreadable(exc) from exc
        finally:
            stop.set()

    def _changed(self, exc: ContentsChanged) -> SourceError:
        how = {
            NotComparable: "its attributes differ, and parts that were sent earlier cannot be compared with it",
            UnsettledFile: "its attributes change again and again",
        }.get(type(exc), "its contents differ, although its size and modification time do not")
        return SourceError(f"{_shown(self.path)} has changed since the upload began: {how}.")

    def _unreadable(self, exc: OSError) -> SourceError:
        return SourceError(f"{_shown(self.path)} cannot be read any more: {exc.strerror}.")

    def _compare(self, status: os.stat_result) -> None:
        now = Identity.of(status)
        if now != self.identity:
            raise SourceError(
                f"{_shown(self.path)} has changed since the upload began{_difference(self.identity, now)}."
            )


class Reads:
    """Reads that happen in threads, one at a time, and can be waited for when their caller was cancelled.

    A cancelled read may go on writing into its buffer: that buffer is not to be used again.
    """

    def __init__(self, readinto: Callable[[memoryview], Awaitable[int | None]]) -> None:
        self._readinto = readinto
        self._read: asyncio.Future[int | None] | None = None

    async def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer's start; returns how many bytes, 0 at the end."""
        # None would mean "would block", which a regular file never says.
        self._read = asyncio.ensure_future(self._readinto(buffer))
        return await asyncio.shield(self._read) or 0

    async def settle(self) -> None:
        """Wait until no thread uses the descriptor any more; not for one that hangs."""
        if self._read is not None:
            with move_on_after(_SETTLE_SECONDS, shield=True):
                await asyncio.gather(self._read, return_exceptions=True)


class SliceReader:
    """Reads one part of a file from its first byte to its last.

    What the kernel has in memory is copied at once (``RWF_NOWAIT``: it never waits for a disk), what it has not is
    read in a thread. The hop there and back costs more than the copy.
    """

    def __init__(self, source: FileSource, file: AsyncFileIO, part: Part, *, ctime_ns: int | None) -> None:
        self._source = source
        self._file = file
        self._part = part
        self._ctime_ns = ctime_ns
        self._checksum = Checksum()
        self._reads = Reads(file.readinto)
        self._offset, self._left_bytes = part.offset, part.size_bytes
        self._is_in_memory = _CAN_READ_AT_ONCE
        self._is_at = part.offset  # where the descriptor stands
        self.settle = self._reads.settle

    async def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer's start; returns how many bytes, 0 at the end of the part.

        :raises SourceError: the file has changed or cannot be read
        """
        if not self._left_bytes:
            return 0
        buffer = buffer[: self._left_bytes]
        try:
            count = await self._read_at_once(buffer) or await self._read_in_thread(buffer)
        except OSError as exc:
            raise SourceError(f"{_shown(self._source.path)} cannot be read: {exc.strerror}.") from exc
        if not count:
            await self._source.check_identity()  # a file that ends early has changed, most likely
            raise SourceError(f"{_shown(self._source.path)} ended before the size that it reports.")
        self._checksum.update(buffer[:count])
        self._offset += count
        self._left_bytes -= count
        if not self._left_bytes:
            # Before the last bytes leave, so that no changed part is ever complete.
            await self._source.check(self._part, self._checksum.digest(), ctime_ns=self._ctime_ns)
        return count

    async def _read_at_once(self, buffer: memoryview) -> int:
        """What is in memory of the next bytes; 0 if that cannot be told."""
        if not self._is_in_memory:
            return 0
        # Neither this nor a fast line's drain() would let anybody else have a turn.
        await asyncio.sleep(0)
        try:
            count = os.preadv(self._file.fileno(), [buffer], self._offset, os.RWF_NOWAIT)
        except (BlockingIOError, NotImplementedError):
            count = 0
        except OSError as exc:
            if exc.errno != errno.EOPNOTSUPP:
                raise
            count = 0
        # The rest comes from the disk, most likely, and reading ahead is the business of whole blocks.
        self._is_in_memory = count == len(buffer)
        return count

    async def _read_in_thread(self, buffer: memoryview) -> int:
        if self._is_at != self._offset:
            await self._file.seek(self._offset)
        count = await self._reads.readinto(buffer)
        self._is_at = self._offset + count
        return count


class Found(Struct, frozen=True, kw_only=True):
    """A file as it was when it was first looked at."""

    real_path: Path
    identity: Identity
    ctime_ns: int | None


def _looked_at(path: Path) -> Found:
    """What a file is, having seen that it can be opened."""
    _check_kind(path, path.stat())
    open_regular_file(path).close()
    status = settled_status(path)
    _check_kind(path, status)
    return Found(
        real_path=Path(os.path.realpath(path)), identity=Identity.of(status), ctime_ns=ctime_ns_of(status)
    )


def _close(opening: asyncio.Future[tuple[FileIO, int | None]]) -> None:
    """A file that was opened when nobody waited for it any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[0].close()


def _sample(path: Path, size_bytes: int) -> str:
    digest = hashlib.blake2b(str(size_bytes).encode(), digest_size=16)
    step_bytes = max(1, size_bytes // _SAMPLES)
    with open_regular_file(path) as file:
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
