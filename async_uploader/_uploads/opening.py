"""Opens the sources of uploads, and plans their parts."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, cast

import anyio
from msgspec.structs import replace

from async_uploader._errors import ConfigurationError, SourceError, SourceUnavailable
from async_uploader._limits import MAX_PART_BYTES
from async_uploader._options import TransferOptions
from async_uploader._plan import Allowance, Plan, plan_parts, plan_stream
from async_uploader._sources.chunks import Chunks, chunks_of, path_of
from async_uploader._sources.file import FileSource
from async_uploader._sources.part_buffer import MemoryBudget
from async_uploader._sources.remote import RemoteObject, RemoteSource
from async_uploader._sources.stream import StreamSource
from async_uploader._types import RemoteFile
from async_uploader._urls import STORE_SCHEMES, display_url, remote_scheme

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# Reads are short: with more threads they would only wait for the disk.
_READING_THREADS: Final = 8

_SESSION_NAME: Final = "recording"

OpenSource = FileSource | RemoteSource | StreamSource


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
        if isinstance(source, RemoteFile):
            return await self._open_remote(_open_file(source), source.key, options)
        if isinstance(source, str) and (scheme := remote_scheme(source)):
            return await self._open_remote(_open_url(source, scheme, options), display_url(source), options)
        path = source if isinstance(source, str | os.PathLike) else path_of(source)
        if path is not None and (file := await FileSource.open(path, threads=self._threads)) is not None:
            return file
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
    async def _open_remote(
        opening: Awaitable[RemoteObject], display_name: str, options: TransferOptions
    ) -> RemoteSource:
        try:
            with anyio.fail_after(options.stall_timeout):
                remote = await opening
        except TimeoutError:
            raise SourceUnavailable(
                f"{display_name} cannot be read: no response within {options.stall_timeout:g} s."
            ) from None
        try:
            return RemoteSource(remote, stall_seconds=options.stall_timeout)
        except SourceError:
            await remote.aclose()
            raise

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
        if isinstance(source, FileSource | RemoteSource):
            if options.max_latency is not None:
                raise ConfigurationError("max_latency applies only to streams; remove it to upload a file.")
        else:
            _check_stream(source.display_name, options, size_bytes=source.size_bytes)
        if options.checksum and isinstance(source, StreamSource):
            source.hash_chunks()
        if options.checksum and isinstance(source, RemoteSource) and not source.has_version:
            raise ConfigurationError(
                f"checksum reads {source.display_name} twice, but its server states no version (ETag) or time of "
                "the last change, so a change in between could not be noticed."
            )
        if options.key_from_source and not isinstance(source, RemoteSource):
            raise ConfigurationError(
                f"key_from_source needs an object in a store or on the web, which {source.display_name} is not."
            )
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


async def _open_file(file: RemoteFile) -> RemoteObject:
    from async_uploader._sources.store import StoreObject  # noqa: PLC0415 - an extra

    return await StoreObject.open(cast("ObjectStore", file.store), file.key, display_name=file.key)


async def _open_url(url: str, scheme: str, options: TransferOptions) -> RemoteObject:
    if scheme in STORE_SCHEMES:
        from async_uploader._sources.store import open_store_object  # noqa: PLC0415 - an extra

        return await open_store_object(url)
    if options.fetch != "here":
        raise ConfigurationError(
            "A URL is uploaded with fetch='here'. To let the service download it, use import_video()."
        )
    from async_uploader._api.web_object import WebObject  # noqa: PLC0415 - few uploads need it

    return await WebObject.open(url)


async def with_source_key(source: OpenSource, options: TransferOptions) -> TransferOptions:
    """The options with a key derived from the source, if they ask for one and have none."""
    if not options.key_from_source or options.idempotency_key is not None:
        return options
    assert isinstance(source, RemoteSource), "plan() refuses other sources"
    return replace(options, idempotency_key=f"source-{await source.identify()}")


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
    if not (isinstance(source, os.PathLike | RemoteFile | Iterable | AsyncIterable) or hasattr(source, "read")):
        chunks_of(source)  # raises
