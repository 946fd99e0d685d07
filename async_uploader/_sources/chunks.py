"""Bytes in pieces, from whatever a caller has: file objects, pipes, iterables. Read, and never closed or moved."""

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

import aiofiles.os
import anyio
from msgspec import Struct

from async_uploader._errors import SourceError
from async_uploader._limits import MIB

Chunk = bytes | memoryview
Chunks = AsyncGenerator[Chunk, None]
T = TypeVar("T")

_CHUNK_BYTES: Final = MIB


def chunks_of(source: object) -> tuple[Chunks, str, int | None]:
    """The bytes of a source that is no file of its own; what to call it; how many there are, if that is known.

    :raises TypeError: it is none of what can be uploaded
    """
    if isinstance(source, str | os.PathLike):
        return _pipe_chunks(source), Path(source).name, None
    if isinstance(source, bytes | bytearray | memoryview):
        return _one_chunk(memoryview(source).cast("B")), "stream", memoryview(source).nbytes
    if hasattr(source, "read"):
        return _file_chunks(source), _name_of(source), _size_ahead(source)
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
    # A thread of its own: what blocks in it, holds up nobody else.
    iterator, end = iter(source), object()
    with _own_thread() as in_thread:
        while (chunk := await in_thread(partial(next, iterator, end))) is not end:
            yield _checked(chunk)


async def _pipe_chunks(path: str | os.PathLike[str]) -> Chunks:
    with _own_thread() as in_thread:
        # In a thread: opening a named pipe waits for its writer.
        file = await in_thread(partial(open, path, "rb", buffering=0))
    try:
        async with aclosing(_file_chunks(file)) as chunks:
            async for chunk in chunks:
                yield chunk
    finally:
        file.close()


async def _file_chunks(file: Any) -> Chunks:
    # read1() gives what is there, where read() would wait for a whole block of a pipe.
    read = getattr(file, "read1", file.read)
    pipe = _pipe_of(file)
    can_seek = hasattr(file, "seekable") and await _called(file.seekable)
    start = await _called(file.tell) if can_seek else None
    try:
        with _own_thread() as in_thread:
            while True:
                if pipe is not None:
                    # So that it can be cancelled: a thread that waits in read() cannot.
                    await anyio.wait_readable(pipe)
                chunk = await in_thread(partial(read, _CHUNK_BYTES))
                if isawaitable(chunk):
                    chunk = await chunk
                if not chunk and chunk is not None:
                    return
                if chunk is not None:  # None: a raw stream that would block
                    yield _checked(chunk)
    finally:
        if start is not None:
            # The bytes are what counts: a file object that was closed meanwhile fails no upload here.
            with anyio.CancelScope(shield=True), suppress(Exception):
                await _called(file.seek, start)


async def _called(method: Callable[..., Any], *arguments: object) -> Any:
    """The answer of a method of a file object, which may be an asynchronous one."""
    answer = method(*arguments)
    return await answer if isawaitable(answer) else answer


@contextmanager
def _own_thread() -> Iterator[Callable[[Callable[[], Any]], Awaitable[Any]]]:
    thread = ThreadPoolExecutor(1, thread_name_prefix="async_uploader-stream")
    loop = asyncio.get_running_loop()

    async def in_thread(call: Callable[[], Any]) -> Any:
        ended = await loop.run_in_executor(thread, partial(_ended, call))
        return ended.result()

    try:
        yield in_thread
    finally:
        thread.shutdown(wait=False, cancel_futures=True)


class _Result(Struct, frozen=True):
    """How a call has ended."""

    value: Any = None
    error: BaseException | None = None

    def result(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value


def _ended(call: Callable[[], Any]) -> _Result:
    # Carried over as a value. A future cannot hold StopIteration: who waits for it would wait for ever. And it
    # makes a cancellation of its own out of the CancelledError of concurrent.futures.
    try:
        return _Result(value=call())
    except BaseException as exc:  # noqa: BLE001 - raised again where it is waited for
        return _Result(error=exc)


def _checked(chunk: object) -> Chunk:
    if isinstance(chunk, bytes):
        return chunk
    if isinstance(chunk, bytearray | memoryview):
        # The producer may use its buffer again as soon as it is asked for more.
        return bytes(chunk)
    hint = "; open it in binary mode ('rb')" if isinstance(chunk, str) else ""
    raise SourceError(f"The stream gave {type(chunk).__name__} instead of bytes{hint}.")


def _is_seekable(file: Any) -> bool:
    """Whether a file object can be asked for its size here and now: not an asynchronous one."""
    seekable = getattr(file, "seekable", None)
    return callable(seekable) and not iscoroutinefunction(seekable) and seekable() is True


def _size_ahead(file: Any) -> int | None:
    """How many bytes there are now from where a file object stands; None if it cannot tell."""
    if not _is_seekable(file):
        return None
    here: int = file.tell()
    file.seek(0, os.SEEK_END)
    end: int = file.tell()  # what seek() returns is not the same everywhere
    file.seek(here)
    return max(end - here, 0)


def _pipe_of(file: Any) -> int | None:
    """The descriptor, if it can be waited for: of a pipe, a socket or a terminal, not of a file on disk."""
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


async def is_pipe(path: str | os.PathLike[str], *, threads: ThreadPoolExecutor) -> bool:
    """Whether a path leads to something that can be read only once: a named pipe, ``/dev/stdin`` of a pipe."""
    try:
        status = await aiofiles.os.stat(path, executor=threads)
    except (OSError, ValueError):
        return False  # FileSource.open() says what is wrong
    return stat.S_ISFIFO(status.st_mode)


def path_of(file: object) -> str | None:
    """The path of a file object that stands at its beginning, if the path still leads to the same file.

    Then it can be read by a descriptor of our own, in parts that need not be kept.
    """
    name = getattr(file, "name", None)
    try:
        if not isinstance(name, str) or not _is_seekable(file) or file.tell():  # type: ignore[attr-defined]
            return None
        there, here = os.stat(name), os.fstat(file.fileno())  # type: ignore[attr-defined]
    except (AttributeError, OSError, TypeError, ValueError):
        return None
    return name if os.path.samestat(there, here) and stat.S_ISREG(here.st_mode) else None
