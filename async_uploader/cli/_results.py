"""The file of ``--results``: what became of each source, a JSON line each, on disk before anything else happens.

A line is written when its video is complete, and only then is the upload forgotten by the journal. So wherever
kill -9 strikes, a source is either in here, or in the journal with what the service has of it, or was not begun:
the next run skips it, goes on with it, or begins it. What kill -9 left of a last line is cut off. A last line that
lacks nothing but its newline, as some editors leave it, is kept.

The file is read back, so it must be a regular file. A line that is no result is an error that names it; blank
lines, CRLF line ends and a byte order mark are harmless.

The service fetches a URL by itself, so nothing of that is in the journal: a line is written before, too, and the
video carries a mark in its metadata by which the next run finds it.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

from async_uploader._errors import SourceError, UploaderError

from ._item import STDIN, Item
from ._target import is_standard_output, kind_of

if TYPE_CHECKING:
    from async_uploader._resume.journal import Journal

_START: Final = b'{"path": '
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
# Opening waits for nobody, whatever the path leads to by then.
_OPEN: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

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

    from async_uploader._resume.worker import JournalWorker

    worker = JournalWorker()
    try:
        lock = await worker.lock(_lock_name(path))
    except filelock.Timeout as exc:
        worker.close()
        raise SourceError(f"{path} is being written by another process already.") from exc
    try:
        results = await anyio.to_thread.run_sync(Results, path, service)
        try:
            await worker.run(results.tidy)
            yield results
        finally:
            results.close()
    finally:
        if lock is not None:
            await worker.unlock(lock)
        worker.close()


def _lock_name(path: Path) -> str:
    return f"results-{mark_of(os.path.realpath(path))}"


class Results:
    """See the module. Made by :func:`opened`."""

    def __init__(self, path: Path, service: str) -> None:
        self._path = path
        self._service = service
        self._offsets: dict[Key, int] = {}
        self._begun: set[Key] = set()
        self._turn = asyncio.Lock()
        self._failure: UploaderError | None = None
        with ExitStack() as stack:
            try:
                self._file = stack.enter_context(_opened(path))
                self._lines = stack.enter_context(path.open("rb"))
                _sync_directory(Path(os.path.realpath(path)).parent)
                self._read()
            except OSError as exc:
                raise SourceError(f"{path} cannot be written: {exc.strerror}.") from exc
            self._files = stack.pop_all()

    def close(self) -> None:
        """Let go of the file."""
        self._files.close()

    def _read(self) -> None:
        for number, line in enumerate(self._lines, start=1):
            if not line.endswith(b"\n") and _is_torn(line):
                self._file.truncate(self._lines.tell() - len(line))
                return
            if not line.removeprefix(_BYTE_ORDER_MARK).strip():
                continue
            if not self._learn(line):
                raise SourceError(f"{self._path}, line {number} is not a result of an upload; name another file.")
            if not line.endswith(b"\n"):
                self._append(b"\n")

    def _learn(self, line: bytes) -> bool:
        result = _parsed(line)
        if result is None:
            return False
        key = (result["path"], result["size"], result["mtime_ns"])
        if result["service"] == self._service and result["path"] != STDIN:
            if "video" in result:
                self._offsets[key] = self._lines.tell() - len(line)
            elif "begun" in result:
                self._begun.add(key)
        return True

    def tidy(self, journal: Journal) -> None:
        """Have the journal forget what kill -9 has kept it from forgetting."""
        entries = journal.unfinished()
        files = [entry.fingerprint.identity for entry in entries]
        # By size and time, which few files share, and then by the video: the journal may know the file by another
        # of its paths.
        times = {(file.size_bytes, file.mtime_ns) for file in files}
        done = {self.video(key)["videoId"] for key in self._offsets if key[1:] in times}
        for entry in entries:
            if entry.video_id in done:
                journal.forget(entry.id)

    def is_done(self, key: Key) -> bool:
        """Whether a source has its video."""
        return key in self._offsets

    def is_begun(self, key: Key) -> bool:
        """Whether the service may have been asked to fetch this URL before."""
        return key in self._begun

    def video(self, key: Key) -> Mapping[str, Any]:
        """The video of a source that is done, as the service gave it.

        :raises UploaderError: somebody else has written to the file meanwhile
        """
        self._lines.seek(self._offsets[key])
        result = _parsed(self._lines.readline())
        if result is None or "video" not in result:
            raise UploaderError(f"{self._path} was changed by another program while it was in use.")
        video: Mapping[str, Any] = result["video"]
        return video

    async def add(self, key: Key, **told: object) -> None:
        """Append a line; when this returns, it outlives a power cut.

        :raises UploaderError: it cannot be written; neither can any later line
        """
        path, size_bytes, mtime_ns = key
        line = {"path": path, "size": size_bytes, "mtime_ns": mtime_ns, "service": self._service, **told}
        async with self._turn:
            await anyio.to_thread.run_sync(self._add, json.dumps(line).encode() + b"\n")

    def _add(self, line: bytes) -> None:
        # After a failure the file may end in a part of a line, which the next line must not join.
        if self._failure is None:
            try:
                self._append(line)
            except OSError as exc:
                self._failure = UploaderError(f"{self._path} cannot be written: {exc.strerror}.")
        if self._failure is not None:
            raise self._failure

    def _append(self, line: bytes) -> None:
        if self._file.write(line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(self._file.fileno())


def _opened(path: Path) -> FileIO:
    """The file, to be read and appended to.

    :raises SourceError: it is no regular file, or standard output goes there
    :raises OSError: it cannot be opened
    """
    with suppress(FileNotFoundError):
        _refuse_special(path, os.stat(path))  # before it is opened, which is an event for some devices
    file = FileIO(os.open(path, _OPEN, 0o666), "rb+")
    try:
        _refuse_special(path, os.fstat(file.fileno()))
    except BaseException:
        file.close()
        raise
    return file


def _refuse_special(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        reason = os.strerror(errno.EISDIR)
    elif kind := kind_of(status):
        reason = f"it is {kind}, and results are read back"
    elif is_standard_output(status):
        reason = "standard output goes there"
    else:
        return
    raise SourceError(f"{path} cannot be written: {reason}; name a regular file for the results alone.")


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A line as a result; None if it is none."""
    try:
        result = json.loads(line.removeprefix(_BYTE_ORDER_MARK).decode())
    except (ValueError, RecursionError):
        return None
    return result if isinstance(result, dict) and _is_result(result) else None


def _is_result(result: Mapping[str, Any]) -> bool:
    are_texts = all(isinstance(result.get(name), str) for name in ("path", "service"))
    are_numbers = all(name in result and _is_count(result[name]) for name in ("size", "mtime_ns"))
    return are_texts and are_numbers and _has_outcome(result)


def _is_count(value: object) -> bool:
    """A whole number, or None; JSON's true is no number."""
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _has_outcome(result: Mapping[str, Any]) -> bool:
    if "video" in result:
        video = result["video"]
        return isinstance(video, dict) and isinstance(video.get("videoId"), str) and bool(video["videoId"])
    return "begun" in result or isinstance(result.get("error"), str)


def _is_torn(line: bytes) -> bool:
    """Whether a last line without its newline is what a crash left of one that was being written.

    A power cut may leave zeros where its bytes should be. A whole JSON document was not torn, whatever it is.
    """
    with suppress(ValueError, RecursionError):
        json.loads(line.decode())
        return False
    return b"\0" in line or line.startswith(_START) or _START.startswith(line)


def _sync_directory(directory: Path) -> None:
    """A file that was made in it is there after a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
