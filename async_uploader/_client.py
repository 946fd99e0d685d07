"""The public face: :func:`upload` and :class:`Client`. Here the rooms are put together."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, Unpack, cast
from weakref import WeakSet

import anyio
from msgspec.structs import replace

from ._api.account import AccountApi
from ._api.base_url import parse_base_url
from ._api.credentials import find_credential
from ._api.http import Http
from ._api.service import Service
from ._dispatcher import EventDispatcher
from ._errors import ConfigurationError
from ._flow.rate_limit import RateLimiter
from ._flow.retries import RetryPolicy, RetryRunner
from ._flow.slots import UploadSlots
from ._limits import MAX_PART_BYTES, MIB
from ._models import Video
from ._options import ContainerDetails, TransferOptions, UploadOptions, check_delegated, split_options
from ._plan import Plan, plan_parts, plan_stream
from ._sources.chunks import chunks_of, is_pipe, path_of
from ._sources.file import FileSource
from ._sources.stream import Budget, StreamSource
from ._uploads.job import Context, Job
from ._uploads.lifecycle import Upload
from ._uploads.many import UploadItem, Uploads
from ._uploads.session import UploadSession
from ._version import __version__

if TYPE_CHECKING:
    from ._resume.resume import JournalWorker, Resume


class SupportsRead(Protocol):
    """A binary file object, plain or asynchronous."""

    def read(self, count_bytes: int, /) -> bytes | Awaitable[bytes]:
        """At most so many bytes; none at the end."""
        ...


#: What can be uploaded: a path, a binary file object, bytes, or an iterable or async iterable of bytes.
Source = (
    str | os.PathLike[str] | SupportsRead | bytes | bytearray | memoryview | Iterable[bytes] | AsyncIterable[bytes]
)
OpenSource = FileSource | StreamSource

# Reads are short; more threads than this only queue on the disk.
_READING_THREADS: Final = 8
# So many files at once keep the line busy while others of them are created and finished.
_MANY_FILES: Final = 16
# A single request has nothing to lose: after so many pages of a proxy or a portal, the user hears of it. An upload
# retries as often as after other failures.
_MAX_UNREADABLE: Final = 3
DEFAULT_BUFFER_BYTES: Final = 64 * MIB


class Client(AccountApi):
    """One connection pool, one bearer token and one rate limiter, for any number of uploads at once.

    Use as an async context manager::

        async with Client() as client:
            video = await client.upload("movie.mp4", title="Holidays")

    :param api_key: the account's key; default ``APIVIDEO_API_KEY``
    :param upload_token: an upload token, to upload without a key; default ``APIVIDEO_UPLOAD_TOKEN``. What is
        given as a parameter goes before what the environment has, and there a key before a token
    :param base_url: ``"production"``, ``"sandbox"`` or a URL; default ``APIVIDEO_BASE_URL``, else production
    :param buffer_bytes: how many bytes of streams may be kept in memory, by all uploads together; default 64 MiB.
        With C parts of P bytes in flight a stream keeps at most (C + 2) * P bytes; what is beyond
        ``buffer_bytes`` goes to temporary files. Files need no such memory
    :param allow_plain_http: accept an ``http://`` URL of another machine, to which credentials travel in clear
    :raises ConfigurationError: no credentials, two of them, or a base URL that cannot be used
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        upload_token: str | None = None,
        base_url: str | None = None,
        buffer_bytes: int = DEFAULT_BUFFER_BYTES,
        allow_plain_http: bool = False,
    ) -> None:
        if buffer_bytes < 0:
            raise ConfigurationError(f"buffer_bytes must be a whole number of bytes from 0, not {buffer_bytes!r}.")
        address = os.environ.get("APIVIDEO_BASE_URL") or "production" if base_url is None else base_url
        self._http = Http(
            parse_base_url(address, allow_plain_http=allow_plain_http),
            headers={"AV-Origin-Client": f"async-uploader:{__version__}"},
        )
        self._limiter = RateLimiter()
        self._credential = find_credential(api_key, upload_token)
        super().__init__(
            Service(self._http, self._credential, self._limiter),
            RetryRunner(limiter=self._limiter, policy=RetryPolicy(max_unreadable=_MAX_UNREADABLE)),
        )
        self._buffer_bytes = buffer_bytes
        self._budget = Budget(buffer_bytes)
        self._journal_worker: JournalWorker | None = None
        self._slots = UploadSlots(self._limiter)
        self._many: WeakSet[Uploads] = WeakSet()
        self._threads = ThreadPoolExecutor(_READING_THREADS, thread_name_prefix="async_uploader-read")

    @property
    def base_url(self) -> str:
        """The service that this client talks to."""
        return str(self._http.base_url)

    @property
    def delegated(self) -> bool:
        """Whether there is only an upload token: it can upload, and ask for nothing."""
        return self._service.delegated

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for uploads in list(self._many):
            await uploads.aclose()
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._journal_worker is not None:
            self._journal_worker.close()
            self._journal_worker = None
        with anyio.move_on_after(1, shield=True):
            await self._http.__aexit__(*exc_info)

    async def upload(self, source: Source, **options: Unpack[UploadOptions]) -> Video:
        """Upload a video: create the container, send the parts, close, verify.

        :param source: the path of a file, a binary file object, bytes, or an iterable or async iterable of bytes
            of any lengths. A file object is read from where it stands, and left open and where it stood
        :param title: the container's title; default the file's name
        :param description: and ``tags``, ``metadata`` (a mapping), ``public``, ``panoramic``, ``mp4_support``,
            ``player_id``, ``language``, ``transcript``, ``transcript_summary``,
            ``transcript_summary_attributes``, ``watermark``, ``clip``: the container's other details, as the
            service has them
        :param video_id: an existing container to fill instead of creating one
        :param ranges: ``"part"`` (progressive, the default) or ``"bytes"``
        :param part_size: bytes in a part, 5 MiB to 200 MiB; default: planned
        :param concurrency: parts in flight at once; default: as many as make it faster, up to 32
        :param max_attempts: tries for one request without progress in between; default 8
        :param stall_timeout: seconds without one byte moving, either way, before a request is given up and
            tried again; default 30. A response is also given up if it is not complete ten times as long after the
            last byte of its request has left
        :param resume: go on with an interrupted upload of the same file. ``"local"``: by a journal on this
            machine, which also survives kill -9. True: also from another machine or without the journal, by two
            entries that the container's metadata carries until it is finished. Default False: nothing is
            remembered, and what fails is deleted
        :param keep_finished: with ``resume``, remember the finished upload, too: the same upload returns the same
            video without sending anything, until :func:`forget_unfinished` is called for it or it is 7 days old.
            Default False: it is forgotten once ``on_video`` has returned
        :param max_latency: for a stream that is live: seconds after which a part is closed early, if it has 5 MiB
        :param on_progress: called (plain or async) with a :class:`Progress`, up to ten times a second
        :param on_video: called (plain or async) with the finished Video, once, before a journal forgets the
            upload: what it has recorded needs never be sent again, wherever a crash comes between. Its errors are
            raised as they are (:meth:`upload_many` has them as the result's error), and leave the video where it
            is
        :param on_event: called (plain) with each :class:`~async_uploader.events.UploadEvent`
        :returns: the finished Video
        :raises ConfigurationError: an option is out of its range; nothing was sent
        :raises SourceError: the source is missing, empty, unreadable or too big; nothing was sent
        :raises ApiError: the container could not be created
        :raises TransportError: the service did not answer, before there was a container
        :raises UploadFailed: the container exists, and filling it failed; the cause is chained
        """
        return await self._upload(source, options)

    async def _upload(self, source: Source, options: UploadOptions, *, slots: UploadSlots | None = None) -> Video:
        transfer, payload = self._checked(options)
        slots = slots or self._slots_for(transfer.concurrency)
        with slots.in_use():
            opened = await self._open(source, transfer)
            try:
                plan = self._plan(opened, transfer)
                return await self._send(Job(source=opened, plan=plan, options=transfer, slots=slots), payload)
            finally:
                await opened.aclose()

    def _slots_for(self, concurrency: int | None) -> UploadSlots:
        """The one on which all uploads adapt together; one of its own for who wants a certain concurrency."""
        return self._slots if concurrency is None else UploadSlots(self._limiter, concurrency)

    async def _send(self, job: Job, payload: dict[str, Any]) -> Video:
        source, options = job.source, job.options
        await source.prime()
        events = EventDispatcher(source.name, options.on_event)
        context = Context(
            service=self._service.with_stall(options.stall_timeout),
            retries=RetryRunner(
                limiter=self._limiter,
                policy=RetryPolicy(max_attempts=options.max_attempts),
                subject=source.name,
                events=events,
            ),
            events=events,
        )
        payload = {"title": source.name, **payload}
        if not (options.resume and isinstance(source, FileSource)):
            return await Upload(job, context, payload).run()
        async with self._resume(source, options, context) as resume:
            return await Upload(job, replace(context, resume=resume), payload).run()

    def _checked(self, options: UploadOptions) -> tuple[TransferOptions, dict[str, Any]]:
        transfer, payload = split_options(options)
        if self.delegated:
            check_delegated(transfer, payload)
        return transfer, payload

    async def _open(self, source: Source, options: TransferOptions) -> OpenSource:
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
            allowance=self._limiter.allowance,
        )

    def _plan(self, source: OpenSource, options: TransferOptions) -> Plan:
        if isinstance(source, FileSource):
            if options.max_latency is not None:
                raise ConfigurationError("max_latency is for streams; a file is all there already.")
        elif options.resume is True:
            raise ConfigurationError(f"A stream ({source.shown}) cannot be gone on with; leave resume out.")
        if source.size_bytes is not None:
            return plan_parts(source.size_bytes, part_bytes=options.part_size, concurrency=options.concurrency)
        if options.ranges == "bytes":
            raise ConfigurationError(
                f"Byte ranges name the size of the whole in each part, and that of {source.shown} is not known; "
                "use ranges='part'."
            )
        return plan_stream(
            buffer_bytes=self._buffer_bytes,
            part_bytes=options.part_size,
            concurrency=options.concurrency,
            live=options.max_latency is not None,
        )

    def _resume(self, source: FileSource, options: TransferOptions, context: Context) -> Resume:
        # Imported late: only uploads that can be resumed need SQLite and file locks.
        from ._resume.resume import JournalWorker, Resume, account_of  # noqa: PLC0415

        self._journal_worker = self._journal_worker or JournalWorker()
        return Resume(
            source,
            options=options,
            account=account_of(self._credential.secret, str(self._http.base_url)),
            keeper=self._journal_worker,
            service=context.service,
            pacing=context.retries,
        )

    async def check_source(self, source: Source, **options: Unpack[UploadOptions]) -> None:
        """Check a source and its options as :meth:`upload` would, without sending or reading anything.

        :raises ConfigurationError: an option is out of its range
        :raises SourceError: a file is missing, empty, unreadable or too big
        """
        transfer, _ = self._checked(options)
        self._plan(await self._open(source, transfer), transfer)

    @asynccontextmanager
    async def upload_session(self, **options: Unpack[UploadOptions]) -> AsyncIterator[UploadSession]:
        """Upload what the caller cuts itself, as it comes: a recording in progress, say.

        ::

            async with client.upload_session(title="Live") as session:
                await session.upload_part(data)  # as often as it takes
                video = await session.upload_last_part(data)

        Takes what :meth:`upload` takes, ``resume`` and ``ranges="bytes"`` aside. Leaving the block before the
        last part cancels the upload and deletes its container.

        :raises ConfigurationError: an option is out of its range
        """
        transfer, payload = self._checked(options)
        session = UploadSession()
        source = StreamSource(
            session.chunks(),
            name="recording",
            budget=self._budget,
            threads=self._threads,
            cut_at_chunks=True,
            max_latency_seconds=transfer.max_latency,
        )
        plan = replace(self._plan(source, transfer), part_bytes=transfer.part_size or MAX_PART_BYTES, grows=False)
        try:
            slots = self._slots_for(transfer.concurrency)
            job = Job(source=source, plan=plan, options=transfer, slots=slots)
            with slots.in_use():
                async with session.running(partial(self._send, job, payload)):
                    yield session
        finally:
            await source.aclose()

    def upload_many(
        self,
        items: Iterable[Source | UploadItem] | AsyncIterable[Source | UploadItem],
        *,
        concurrency: int | None = None,
    ) -> Uploads:
        """Upload many videos, and get their results in the order in which they end.

        One that fails does not stop the others, whatever it fails with: its result has the error. An exception of
        its callbacks (``on_video``, say) is the ``__cause__`` of that error.

        :param items: sources, or :class:`UploadItem` for such with options of their own; taken as they are needed
        :param concurrency: parts in flight at once, of all of them together, and files at once; default: as many
            parts as make it faster, up to 32, and 16 files
        :returns: an async iterator of :class:`UploadResult`; use it up, or use it as a context manager
        :raises TypeError: while iterating, once the others have ended: an item is no source, or has an unknown
            option
        """
        upload_item = partial(self._upload_item, slots=self._slots_for(concurrency))
        uploads = Uploads(upload_item, items, files=concurrency or _MANY_FILES, check=_check_item)
        self._many.add(uploads)
        return uploads

    async def _upload_item(self, item: UploadItem, *, slots: UploadSlots) -> Video:
        if item.is_url:
            return await self.import_video(cast("str", item.source), **cast("ContainerDetails", item.options))
        return await self._upload(cast("Source", item.source), item.options, slots=slots)


def _check_item(item: UploadItem) -> None:
    """Refuse what no upload takes.

    :raises TypeError: the source or an option is of no use
    :raises ConfigurationError: an option is out of its range
    """
    split_options(item.options)
    if not (isinstance(item.source, os.PathLike | Iterable | AsyncIterable) or hasattr(item.source, "read")):
        chunks_of(item.source)  # raises


async def upload(
    source: Source,
    *,
    api_key: str | None = None,
    upload_token: str | None = None,
    base_url: str | None = None,
    buffer_bytes: int = DEFAULT_BUFFER_BYTES,
    allow_plain_http: bool = False,
    **options: Unpack[UploadOptions],
) -> Video:
    """Upload one video, from authentication to verification. See :class:`Client` and :meth:`Client.upload`.

    >>> video = asyncio.run(upload("movie.mp4", title="Holidays"))  # doctest: +SKIP
    """
    async with Client(
        api_key=api_key,
        upload_token=upload_token,
        base_url=base_url,
        buffer_bytes=buffer_bytes,
        allow_plain_http=allow_plain_http,
    ) as client:
        return await client.upload(source, **options)
