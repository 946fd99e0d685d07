"""The file of ``--results``: what became of each source, a JSON line each, on disk before anything else happens.

A line is written when its video is complete, and only then is the upload forgotten by the journal. So wherever
kill -9 strikes, a source is either in here, or in the journal with what the service has of it, or was not begun:
the next run skips it, goes on with it, or begins it. What kill -9 left of a last line is cut off.

The service fetches a URL by itself, so nothing of that is in the journal: a line is written before, too, and the
video carries a mark in its metadata by which the next run finds it.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

from async_uploader._errors import SourceError

from ._sources import STDIN, Item

if TYPE_CHECKING:
    from async_uploader._journal import Journal

_START: Final = b'{"path": '

#: What a source is known by: path (or URL), size and mtime. A file that has changed is another source.
Key = tuple[str, int | None, int | None]


def key_of(item: Item) -> Key:
    """A source as it is now."""
    try:
        status = None if item.is_url else os.stat(item.source)
    except OSError:
        status = None
    return (item.path, status.st_size, status.st_mtime_ns) if status else (item.path, None, None)


def mark_of(url: str) -> str:
    """By what the video of a URL is known at the service."""
    return hashlib.blake2b(url.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


@asynccontextmanager
async def opened(path: Path, service: str) -> AsyncIterator[Results]:
    """The results of a command; nobody else writes to them meanwhile.

    :param service: where the videos are; lines of other services do not count
    :raises SourceError: the file cannot be used
    """
    import filelock

    from async_uploader._resume import Keeper

    keeper = Keeper()
    try:
        lock = await keeper.lock(_lock_name(path))
    except filelock.Timeout as exc:
        keeper.close()
        raise SourceError(f"{path} is being written by another process already.") from exc
    try:
        results = await anyio.to_thread.run_sync(Results, path, service)
        try:
            await keeper.journal(results.tidy)
            yield results
        finally:
            results.close()
    finally:
        if lock is not None:
            await keeper.unlock(lock)
        keeper.close()


def _lock_name(path: Path) -> str:
    return f"results-{mark_of(str(path.absolute()))}"


class Results:
    """See the module. Made by :func:`opened`."""

    def __init__(self, path: Path, service: str) -> None:
        self._service = service
        self._offsets: dict[Key, int] = {}
        self._begun: set[Key] = set()
        self._turn = asyncio.Lock()
        with ExitStack() as stack:
            try:
                self._file = stack.enter_context(path.open("a+b", buffering=0))
                self._lines = stack.enter_context(path.open("rb"))
                _sync_directory(path.parent)
            except OSError as exc:
                raise SourceError(f"{path} cannot be written: {exc.strerror}.") from exc
            for number, line in enumerate(self._whole_lines(), start=1):
                if not self._learn(line):
                    raise SourceError(f"{path}, line {number} is not a result of an upload; name another file.")
            self._files = stack.pop_all()

    def close(self) -> None:
        """Let go of the file."""
        self._files.close()

    def _whole_lines(self) -> Iterator[bytes]:
        while line := self._lines.readline():
            if not line.endswith(b"\n") and (line.startswith(_START) or _START.startswith(line)):
                self._file.truncate(self._lines.tell() - len(line))
                return
            yield line

    def _learn(self, line: bytes) -> bool:
        try:
            told = json.loads(line)
            key, service = (told["path"], told["size"], told["mtime_ns"]), told["service"]
        except (ValueError, TypeError, KeyError):
            return False
        if service == self._service and told["path"] != STDIN:
            if "video" in told:
                self._offsets[key] = self._lines.tell() - len(line)
            elif "begun" in told:
                self._begun.add(key)
        return True

    def tidy(self, journal: Journal) -> None:
        """Have the journal forget what kill -9 has kept it from forgetting."""
        for entry in journal.unfinished():
            key = (str(entry.path), entry.fingerprint.identity.size_bytes, entry.fingerprint.identity.mtime_ns)
            if self.is_done(key) and self.video(key)["videoId"] == entry.video_id:
                journal.forget(entry.id)

    def is_done(self, key: Key) -> bool:
        """Whether a source has its video."""
        return key in self._offsets

    def is_begun(self, key: Key) -> bool:
        """Whether the service may have been asked to fetch this URL before."""
        return key in self._begun

    def video(self, key: Key) -> Mapping[str, Any]:
        """The video of a source that is done, as the service gave it."""
        self._lines.seek(self._offsets[key])
        video: Mapping[str, Any] = json.loads(self._lines.readline())["video"]
        return video

    async def add(self, key: Key, **told: object) -> None:
        """Append a line; when this returns, it outlives a power cut."""
        path, size_bytes, mtime_ns = key
        line = {"path": path, "size": size_bytes, "mtime_ns": mtime_ns, "service": self._service, **told}
        async with self._turn:
            await anyio.to_thread.run_sync(self._append, json.dumps(line).encode() + b"\n")

    def _append(self, line: bytes) -> None:
        if self._file.write(line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._file.name)
        os.fsync(self._file.fileno())


def _sync_directory(directory: Path) -> None:
    """A file that was made in it is there after a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
