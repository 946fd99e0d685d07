"""The entry points :func:`upload` and :class:`Client`, which assemble all other parts of the library.

More than half of this module is the documentation of the public methods.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from typing import Any, Final, Self, Unpack, cast
from weakref import WeakSet

import anyio
import anyio.to_thread
from msgspec.structs import replace

from ._api.account import AccountApi
from ._api.base_url import parse_base_url
from ._api.client_state import ClientState
from ._api.credentials import find_credential
from ._api.http import Http
from ._api.service import Service
from ._dispatcher import EventDispatcher
from ._errors import ConfigurationError
from ._flow.bandwidth import Bandwidth
from ._flow.rate_limit import RateLimiter
from ._flow.retries import RetryPolicy, RetryRunner
from ._flow.slots import UploadSlots
from ._limits import MIB, RATE_WINDOW_SECONDS
from ._models import Video
from ._options import TransferOptions, check_delegated, check_limit_rate, import_options, split_options
from ._public import public
from ._resume.containers import RemoteContainers, SettlingPolicy
from ._resume.entry import Account
from ._resume.resumptions import Resumptions
from ._resume.state_directory import state_directory
from ._sidecars import check_files
from ._types import ImportOptions, Source, UploadItem, UploadOptions
from ._uploads.job import Context, Job
from ._uploads.lifecycle import Upload
from ._uploads.many import Uploads
from ._uploads.opening import OpenSource, SourceOpener, check_type, with_source_key
from ._uploads.session import UploadSession
from ._version import __version__
from .events import Operation

# Enough to keep all upload slots busy while other files are being created and completed.
_CONCURRENT_FILES: Final = 16
# An unreadable 2xx response usually comes from a proxy or a captive portal. Account requests have no progress to
# lose, so they fail early; uploads retry as after other failures.
_MAX_UNREADABLE: Final = 3
_CLOSE_SECONDS: Final = 1.0
DEFAULT_BUFFER_BYTES: Final = 64 * MIB


@public
class Client(AccountApi):
    """A client of api.video. All its uploads share one connection pool, one login and one rate limiter.

    Use it as an async context manager::

        async with Client() as client:
            video = await client.upload("movie.mp4", title="Holidays")

    Open it once, and use it in the event loop in which it was opened: anything else is a
    :class:`ConfigurationError`.

    A parameter takes precedence over the environment. In the environment, an API key takes precedence over an
    upload token.

    :param api_key: API key of the account (default: ``APIVIDEO_API_KEY``)
    :param upload_token: upload token, to upload without an API key (default: ``APIVIDEO_UPLOAD_TOKEN``)
    :param base_url: ``"production"``, ``"sandbox"`` or a URL (default: ``APIVIDEO_BASE_URL``, or production)
    :param buffer_bytes: bytes of streams that are kept in memory, for all uploads together (default: 64 MiB). A
        stream with C parts of P bytes in flight buffers up to (C + 2) * P bytes; bytes beyond ``buffer_bytes`` are
        written to temporary files. Files need no such buffer
    :param allow_plain_http: allow an ``http://`` URL of another machine, which sends credentials unencrypted
        (default: False)
    :param limit_rate: bytes of video to send per second at most, all parts and uploads of the client together
        (default: no limit)
    :raises ConfigurationError: credentials are missing or ambiguous, or a parameter is invalid
    """

    # Tests override these in a subclass.
    _retry_policy = RetryPolicy()
    _rate_window_seconds: float = RATE_WINDOW_SECONDS
    _settling_policy = SettlingPolicy()

    def __init__(
        self,
        *,
        api_key: str | None = None,
        upload_token: str | None = None,
        base_url: str | None = None,
        buffer_bytes: int = DEFAULT_BUFFER_BYTES,
        allow_plain_http: bool = False,
        limit_rate: float | None = None,
    ) -> None:
        if buffer_bytes < 0:
            raise ConfigurationError(f"buffer_bytes must be a whole number of bytes from 0, not {buffer_bytes!r}.")
        check_limit_rate(limit_rate)
        address = os.environ.get("APIVIDEO_BASE_URL") or "production" if base_url is None else base_url
        self._http = Http(
            parse_base_url(address, allow_plain_http=allow_plain_http),
            headers={"AV-Origin-Client": f"async-uploader:{__version__}"},
        )
        self._limiter = RateLimiter(window_seconds=self._rate_window_seconds)
        self._credential = find_credential(api_key, upload_token)
        self._state = ClientState()
        bandwidth = None if limit_rate is None else Bandwidth(limit_rate)
        self._service = Service(self._http, self._credential, self._limiter, bandwidth=bandwidth)
        self._retries = RetryRunner(self._limiter, replace(self._retry_policy, max_unreadable=_MAX_UNREADABLE))
        self._opener = SourceOpener(buffer_bytes, allowance=self._limiter.allowance)
        self._slots = UploadSlots(self._limiter)
        self._account = Account.of(self._credential.secret, self.base_url)
        self._resumptions = Resumptions(self._account, is_delegated=self.delegated)
        # Batches that the caller did not close are closed with the client.
        self._batches: WeakSet[Uploads] = WeakSet()

    @property
    def base_url(self) -> str:
        """The URL of the service."""
        return str(self._http.base_url)

    @property
    def delegated(self) -> bool:
        """Whether the client has only an upload token, which can do nothing but upload."""
        return self._service.delegated

    async def __aenter__(self) -> Self:
        self._state.open()
        try:
            await self._share_rate_limit()
            await self._http.__aenter__()
        except BaseException:
            self._limiter.close()
            self._state.close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._state.close()
        for uploads in list(self._batches):
            await uploads.aclose()
        self._opener.close()
        self._limiter.close()
        self._resumptions.close()
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
            await self._http.__aexit__(*exc_info)

    async def _share_rate_limit(self) -> None:
        with suppress(OSError):  # without a home directory, each process counts its own requests
            await self._limiter.share(state_directory() / "rate-limits" / self._account.fingerprint)

    async def upload(self, source: Source, **options: Unpack[UploadOptions]) -> Video:
        """Upload a video: create its container, send the parts, and verify the result.

        :param source: path, URL, binary file object, bytes, or iterable or async iterable of bytes. A file object
            is read from its current position; it is not closed, and its position is restored. Objects in stores
            (``s3://BUCKET/KEY``, ``gs://…``, ``az://…``, or a :class:`RemoteFile`) need the extra ``remote``
        :param fetch: how to get a web URL: ``"here"`` streams it through this process, by ranges. ``"service"``,
            the default, is possible only in :meth:`upload_many`, where the service imports the URL
        :param key_from_source: derive ``idempotency_key``, if it is not given, from the URL and version of an
            object in a store or on the web: each object is uploaded once, from any machine (default: False)
        :param title: title of the video (default: name of the source). Further details are described at
            :class:`ContainerDetails`
        :param video_id: existing container to fill (default: a new container is created)
        :param ranges: how parts are identified: ``"part"`` (progressive upload, the default) or ``"bytes"``
        :param part_size: bytes per part, 5 MiB to 200 MiB (default: planned from the size and the rate limit)
        :param concurrency: parts to upload at the same time, 1-256 (default: adaptive, up to 32)
        :param max_attempts: attempts of a request without progress in between, 1-1000 (default: 8)
        :param stall_timeout: seconds without a byte in either direction after which a request fails and is retried
            (default: 30). A response must also be complete within ten times this time after its request was sent
        :param resume: resume an interrupted upload of the same file. ``"off"`` (the default): keep no record, and
            delete the container if the upload fails. ``"local"``: with a journal on this machine, which survives
            kill -9. ``"anywhere"``: also without the journal or on another machine, with two metadata entries that
            the container has until the upload finishes. A stream cannot be resumed
        :param idempotency_key: all uploads with this key result in one video: from any machine, at any time, even
            concurrently. A finished video is returned without sending anything; an unfinished one is resumed,
            whatever ``resume`` is. 1 to 200 printable characters, kept in the video's metadata (default: none)
        :param keep_finished: with ``resume``, keep the journal entry of the finished upload: for 7 days or until
            :func:`forget_unfinished`, the same upload returns the same video and sends nothing (default: False)
        :param checksum: record the SHA-256 of the source in the metadata entry ``sha256`` of the video (default:
            False). A file or an object is then read twice
        :param control: pauses and resumes the upload (default: none)
        :param captions: WebVTT or SubRip files to add to the finished video, by language tag (default: none). They
            are checked before anything is sent. With ``resume``, the same upload adds what could not be added
        :param chapters: WebVTT files to add, by language tag (default: none)
        :param thumbnail: JPEG or PNG file to add (default: the service selects a frame of the video)
        :param max_latency: seconds after which a part of a live stream is sent once it has 5 MiB (default: none)
        :param on_progress: called (plain or async) with a :class:`Progress`, up to ten times per second
        :param on_video: called (plain or async) once with the finished video, before the journal entry is deleted:
            record the video here, and a crash at any time causes no second upload. An exception is raised
            unchanged (in :meth:`upload_many`, it is the error of the result) and does not delete the video
        :param on_event: called (plain only) with every :class:`~async_uploader.events.UploadEvent`
        :returns: the finished video
        :raises ConfigurationError: an option is invalid; nothing was sent
        :raises SourceError: the source is missing, empty, unreadable or too big; nothing was sent
        :raises ConflictError: ``idempotency_key`` belongs to another source; nothing was changed
        :raises ApiError: the service refused to create the container
        :raises TransportError: the service gave no usable response to the creation of the container
        :raises UploadFailed: the container exists, but filling it failed; the cause is chained
        """
        return await self._upload(source, options)

    async def import_video(self, source: str, **options: Unpack[ImportOptions]) -> Video:
        """Let the service download a video from a URL, or copy a video of the account.

        :param source: an ``http(s)://`` URL, or a videoId
        :param idempotency_key: all imports with this key result in one video, as in :meth:`upload`. The signature
            of a signed URL may differ
        :param title: title of the video (default: the last part of the URL's path), and further details as in
            :meth:`upload`
        :returns: the new container, immediately; :meth:`wait_until_playable` waits for the video
        :raises ConfigurationError: the source is empty, or an option is invalid
        :raises ConflictError: the key belongs to another source; nothing was changed
        :raises ApiError: the service refused the request
        """
        from ._uploads.imports import VideoImport  # noqa: PLC0415 - few programs import videos

        self._state.check()
        if not source.strip():
            raise ConfigurationError("The source to import must be a URL or a videoId, not empty.")
        transfer, payload = split_options(options)
        title = source.partition("?")[0].rstrip("/").rpartition("/")[2] or source
        key = transfer.idempotency_key
        video_import = VideoImport(
            source,
            key=key,
            service=self._service,
            retries=self._retries,
            containers=RemoteContainers(self._service, self._retries, self._settling_policy),
        )
        async with nullcontext() if key is None else self._resumptions.key_lock(key):
            return await video_import.run({"title": title, **payload, "source": source})

    async def check_source(self, source: Source, **options: Unpack[UploadOptions]) -> None:
        """Check a source and options as :meth:`upload` does, without sending anything to the service.

        :param source: as in :meth:`upload`. A file is not read; of a remote object, one byte is requested
        :raises ConfigurationError: an option is invalid
        :raises SourceError: the file is missing, empty, unreadable or too big
        """
        self._state.check()
        transfer, _ = self._check_options(options)
        if transfer.sidecars:
            await anyio.to_thread.run_sync(check_files, transfer.sidecars)
        opened = await self._open(source, transfer)
        try:
            self._opener.plan(opened, transfer)
        finally:
            await opened.aclose()

    @asynccontextmanager
    async def upload_session(self, **options: Unpack[UploadOptions]) -> AsyncIterator[UploadSession]:
        """Upload data that you pass part by part, such as a recording in progress.

        ::

            async with client.upload_session(title="Live") as session:
                await session.upload_part(data)  # as often as needed
                video = await session.upload_last_part(data)

        Leaving the block before the last part cancels the upload and deletes its container. Takes the options of
        :meth:`upload`, except ``resume`` and ``ranges="bytes"``.

        :raises ConfigurationError: an option is invalid
        """
        self._state.check()
        transfer, payload = self._check_options(options)
        self._opener.check_session(transfer)
        session = UploadSession()
        source = self._opener.open_session(session.chunks(), transfer)
        plan = self._opener.plan_session(source, transfer)
        try:
            slots = self._slots_for(transfer.concurrency)
            job = Job(source=source, plan=plan, options=transfer, payload=payload, slots=slots)
            with slots.count_upload():
                async with session.running(partial(self._run, job)):
                    yield session
        finally:
            await source.aclose()

    def upload_many(
        self,
        items: Iterable[Source | UploadItem] | AsyncIterable[Source | UploadItem] | list[object],
        *,
        concurrency: int | None = None,
    ) -> Uploads:
        """Upload many videos, and iterate over the results in the order in which the uploads end.

        A failed upload does not stop the others; its result has the error. If a callback such as ``on_video``
        raised an exception, that is the ``__cause__`` of the error.

        :param items: sources, or :class:`UploadItem` for sources with their own options; read as needed
        :param concurrency: parts to upload at the same time, of all files together, and files at the same time
            (default: adaptive, up to 32 parts, and 16 files)
        :returns: an async iterator of :class:`Uploaded` and :class:`Failed` results; iterate to the end, or use it
            as a context manager
        :raises TypeError: during the iteration, after the other uploads have ended: an item cannot be uploaded, or
            has an unknown option
        """
        self._state.check()
        upload_item = partial(self._upload_item, slots=self._slots_for(concurrency))
        uploads = Uploads(
            upload_item,
            items,
            files=concurrency or _CONCURRENT_FILES,
            check=_check_item,
            check_client=self._state.check,
        )
        self._batches.add(uploads)
        return uploads

    async def _upload_item(self, item: UploadItem, *, slots: UploadSlots) -> Video:
        options: UploadOptions = item.options
        if item.idempotency_key is not None:
            options = {**options, "idempotency_key": item.idempotency_key}
        if item.is_url:
            return await self.import_video(cast("str", item.source), **import_options(options))
        return await self._upload(item.source, options, slots=slots)

    async def _upload(self, source: Source, options: UploadOptions, *, slots: UploadSlots | None = None) -> Video:
        self._state.check()
        transfer, payload = self._check_options(options)
        if transfer.sidecars:
            await anyio.to_thread.run_sync(check_files, transfer.sidecars)
        slots = slots or self._slots_for(transfer.concurrency)
        with slots.count_upload():
            opened = await self._open(source, transfer)
            try:
                plan = self._opener.plan(opened, transfer)
                transfer = await with_source_key(opened, transfer)
                job = Job(source=opened, plan=plan, options=transfer, payload=payload, slots=slots)
                return await self._run(job)
            finally:
                await opened.aclose()

    async def _open(self, source: Source, options: TransferOptions) -> OpenSource:
        """Open a source. A remote one is retried."""
        policy = replace(self._retry_policy, max_attempts=options.max_attempts)
        retries = RetryRunner(self._limiter, policy)
        return await retries.retry(partial(self._opener.open, source, options), operation=Operation.SOURCE)

    async def _run(self, job: Job) -> Video:
        source, options = job.source, job.options
        await source.prepare()
        job = replace(job, payload={"title": source.name, **job.payload})
        events = EventDispatcher(source.name, options.on_event)
        policy = replace(self._retry_policy, max_attempts=options.max_attempts)
        context = Context(
            service=self._service.with_stall(options.stall_timeout),
            retries=RetryRunner(self._limiter, policy, subject=source.name, events=events),
            events=events,
        )
        containers = RemoteContainers(context.service, context.retries, self._settling_policy)
        resumption = self._resumptions.create(source, options, containers)
        if resumption is None:
            return await Upload(job, context).run()
        async with resumption as resume:
            return await Upload(job, replace(context, resume=resume)).run()

    def _slots_for(self, concurrency: int | None) -> UploadSlots:
        """The client's adaptive slots, or separate ones for a fixed concurrency."""
        return self._slots if concurrency is None else UploadSlots(self._limiter, concurrency)

    def _check_options(self, options: UploadOptions) -> tuple[TransferOptions, dict[str, Any]]:
        transfer, payload = split_options(options)
        if self.delegated:
            check_delegated(transfer, payload)
        return transfer, payload


def _check_item(item: UploadItem) -> None:
    """Check the types of an item.

    :raises TypeError: the source cannot be uploaded, or an option is unknown
    :raises ConfigurationError: an option is invalid
    """
    if item.is_url:
        import_options(item.options)
    else:
        split_options(item.options)
        check_type(item.source)


async def upload(
    source: Source,
    *,
    api_key: str | None = None,
    upload_token: str | None = None,
    base_url: str | None = None,
    buffer_bytes: int = DEFAULT_BUFFER_BYTES,
    allow_plain_http: bool = False,
    limit_rate: float | None = None,
    **options: Unpack[UploadOptions],
) -> Video:
    """Upload one video with a :class:`Client` of its own.

    >>> video = asyncio.run(upload("movie.mp4", title="Holidays"))  # doctest: +SKIP

    :class:`Client` describes the parameters of the client, :meth:`Client.upload` the source, the options and the
    errors.

    :returns: the finished video
    """
    async with Client(
        api_key=api_key,
        upload_token=upload_token,
        base_url=base_url,
        buffer_bytes=buffer_bytes,
        allow_plain_http=allow_plain_http,
        limit_rate=limit_rate,
    ) as client:
        return await client.upload(source, **options)
