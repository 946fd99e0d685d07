"""The file of ``--results``: one JSON line for the result of each source, written to disk at once.

A line is written when a video is complete, and only then does the journal forget the upload. Wherever kill -9
strikes, a source is in this file, or in the journal with its acknowledged parts, or has not been started; the next
run skips it, resumes it, or starts it. An incomplete last line, as kill -9 leaves it, is removed. A complete last
line without a newline, as some editors leave it, is kept.

The file is read back, so it must be a regular file. A line that is not a result is an error that names it; blank
lines, CRLF and a byte order mark are accepted.

The service imports URLs itself, so the journal does not know them. A line is therefore written before an import
starts, and the metadata of the video carries a mark by which the next run finds it.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anyio.to_thread

from async_uploader import SourceError, UploaderError

from .item import STDIN, Item
from .os_errors import describe_os_error
from .output_file import is_standard_output, special_kind

if TYPE_CHECKING:
    from async_uploader._resume.journal import Journal

_START: Final = b'{"path": '
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
# Opening must not block, even if the path has become a FIFO.
_OPEN: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class SourceKey(NamedTuple):
    """The identity of a source. A changed file is another source, and so is a file with another idempotency key.

    :param path: the absolute path, or the URL
    """

    path: str
    size_bytes: int | None
    mtime_ns: int | None
    idempotency_key: str | None = None


def source_key(item: Item, idempotency_key: str | None = None) -> SourceKey:
    """The identity of a source, with its current size and mtime.

    :param idempotency_key: the key of the command, if the source has none of its own
    """
    try:
        status = None if item.is_url else os.stat(item.source)
    except OSError:
        status = None
    size_bytes, mtime_ns = (status.st_size, status.st_mtime_ns) if status else (None, None)
    return SourceKey(
        path=item.absolute_path,
        size_bytes=size_bytes,
        mtime_ns=mtime_ns,
        idempotency_key=item.details.get("idempotency_key", idempotency_key),
    )


def import_mark(url: str) -> str:
    """The metadata value that identifies the video of a URL while it is being imported."""
    return hashlib.blake2b(url.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


@asynccontextmanager
async def open_results(path: Path, service: str) -> AsyncIterator[ResultsFile]:
    """Open the results file of a command, and lock it against other processes.

    :param service: identifies the service; lines of other services are ignored
    :raises SourceError: the file cannot be used
    """
    import filelock  # noqa: PLC0415 - few commands need it

    from async_uploader._resume.worker import JournalWorker  # noqa: PLC0415 - imports SQLite

    worker = JournalWorker()
    try:
        lock = await worker.lock(_lock_name(path))
    except filelock.Timeout as exc:
        worker.close()
        raise SourceError(f"Another process is writing to {path}.") from exc
    try:
        results = await anyio.to_thread.run_sync(ResultsFile, path, service)
        try:
            await worker.run(results.forget_finished)
            yield results
        finally:
            results.close()
    finally:
        if lock is not None:
            await worker.unlock(lock)
        worker.close()


def _lock_name(path: Path) -> str:
    return f"results-{import_mark(os.path.realpath(path))}"


class ResultsFile:
    """The results of earlier runs, and a file to append to. Opened by :func:`open_results`."""

    def __init__(self, path: Path, service: str) -> None:
        self._path = path
        self._service = service
        self._offsets: dict[SourceKey, int] = {}
        self._started_imports: set[SourceKey] = set()
        self._lock = asyncio.Lock()
        self._failure: UploaderError | None = None
        with ExitStack() as stack:
            try:
                self._file = stack.enter_context(_open_for_append(path))
                self._lines = stack.enter_context(path.open("rb"))
                _sync_directory(Path(os.path.realpath(path)).parent)
                self._read()
            except OSError as exc:
                raise _write_error(path, exc) from exc
            self._files = stack.pop_all()

    def close(self) -> None:
        """Close the file."""
        self._files.close()

    def _read(self) -> None:
        for number, line in enumerate(self._lines, start=1):
            if not line.endswith(b"\n") and _is_incomplete(line):
                self._file.truncate(self._lines.tell() - len(line))
                return
            if not line.removeprefix(_BYTE_ORDER_MARK).strip():
                continue
            if not self._add_line(line):
                raise SourceError(f"{self._path}, line {number} is not a result of an upload. Name another file.")
            if not line.endswith(b"\n"):
                self._append(b"\n")

    def _add_line(self, line: bytes) -> bool:
        result = _parse_result(line)
        if result is None:
            return False
        key = SourceKey(result["path"], result["size"], result["mtime_ns"], result.get("idempotency_key"))
        if result["service"] == self._service and result["path"] != STDIN:
            if "video" in result:
                self._offsets[key] = self._lines.tell() - len(line)
            elif "begun" in result:
                self._started_imports.add(key)
        return True

    def forget_finished(self, journal: Journal) -> None:
        """Remove uploads from the journal that are finished here. kill -9 may have prevented that."""
        entries = journal.unfinished()
        files = [entry.fingerprint.identity for entry in entries]
        # Compare size and mtime first, so that few lines are read; then the video, because the journal may have
        # another path of the same file.
        times = {(file.size_bytes, file.mtime_ns) for file in files}
        finished = {self.video(key)["videoId"] for key in self._offsets if (key.size_bytes, key.mtime_ns) in times}
        for entry in entries:
            if entry.video_id in finished:
                journal.forget(entry.id)

    def is_finished(self, key: SourceKey) -> bool:
        """Whether a source has a finished video."""
        return key in self._offsets

    def is_import_started(self, key: SourceKey) -> bool:
        """Whether an earlier run may have started to import this URL."""
        return key in self._started_imports

    def video(self, key: SourceKey) -> Mapping[str, Any]:
        """The video of a finished source, as the service returned it.

        :raises UploaderError: another program has changed the file
        """
        self._lines.seek(self._offsets[key])
        result = _parse_result(self._lines.readline())
        if result is None or "video" not in result:
            raise UploaderError(f"{self._path} was changed by another program during the upload.")
        video: Mapping[str, Any] = result["video"]
        return video

    async def append(self, key: SourceKey, **result: object) -> None:
        """Append a line and write it to disk, so that it survives a power cut.

        :raises UploaderError: it cannot be written; all later lines fail, too
        """
        line = {
            "path": key.path,
            "size": key.size_bytes,
            "mtime_ns": key.mtime_ns,
            "service": self._service,
            **({} if key.idempotency_key is None else {"idempotency_key": key.idempotency_key}),
            **result,
        }
        async with self._lock:
            await anyio.to_thread.run_sync(self._append_once, json.dumps(line).encode() + b"\n")

    def _append_once(self, line: bytes) -> None:
        # After a failure the file may end with an incomplete line, and the next line would be appended to it.
        if self._failure is None:
            try:
                self._append(line)
            except OSError as exc:
                self._failure = UploaderError(
                    f"Cannot write the results to {self._path}: {describe_os_error(exc)}."
                )
        if self._failure is not None:
            raise self._failure

    def _append(self, line: bytes) -> None:
        if self._file.write(line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(self._file.fileno())


def _open_for_append(path: Path) -> FileIO:
    """Open the file for reading and appending.

    :raises SourceError: it is not a regular file, or standard output goes to it
    :raises OSError: it cannot be opened
    """
    with suppress(FileNotFoundError):
        _refuse_special(path, os.stat(path))  # before it is opened, which has an effect on some devices
    file = FileIO(os.open(path, _OPEN, 0o666), "rb+")
    try:
        _refuse_special(path, os.fstat(file.fileno()))
    except BaseException:
        file.close()
        raise
    return file


def _refuse_special(path: Path, status: os.stat_result) -> None:
    if kind := special_kind(status):
        reason = f"it is {kind}"
    elif is_standard_output(status):
        reason = "standard output goes to it"
    else:
        return
    raise SourceError(f"Cannot write the results to {path}: {reason}. Name a regular file of its own.")


def _write_error(path: Path, error: OSError) -> SourceError:
    return SourceError(f"Cannot write the results to {path}: {describe_os_error(error)}.")


def _parse_result(line: bytes) -> dict[str, Any] | None:
    """Parse a line; None if it is not a result."""
    try:
        result = json.loads(line.removeprefix(_BYTE_ORDER_MARK).decode())
    except (ValueError, RecursionError):
        return None
    return result if isinstance(result, dict) and _is_result(result) else None


def _is_result(result: Mapping[str, Any]) -> bool:
    has_texts = all(isinstance(result.get(name), str) for name in ("path", "service"))
    has_numbers = all(name in result and _is_int_or_none(result[name]) for name in ("size", "mtime_ns"))
    has_key = isinstance(result.get("idempotency_key", ""), str)
    return has_texts and has_numbers and has_key and _has_outcome(result)


def _is_int_or_none(value: object) -> bool:
    # bool is a subclass of int.
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _has_outcome(result: Mapping[str, Any]) -> bool:
    if "video" in result:
        video = result["video"]
        return isinstance(video, dict) and isinstance(video.get("videoId"), str) and bool(video["videoId"])
    return "begun" in result or isinstance(result.get("error"), str)


def _is_incomplete(line: bytes) -> bool:
    """Whether a last line without a newline was being written when the process or the machine crashed.

    A power cut may leave zeros in place of its bytes. A complete JSON document is never removed.
    """
    with suppress(ValueError, RecursionError):
        json.loads(line.decode())
        return False
    return b"\0" in line or line.startswith(_START) or _START.startswith(line)


def _sync_directory(directory: Path) -> None:
    """Make a new file in the directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
