"""Uploads from a regular file.

Each attempt at a part opens its own descriptor, reads into the caller's buffer, and keeps only a checksum. The
identity of the file is checked when a part is opened and before its last bytes are sent. If the file has changed,
the upload fails before the service has a complete part of the new file. See :mod:`.verification`.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Final, Self

from aiofiles.threadpool import wrap
from msgspec import Struct

from async_uploader._errors import SourceError
from async_uploader._limits import KIB, MAX_VIDEO_BYTES
from async_uploader._plan import Part, Plan
from async_uploader._units import format_size

from .checksum import Checksum
from .identity import Identity, ctime_ns_of, settled_status
from .opening import open_regular_file
from .protocol import PartSource, Reader
from .reader import BytesReader, FilePartReader
from .verification import FileVerifier, display_name_of

# A part of this size is read at once: it is not larger than a small block of a body.
_SMALL_PART_BYTES: Final = 256 * KIB


class FileSource:
    """A regular file. :meth:`open` checks it and creates the instance.

    :ivar path: the path that the caller gave
    :ivar real_path: absolute, without symbolic links
    :ivar verifier: checks that the file stays the same
    """

    def __init__(self, path: Path, facts: FileFacts, threads: ThreadPoolExecutor) -> None:
        self.path = path
        self.real_path = facts.real_path
        self.identity = facts.identity
        self.verifier = FileVerifier(path, identity=facts.identity, ctime_ns=facts.ctime_ns, threads=threads)
        self._threads = threads

    @classmethod
    async def open(cls, path: str | os.PathLike[str], *, threads: ThreadPoolExecutor) -> Self | None:
        """Check a file and store its identity.

        :returns: None if the path leads to a pipe, which can be read only once
        :raises SourceError: the file is missing, not regular, unreadable, empty or too large
        """
        path = Path(path)
        try:
            facts = await asyncio.get_running_loop().run_in_executor(threads, _inspect, path)
        except FileNotFoundError as exc:
            raise SourceError(f"{display_name_of(path)} does not exist.") from exc
        except (OSError, ValueError) as exc:  # ValueError: a NUL in the path
            reason = getattr(exc, "strerror", None) or exc
            raise SourceError(f"{display_name_of(path)} cannot be read: {reason}.") from exc
        return None if facts is None else cls(path, facts, threads)

    @property
    def name(self) -> str:
        """The file name; characters that UTF-8 cannot encode are replaced."""
        return os.fsencode(self.path.name).decode("utf-8", "replace")

    @property
    def display_name(self) -> str:
        """The path as messages name it."""
        return self.verifier.display_name

    @property
    def size_bytes(self) -> int:
        """The size of the file when it was opened."""
        return self.identity.size_bytes

    async def prepare(self) -> None:
        """Do nothing: :meth:`open` has checked the file."""

    async def aclose(self) -> None:
        """Do nothing: descriptors are open only while a part is read."""

    async def identify(self) -> str:
        """A hash of the size and of samples of the content, which is the same on any machine.

        :raises SourceError: the file cannot be read
        """
        return await self.verifier.sample()

    async def adopt_parts(self, parts: Iterable[Part]) -> None:
        """Take over parts that another machine has sent. They have no checksums: those would take minutes.

        :raises SourceError: the file was changed since it was opened
        """
        await self.verifier.restore_parts(parts, {}, ctime_ns=None, compute_missing=False)

    async def parts(self, plan: Plan, *, received: frozenset[int]) -> AsyncGenerator[PartSource, None]:
        """The parts in order, or shuffled if the plan says so.

        :param received: numbers of parts that the service already has; they are skipped
        """
        for part in plan.ordered_parts(received):
            yield PartSource(part=part, open=partial(self.reading, part), release=_nothing_to_release)

    @asynccontextmanager
    async def reading(self, part: Part) -> AsyncIterator[Reader]:
        """Open a part for one attempt.

        :raises SourceError: the file has changed or cannot be read
        """
        if part.size_bytes <= _SMALL_PART_BYTES:
            yield await self._read_small(part)
            return
        file, ctime_ns = await self._open(part)
        reader = FilePartReader(self.verifier, wrap(file, executor=self._threads), part, ctime_ns=ctime_ns)
        try:
            if ctime_ns != self.verifier.ctime_ns:
                # The check at the end of the part is sufficient. This one avoids sending bytes that are discarded.
                await self.verifier.compare_parts()
            yield reader
        finally:
            await reader.wait_until_idle()
            # In a thread, because close() can block. The callback closes the file if the thread did not.
            self._threads.submit(file.close).add_done_callback(lambda _: file.close())

    async def _read_small(self, part: Part) -> BytesReader:
        """Read a small part at once. Each switch to a thread and back would cost more than its bytes."""
        loop = asyncio.get_running_loop()
        content, before_ns, after_ns = await loop.run_in_executor(self._threads, self._read_at_once, part)
        await self.verifier.compare_if_changed(before_ns, after_ns)
        return BytesReader(content)

    def _read_at_once(self, part: Part) -> tuple[bytes, int | None, int | None]:
        """The bytes of a part, and the file's change times before and after the read."""
        content = b""
        with self._open_file(part) as file:
            try:
                before_ns = ctime_ns_of(os.fstat(file.fileno()))
                while more := file.read(part.size_bytes - len(content)):
                    content += more
                if len(content) == part.size_bytes:
                    # Added before the status is taken: see ReadParts.
                    self.verifier.add_part(part, Checksum(content).digest(), ctime_ns=before_ns)
                status = self.path.stat()
            except OSError as exc:
                raise self.verifier.unreadable(exc) from exc
        self.verifier.compare_status(status)
        if len(content) < part.size_bytes:
            raise self.verifier.too_short()
        return content, before_ns, ctime_ns_of(status)

    async def _open(self, part: Part) -> tuple[FileIO, int | None]:
        """The file at the start of a part, and its change time before anything is read."""
        # Shielded: cancellation between open() and its return would lose the descriptor.
        opening = asyncio.get_running_loop().run_in_executor(self._threads, self._open_with_ctime, part)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close)
            raise

    def _open_with_ctime(self, part: Part) -> tuple[FileIO, int | None]:
        file = self._open_file(part)
        return file, ctime_ns_of(os.fstat(file.fileno()))

    def _open_file(self, part: Part) -> FileIO:
        try:
            self.verifier.compare_status(self.path.stat())
            file = open_regular_file(self.path)
            file.seek(part.offset)
        except OSError as exc:
            raise self.verifier.unreadable(exc) from exc
        return file


class FileFacts(Struct, frozen=True, kw_only=True):
    """The attributes of a file when it was opened."""

    real_path: Path
    identity: Identity
    ctime_ns: int | None


def _inspect(path: Path) -> FileFacts | None:
    """Check that a file can be uploaded and read; None if it is a pipe. Blocks; call it in a thread."""
    status = path.stat()
    if stat.S_ISFIFO(status.st_mode):
        return None
    _check_kind(path, status)
    open_regular_file(path).close()
    status = settled_status(path)
    _check_kind(path, status)
    return FileFacts(
        real_path=Path(os.path.realpath(path)), identity=Identity.of(status), ctime_ns=ctime_ns_of(status)
    )


def _check_kind(path: Path, status: os.stat_result) -> None:
    name = display_name_of(path)
    if stat.S_ISDIR(status.st_mode):
        raise SourceError(f"{name} is a directory, not a file.")
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{name} is not a regular file.")
    if not status.st_size:
        raise SourceError(f"{name} is empty; there is nothing to upload.")
    if status.st_size > MAX_VIDEO_BYTES:
        raise SourceError(
            f"{name} has {format_size(status.st_size)}; the service accepts at most "
            f"{format_size(MAX_VIDEO_BYTES)} per video."
        )


def _close(opening: asyncio.Future[tuple[FileIO, int | None]]) -> None:
    """Close a file that was opened after its caller was cancelled."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[0].close()


def _nothing_to_release() -> None:
    """Do nothing: a part of a file is read again for each attempt, so no bytes are kept."""
