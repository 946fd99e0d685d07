"""Checks that a file has not changed since its upload began, and raises the errors if it has."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import aiofiles.os
from anyio import Lock

from async_uploader._errors import SourceError
from async_uploader._plan import Part

from .checksum import content_sample, part_checksums
from .identity import Identity, ctime_ns_of
from .read_parts import ConstantlyChanging, ContentsChanged, NotComparable, ReadPart, ReadParts

T = TypeVar("T")


class FileVerifier:
    """Compares a file with the state it had when it was opened, and with the bytes that were read from it.

    :param ctime_ns: the file's change time when it was opened
    """

    def __init__(
        self, path: Path, *, identity: Identity, ctime_ns: int | None, threads: ThreadPoolExecutor
    ) -> None:
        self.identity = identity
        self.display_name = display_name_of(path)
        self._path = path
        self._threads = threads
        self._read_parts = ReadParts(path, ctime_ns=ctime_ns)
        self._comparison = Lock()
        self._sample: str | None = None

    @property
    def ctime_ns(self) -> int | None:
        """The file's change time at which all parts read so far were correct; None on Windows."""
        return self._read_parts.ctime_ns

    def checksum(self, part_number: int) -> bytes | None:
        """The checksum of a part that was read completely, if it is known."""
        return self._read_parts.checksum(part_number)

    async def sample(self) -> str:
        """The hash that identifies the content on any machine; from now on, comparisons include it.

        :raises SourceError: the file cannot be read
        """
        loop = asyncio.get_running_loop()
        try:
            self._sample = await loop.run_in_executor(
                self._threads, content_sample, self._path, self.identity.size_bytes
            )
        except OSError as exc:
            raise SourceError(f"{self.display_name} cannot be read: {exc.strerror}.") from exc
        return self._sample

    async def restore_parts(
        self, parts: Iterable[Part], checksums: Mapping[int, bytes], *, ctime_ns: int | None, compute_missing: bool
    ) -> None:
        """Load the parts that an earlier process sent, and compare them with the file if it was changed.

        :param checksums: the recorded checksums by part number
        :param ctime_ns: the file's change time at which they were correct; None if it was not recorded
        :param compute_missing: compute missing checksums now, if the file was not changed
        :raises SourceError: the file was changed, and a part has other bytes or no checksum
        """
        self._read_parts.clear()
        recorded_ns = self.ctime_ns if ctime_ns is None else ctime_ns
        for part in parts:
            self._read_parts.add(part, checksums.get(part.number), ctime_ns=recorded_ns)
        if recorded_ns != self.ctime_ns:
            await self.compare_parts()
        elif compute_missing and (missing := self._read_parts.without_checksum()):
            found = await self._in_thread(lambda stop: part_checksums(self._path, missing, stop))
            for part in missing:
                self._read_parts.add(part, found.get(part.number), ctime_ns=recorded_ns)

    def forget_parts(self) -> None:
        """Forget all parts, because the upload starts again."""
        self._read_parts.clear()

    async def check_part(self, part: Part, checksum: bytes, *, ctime_ns: int | None) -> None:
        """Check that the file still has the bytes that were read. Called before the last bytes of a part are sent.

        :param checksum: of the whole part
        :param ctime_ns: the file's change time before the part was read
        :raises SourceError: the file has changed or cannot be read
        """
        # Added before the status is taken: see ReadParts.
        self.add_part(part, checksum, ctime_ns=ctime_ns)
        await self.compare_if_changed(ctime_ns, await self.check_identity())

    def add_part(self, part: Part, checksum: bytes, *, ctime_ns: int | None) -> None:
        """Add a part that was read, but is not checked yet. May be called in a thread.

        :param ctime_ns: the file's change time before the part was read
        :raises SourceError: the part was read before, with other bytes
        """
        try:
            self._read_parts.add(part, checksum, ctime_ns=ctime_ns)
        except ContentsChanged as exc:
            raise self._changed(exc) from exc

    async def compare_if_changed(self, before_ns: int | None, after_ns: int | None) -> None:
        """Compare the parts read so far, unless the change time stayed the same while one of them was read.

        :raises SourceError: the contents differ, or the file cannot be read
        """
        if not before_ns == after_ns == self.ctime_ns:
            await self.compare_parts()

    async def check_identity(self) -> int | None:
        """Check that the path still leads to the file that was opened; returns its change time.

        :raises SourceError: the file was replaced or modified, or cannot be read
        """
        try:
            status = await aiofiles.os.stat(self._path, executor=self._threads)
        except OSError as exc:
            raise self.unreadable(exc) from exc
        self.compare_status(status)
        return ctime_ns_of(status)

    def compare_status(self, status: os.stat_result) -> None:
        """Compare a status with the file that was opened.

        :raises SourceError: the file was replaced or modified
        """
        now = Identity.of(status)
        if now != self.identity:
            raise SourceError(
                f"{self.display_name} has changed since the upload began: {self.identity.difference(now)}."
            )

    async def compare_parts(self) -> None:
        """Compare the parts read so far with the file, whose contents or attributes have changed.

        One comparison runs at a time: later ones need not read the same parts again.

        :raises SourceError: the contents differ, or the file cannot be read
        """
        async with self._comparison:
            try:
                compared, ctime_ns = await self._in_thread(self._compare)
            except ContentsChanged as exc:
                raise self._changed(exc) from exc
            self._read_parts.accept(compared, ctime_ns=ctime_ns)

    def _compare(self, stop: threading.Event) -> tuple[list[ReadPart], int | None]:
        result = self._read_parts.compare(self.compare_status, stop)
        # The journal and the marks identify the file by its sample, so that must stay correct, too.
        if self._sample is not None and content_sample(self._path, self.identity.size_bytes) != self._sample:
            raise ContentsChanged
        return result

    async def _in_thread(self, call: Callable[[threading.Event], T]) -> T:
        """Run a long read in a thread. Cancellation does not wait for it, but tells it to stop."""
        stop = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call, stop)
        except OSError as exc:
            raise self.unreadable(exc) from exc
        finally:
            stop.set()

    def _changed(self, exc: ContentsChanged) -> SourceError:
        match exc:
            case NotComparable():
                reason = "its change time differs, and parts that were sent have no checksum to compare"
            case ConstantlyChanging():
                reason = "its attributes change constantly"
            case _:
                reason = "its contents differ, although its size and modification time do not"
        return SourceError(f"{self.display_name} has changed since the upload began: {reason}.")

    def too_short(self) -> SourceError:
        """The error for a file that ends too early, although it has not changed."""
        return SourceError(f"{self.display_name} ended before its reported size.")

    def unreadable(self, exc: OSError) -> SourceError:
        """The error for a file that could be read when it was opened."""
        return SourceError(f"{self.display_name} can no longer be read: {exc.strerror}.")


def display_name_of(path: Path) -> str:
    """A path as messages name it: on one line, with escapes if it has unprintable characters."""
    text = str(path)
    return text if text.isprintable() else ascii(text)
