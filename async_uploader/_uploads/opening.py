"""Opens the sources of uploads, and plans their parts."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from msgspec.structs import replace

from async_uploader._errors import ConfigurationError
from async_uploader._limits import MAX_PART_BYTES
from async_uploader._options import TransferOptions
from async_uploader._plan import Allowance, Plan, plan_parts, plan_stream
from async_uploader._sources.chunks import Chunks, chunks_of, is_pipe, path_of
from async_uploader._sources.file import FileSource
from async_uploader._sources.part_buffer import MemoryBudget
from async_uploader._sources.stream import StreamSource

# Reads are short: with more threads they would only wait for the disk.
_READING_THREADS: Final = 8

_SESSION_NAME: Final = "recording"

OpenSource = FileSource | StreamSource


class SourceOpener:
    """Opens the sources of one client. They share its reading threads and its memory for streams.

    :param buffer_bytes: how many bytes of streams are kept in memory
    :param allowance: returns the uploads that the rate limit allows; None while they are not known
    """

    def __init__(self, buffer_bytes: int, *, allowance: Callable[[], Allowance | None]) -> None:
        self._buffer_bytes = buffer_bytes
        self._allowance = allowance
        self._budget = MemoryBudget(buffer_bytes)
        self._threads = ThreadPoolExecutor(_READING_THREADS, thread_name_prefix="async_uploader-read")

    def close(self) -> None:
        """End the threads, without waiting for reads in progress."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def open(self, source: object, options: TransferOptions) -> OpenSource:
        """Open a file, or treat the source as a stream.

        :raises SourceError: the file is missing, empty, unreadable or too big
        :raises TypeError: the source is of a type that cannot be uploaded
        """
        path = source if isinstance(source, str | os.PathLike) else path_of(source)
        if path is not None and not await is_pipe(path, threads=self._threads):
            return await FileSource.open(path, threads=self._threads)
        chunks, name, size_bytes = chunks_of(source)
        return StreamSource(
            chunks,
            name=name,
            size_bytes=size_bytes,
            budget=self._budget,
            threads=self._threads,
            max_latency_seconds=options.max_latency,
            allowance=self._allowance,
        )

    @staticmethod
    def check_session(options: TransferOptions) -> None:
        """Check the options of a session, before anything is opened.

        :raises ConfigurationError: an option does not apply to a session
        """
        _check_stream(_SESSION_NAME, options, size_bytes=None)

    def open_session(self, chunks: Chunks, options: TransferOptions) -> StreamSource:
        """A stream in which each chunk becomes a part, within the size limits of parts."""
        return StreamSource(
            chunks,
            name=_SESSION_NAME,
            budget=self._budget,
            threads=self._threads,
            split_at_chunks=True,
            max_latency_seconds=options.max_latency,
        )

    def plan(self, source: OpenSource, options: TransferOptions) -> Plan:
        """Plan the parts of a source.

        :raises ConfigurationError: an option does not apply to this source
        """
        if isinstance(source, FileSource):
            if options.max_latency is not None:
                raise ConfigurationError("max_latency applies only to streams; remove it to upload a file.")
        else:
            _check_stream(source.display_name, options, size_bytes=source.size_bytes)
        if source.size_bytes is not None:
            return plan_parts(source.size_bytes, part_bytes=options.part_size, concurrency=options.concurrency)
        return plan_stream(
            buffer_bytes=self._buffer_bytes,
            part_bytes=options.part_size,
            concurrency=options.concurrency,
            live=options.max_latency is not None,
        )

    def plan_session(self, source: StreamSource, options: TransferOptions) -> Plan:
        """Plan the parts of a session: only chunks larger than a part are split.

        :raises ConfigurationError: an option does not apply to a session
        """
        return replace(self.plan(source, options), part_bytes=options.part_size or MAX_PART_BYTES, grows=False)


def _check_stream(name: str, options: TransferOptions, *, size_bytes: int | None) -> None:
    """Check the options of a stream, which can be read only once.

    :raises ConfigurationError: an option does not apply to it
    """
    if options.resume != "off":
        raise ConfigurationError(f"A stream ({name}) cannot be resumed; remove resume.")
    if options.idempotency_key is not None:
        raise ConfigurationError(
            f"A stream ({name}) can be read only once, so it cannot be identified; remove idempotency_key."
        )
    if options.ranges == "bytes" and size_bytes is None:
        raise ConfigurationError(
            f"Byte ranges require a known total size, and the size of {name} is not known; use ranges='part'."
        )


def check_type(source: object) -> None:
    """Check that a source is of a type that can be uploaded.

    :raises TypeError: it is not
    """
    if not (isinstance(source, os.PathLike | Iterable | AsyncIterable) or hasattr(source, "read")):
        chunks_of(source)  # raises
