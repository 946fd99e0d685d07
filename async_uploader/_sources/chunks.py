"""Reads the caller's streams in chunks: file objects, pipes, iterables.

Objects of the caller are never closed, and file objects are returned to their original position.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager, suppress
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
from msgspec import Struct

from async_uploader._errors import SourceError
from async_uploader._limits import MIB

Chunk = bytes | memoryview
Chunks = AsyncGenerator[Chunk, None]
T = TypeVar("T")

_CHUNK_BYTES: Final = MIB


def chunks_of(source: object) -> tuple[Chunks, str, int | None]:
    """Open a source as a stream.

    :returns: its chunks, its name, and its size in bytes (None if it is not known in advance)
    :raises TypeError: the source has a type that cannot be uploaded
    """
    if isinstance(source, str | os.PathLike):
        return _pipe_chunks(source), Path(source).name, None
    if isinstance(source, bytes | bytearray | memoryview):
        return _one_chunk(memoryview(source).cast("B")), "stream", memoryview(source).nbytes
    if hasattr(source, "read"):
        return _file_chunks(source), _name_of(source), _remaining_bytes(source)
    if isinstance(source, AsyncIterable):
        return _async_chunks(source), "stream", None
    if isinstance(source, Iterable):
        return _sync_chunks(source), "stream", None
    raise TypeError(
        "source must be a path, a binary file object, bytes, or an iterable or async iterable of bytes, "
        f"not {type(source).__name__}"
    )


async def _one_chunk(data: memoryview) -> Chunks:
    yield data


async def _async_chunks(source: AsyncIterable[Any]) -> Chunks:
    async for chunk in source:
        yield _checked(chunk)


async def _sync_chunks(source: Iterable[Any]) -> Chunks:
    # In a dedicated thread, so that an iterator that blocks delays nothing else.
    iterator, end = iter(source), object()
    with _dedicated_thread() as in_thread:
        while (chunk := await in_thread(partial(next, iterator, end))) is not end:
            yield _checked(chunk)


async def _pipe_chunks(path: str | os.PathLike[str]) -> Chunks:
    with _dedicated_thread() as in_thread:
        # In a thread: opening a named pipe blocks until there is a writer.
        file = await in_thread(partial(open, path, "rb", buffering=0))
    try:
        async with aclosing(_file_chunks(file)) as chunks:
            async for chunk in chunks:
                yield chunk
    finally:
        file.close()


async def _file_chunks(file: Any) -> Chunks:
    # read1() returns the available bytes, while read() would block for a full chunk from a pipe.
    read = getattr(file, "read1", file.read)
    pipe = _pipe_of(file)
    can_seek = hasattr(file, "seekable") and await _call(file.seekable)
    start = await _call(file.tell) if can_seek else None
    try:
        with _dedicated_thread() as in_thread:
            while True:
                if pipe is not None:
                    # This wait can be cancelled; a thread that blocks in read() cannot.
                    await anyio.wait_readable(pipe)
                chunk = await in_thread(partial(read, _CHUNK_BYTES))
                if isawaitable(chunk):
                    chunk = await chunk
                if not chunk and chunk is not None:
                    return
                if chunk is not None:  # None: a non-blocking stream has no bytes yet
                    yield _checked(chunk)
    finally:
        if start is not None:
            # The bytes were read, so a file object that was closed in the meantime must not fail the upload.
            with anyio.CancelScope(shield=True), suppress(Exception):
                await _call(file.seek, start)


async def _call(method: Callable[..., Any], *arguments: object) -> Any:
    """Call a method of a file object, which may be asynchronous."""
    result = method(*arguments)
    return await result if isawaitable(result) else result


@contextmanager
def _dedicated_thread() -> Iterator[Callable[[Callable[[], Any]], Awaitable[Any]]]:
    thread = ThreadPoolExecutor(1, thread_name_prefix="async_uploader-stream")
    loop = asyncio.get_running_loop()

    async def in_thread(call: Callable[[], Any]) -> Any:
        result = await loop.run_in_executor(thread, partial(_captured, call))
        return result.unwrap()

    try:
        yield in_thread
    finally:
        thread.shutdown(wait=False, cancel_futures=True)


class _Result(Struct, frozen=True):
    """The value or the exception of a call."""

    value: Any = None
    error: BaseException | None = None

    def unwrap(self) -> Any:
        """Return the value, or raise the exception."""
        if self.error is not None:
            raise self.error
        return self.value


def _captured(call: Callable[[], Any]) -> _Result:
    # A future cannot hold StopIteration: awaiting it would never end. And asyncio turns a CancelledError of
    # concurrent.futures into a cancellation of the waiting task.
    try:
        return _Result(value=call())
    except BaseException as exc:  # noqa: BLE001 - unwrap() raises it
        return _Result(error=exc)


def _checked(chunk: object) -> Chunk:
    if isinstance(chunk, bytes):
        return chunk
    if isinstance(chunk, bytearray | memoryview):
        # The producer may reuse its buffer for the next chunk.
        return bytes(chunk)
    hint = "; open it in binary mode ('rb')" if isinstance(chunk, str) else ""
    raise SourceError(f"The stream returned {type(chunk).__name__} instead of bytes{hint}.")


def _is_seekable(file: Any) -> bool:
    """Whether a file object can seek, and is not asynchronous."""
    seekable = getattr(file, "seekable", None)
    return callable(seekable) and not iscoroutinefunction(seekable) and seekable() is True


def _remaining_bytes(file: Any) -> int | None:
    """The number of bytes from the position of a file object to its end; None if it cannot seek."""
    if not _is_seekable(file):
        return None
    here: int = file.tell()
    file.seek(0, os.SEEK_END)
    end: int = file.tell()  # not every file object returns the position from seek()
    file.seek(here)
    return max(end - here, 0)


def _pipe_of(file: Any) -> int | None:
    """The descriptor of a pipe, a socket or a terminal, which can be awaited; None for a file on disk."""
    try:
        descriptor = file.fileno()
        mode = os.fstat(descriptor).st_mode
    except (AttributeError, OSError, TypeError, ValueError):
        return None
    return descriptor if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor) else None


def _name_of(file: Any) -> str:
    name = getattr(file, "name", None) or getattr(file, "filename", None)
    if not isinstance(name, str) or name.startswith("<"):
        return "stream"
    return Path(name).name or "stream"


def path_of(file: object) -> str | None:
    """The path of a file object that is at its start, if the path still leads to the same file.

    Such a file can be uploaded as a :class:`.FileSource`, whose parts need not be kept in memory.
    """
    name = getattr(file, "name", None)
    try:
        if not isinstance(name, str) or not _is_seekable(file) or file.tell():  # type: ignore[attr-defined]
            return None
        there, here = os.stat(name), os.fstat(file.fileno())  # type: ignore[attr-defined]
    except (AttributeError, OSError, TypeError, ValueError):
        return None
    return name if os.path.samestat(there, here) and stat.S_ISREG(here.st_mode) else None
