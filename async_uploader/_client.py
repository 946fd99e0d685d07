"""The public face: :func:`upload` and :class:`Client`. Here the rooms are put together."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self, TypeVar, Unpack, cast
from weakref import WeakSet

import anyio

from ._address import parse_base_url
from ._credentials import ApiKey, DelegatedToken
from ._errors import ApiError, ConfigurationError, UploaderError
from ._http import Http
from ._limits import MAX_PAGE_SIZE, MAX_PART_BYTES, MAX_UPLOAD_TOKEN_TTL_SECONDS, MIB
from ._many import UploadItem, Uploads
from ._models import UploadToken, Video, VideoStatus
from ._options import ContainerDetails, TransferOptions, UploadOptions, container_payload, split_options
from ._pacing import Pacing, RetryPolicy
from ._plan import Plan, plan_parts, plan_stream
from ._ratelimit import Kind, RateLimiter
from ._service import Service
from ._session import UploadSession
from ._source import FileSource
from ._stream import Budget, StreamSource, as_stream, is_pipe, path_of
from ._transfer import Job
from ._upload import Upload
from ._version import __version__

if TYPE_CHECKING:
    from ._resume import Keeper, Resume

T = TypeVar("T")


class SupportsRead(Protocol):
    """A binary file object, plain or asynchronous."""

    def read(self, count_bytes: int, /) -> bytes | Awaitable[bytes]:
        """At most so many bytes; none at the end."""
        ...


M = TypeVar("M", Video, UploadToken)

#: What can be uploaded: a path, a binary file object, bytes, or an iterable or async iterable of bytes.
Source = (
    str | os.PathLike[str] | SupportsRead | bytes | bytearray | memoryview | Iterable[bytes] | AsyncIterable[bytes]
)
OnStatus = Callable[[VideoStatus], Awaitable[object] | object]
OpenSource = FileSource | StreamSource

# Reads are short; more threads than this only queue on the disk.
_READING_THREADS: Final = 8
MANY_CONCURRENCY: Final = 16
DEFAULT_BUFFER_BYTES: Final = 64 * MIB
_FIRST_POLL_SECONDS: Final = 1.0
_LAST_POLL_SECONDS: Final = 10.0


class Client:
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
        self._pacing = Pacing(limiter=self._limiter)
        self._credential = _credential(api_key, upload_token)
        self._service = Service(self._http, self._credential, self._limiter)
        self._buffer_bytes = buffer_bytes
        self._budget = Budget(buffer_bytes)
        self._keeper: Keeper | None = None
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
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None
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
            tried again; default 30
        :param resume: go on with an interrupted upload of the same file. ``"local"``: by a journal on this
            machine, which also survives kill -9. True: also from another machine or without the journal, by two
            entries that the container's metadata carries until it is finished. Default False: nothing is
            remembered, and what fails is deleted
        :param max_latency: for a stream that is live: seconds after which a part is closed early, if it has 5 MiB
        :param on_progress: called (plain or async) with a :class:`Progress`, up to ten times a second
        :param on_video: called (plain or async) with the finished Video, once, before a journal forgets the upload:
            what it has recorded needs never be sent again, wherever a crash comes between. Its errors are raised
            as they are, and leave the video where it is
        :returns: the finished Video
        :raises ConfigurationError: an option is out of its range; nothing was sent
        :raises SourceError: the source is missing, empty, unreadable or too big; nothing was sent
        :raises ApiError: the container could not be created
        :raises TransportError: the service did not answer, before there was a container
        :raises UploadFailed: the container exists, and filling it failed; the cause is chained
        """
        return await self._upload(source, options, slots=None)

    async def _upload(
        self, source: Source, options: UploadOptions, *, slots: anyio.CapacityLimiter | None
    ) -> Video:
        transfer, payload = self._checked(options)
        opened = await self._open(source, transfer)
        try:
            plan = self._plan(opened, transfer)
            return await self._send(Job(source=opened, plan=plan, options=transfer, slots=slots), payload)
        finally:
            await opened.aclose()

    async def _send(self, job: Job, payload: dict[str, Any]) -> Video:
        source, options = job.source, job.options
        await source.prime()
        service = self._service.with_stall(options.stall_timeout)
        pacing = Pacing(limiter=self._limiter, policy=RetryPolicy(max_attempts=options.max_attempts))
        upload = Upload(
            job=job,
            payload={"title": source.name, **payload},
            service=service,
            pacing=pacing,
            resume=None,
        )
        if not (options.resume and isinstance(source, FileSource)):
            return await upload.run()
        async with self._resume(source, options, service, pacing) as resume:
            return await replace(upload, resume=resume).run()

    def _checked(self, options: UploadOptions) -> tuple[TransferOptions, dict[str, Any]]:
        transfer, payload = split_options(options)
        if self.delegated:
            _check_delegated(transfer, payload)
        return transfer, payload

    async def _open(self, source: Source, options: TransferOptions) -> OpenSource:
        path = source if isinstance(source, str | os.PathLike) else path_of(source)
        if path is not None and not await is_pipe(path, threads=self._threads):
            return await FileSource.open(path, threads=self._threads)
        return as_stream(
            source,
            budget=self._budget,
            threads=self._threads,
            max_latency_seconds=options.max_latency,
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

    def _resume(self, source: FileSource, options: TransferOptions, service: Service, pacing: Pacing) -> Resume:
        # Loaded only now: SQLite and the locks are of no use to an upload that does not resume.
        from ._resume import Keeper, Resume, account_of  # noqa: PLC0415

        self._keeper = self._keeper or Keeper()
        return Resume(
            source,
            options=options,
            account=account_of(self._credential.secret, str(self._http.base_url)),
            keeper=self._keeper,
            service=service,
            pacing=pacing,
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
            job = Job(source=source, plan=plan, options=transfer)
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

        One that fails does not stop the others: its result has the error.

        :param items: sources, or :class:`UploadItem` for such with options of their own; taken as they are needed
        :param concurrency: parts in flight at once, of all of them together, and files at once; default 16
        :returns: an async iterator of :class:`UploadResult`; use it up, or use it as a context manager
        """
        uploads = Uploads(self._upload_item, items, concurrency=concurrency or MANY_CONCURRENCY)
        self._many.add(uploads)
        return uploads

    async def _upload_item(self, item: UploadItem, slots: anyio.CapacityLimiter) -> Video:
        if item.is_url:
            return await self.import_video(cast("str", item.source), **cast("ContainerDetails", item.options))
        return await self._upload(cast("Source", item.source), item.options, slots=slots)

    async def create_video(self, **details: Unpack[ContainerDetails]) -> Video:
        """Create an empty container; ``title`` is required. See :meth:`upload` for the details.

        :raises ConfigurationError: a detail has the wrong type
        :raises ApiError: the service refused
        """
        payload = container_payload(details)
        if "title" not in payload:
            raise ConfigurationError("A video needs a title.")
        return await self._write("create", lambda: self._service.create_video(payload))

    async def import_video(self, source: str, **details: Unpack[ContainerDetails]) -> Video:
        """Have the service fetch a video from a URL, or clone one of the account's.

        :param source: an ``http(s)://`` URL, or a videoId
        :returns: the new container, at once; :meth:`wait_until_playable` follows what becomes of it
        :raises ApiError: the service refused
        """
        if not source.strip():
            raise ConfigurationError("The source to import must be a URL or a videoId, not empty.")
        title = source.partition("?")[0].rstrip("/").rpartition("/")[2] or source
        payload = {"title": title, **container_payload(details), "source": source}
        return await self._write("import", lambda: self._service.create_video(payload))

    async def update_video(self, video_id: str, **details: Unpack[ContainerDetails]) -> Video:
        """Change details of a container: those that are given.

        :raises ConfigurationError: a detail has the wrong type
        :raises ApiError: there is none (404), or the service refused otherwise
        """
        payload = container_payload(details)
        return await self._write("update", lambda: self._service.update_video(video_id, payload))

    async def get_video(self, video_id: str) -> Video:
        """A container and its details.

        :raises ApiError: there is none (404), or the service refused otherwise
        """
        return await self._read("video", lambda: self._service.get_video(video_id))

    async def get_status(self, video_id: str) -> VideoStatus:
        """What has arrived of a video, and how far its encoding is.

        :raises ApiError: there is no such video (404), or the service refused otherwise
        """
        return await self._read("status", lambda: self._service.get_status(video_id))

    async def list_videos(
        self,
        *,
        title: str | None = None,
        description: str | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
        sort_by: Literal["title", "createdAt", "publishedAt", "updatedAt"] | None = None,
        sort_order: Literal["asc", "desc"] | None = None,
        limit: int | None = None,
    ) -> list[Video]:
        """The account's videos, all pages of them.

        :param tags: only videos with all of these
        :param metadata: only videos with all of these entries
        :param limit: at most so many; default all
        :raises ApiError: the service refused
        """
        filters = {
            "title": title,
            "description": description,
            "tags[]": list(tags),
            **{f"metadata[{key}]": text for key, text in (metadata or {}).items()},
            "sortBy": sort_by,
            "sortOrder": sort_order,
        }
        query = {name: value for name, value in filters.items() if value}
        return await self._all_pages("videos", self._service.list_videos, query, limit=limit)

    async def delete_video(self, video_id: str) -> None:
        """Delete a video or container, for good.

        :raises ApiError: there is none (404), or the service refused otherwise
        """
        await self._delete("delete", lambda: self._service.delete_video(video_id))

    async def wait_until_playable(
        self, video_id: str, *, timeout: float | None = None, on_status: OnStatus | None = None
    ) -> VideoStatus:
        """Ask for the status, less and less often, until the video can be played.

        :param timeout: seconds; default: no limit
        :param on_status: called (plain or async) with each status that was not the same before
        :returns: the last status
        :raises UploaderError: every encoding failed, or the time is up
        :raises ApiError: there is no such video (404), or the service refused otherwise
        """
        pause_seconds = _FIRST_POLL_SECONDS
        told: VideoStatus | None = None
        with anyio.move_on_after(timeout):
            while True:
                status = await self.get_status(video_id)
                if on_status is not None and status != told:
                    answer, told = on_status(status), status
                    if isawaitable(answer):
                        await answer
                if status.encoding.playable:
                    return status
                states = {quality.status for quality in status.encoding.qualities}
                if states == {"failed"}:
                    raise UploaderError(f"Video {video_id} cannot be played: all of its encodings failed.")
                await anyio.sleep(pause_seconds)
                pause_seconds = min(pause_seconds * 1.5, _LAST_POLL_SECONDS)
        raise UploaderError(f"Video {video_id} was not playable within {timeout:g} s.")

    async def create_upload_token(self, *, ttl_seconds: int = 0) -> UploadToken:
        """Make a token that lets its bearer upload, and nothing else.

        :param ttl_seconds: how long it lives; 0 (the default) = for ever
        :raises ConfigurationError: ``ttl_seconds`` is out of its range
        :raises ApiError: the service refused
        """
        if not 0 <= ttl_seconds <= MAX_UPLOAD_TOKEN_TTL_SECONDS:
            raise ConfigurationError(
                f"ttl_seconds must be from 0 (for ever) to {MAX_UPLOAD_TOKEN_TTL_SECONDS:,}, not {ttl_seconds!r}."
            )
        return await self._write("token", lambda: self._service.create_upload_token(ttl_seconds))

    async def list_upload_tokens(self, *, limit: int | None = None) -> list[UploadToken]:
        """The account's upload tokens.

        :param limit: at most so many; default all
        :raises ApiError: the service refused
        """
        return await self._all_pages("tokens", self._service.list_upload_tokens, {}, limit=limit)

    async def get_upload_token(self, token: str) -> UploadToken:
        """What is known of a token.

        :raises ApiError: there is none (404), or the service refused otherwise
        """
        return await self._read("token", lambda: self._service.get_upload_token(token))

    async def delete_upload_token(self, token: str) -> None:
        """Revoke a token.

        :raises ApiError: there is none (404), or the service refused otherwise
        """
        await self._delete("token", lambda: self._service.delete_upload_token(token))

    async def _read(self, what: str, request: Callable[[], Awaitable[T]]) -> T:
        return await self._pacing.run(Kind.READ, request, what=what)

    async def _write(self, what: str, request: Callable[[], Awaitable[T]]) -> T:
        return await self._pacing.run(Kind.WRITE, request, what=what)

    async def _delete(self, what: str, request: Callable[[], Awaitable[None]]) -> None:
        tried = False

        async def once() -> None:
            nonlocal tried
            try:
                await request()
            except ApiError as exc:
                # Gone on a second try: the first had worked, only its answer was lost.
                if not (tried and exc.status == 404):
                    raise
            finally:
                tried = True

        await self._write(what, once)

    async def _all_pages(
        self,
        what: str,
        get_page: Callable[[Mapping[str, str | list[str]]], Awaitable[tuple[list[M], int]]],
        query: Mapping[str, str | list[str]],
        *,
        limit: int | None,
    ) -> list[M]:
        found: list[M] = []
        page, pages = 0, 1
        while page < pages and (limit is None or len(found) < limit):
            page += 1
            paged = {**query, "currentPage": str(page), "pageSize": str(MAX_PAGE_SIZE)}
            items, pages = await self._read(what, partial(get_page, paged))
            found += items
        return found[:limit]


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


def _credential(api_key: str | None, upload_token: str | None) -> ApiKey | DelegatedToken:
    if api_key is not None and upload_token is not None:
        raise ConfigurationError("Give an API key or an upload token, not both.")
    if "" in (api_key, upload_token):
        raise ConfigurationError("The credential that was given is empty; the environment is not asked then.")
    if api_key is None and upload_token is None:
        api_key = os.environ.get("APIVIDEO_API_KEY")
        upload_token = None if api_key else os.environ.get("APIVIDEO_UPLOAD_TOKEN")
    for secret, kind in ((api_key, ApiKey), (upload_token, DelegatedToken)):
        if secret:
            if not secret.isascii() or not secret.isprintable() or " " in secret:
                raise ConfigurationError("The credential contains characters that none has; copy it again.")
            return kind(secret=secret)
    raise ConfigurationError(
        "No credentials: set APIVIDEO_API_KEY (or APIVIDEO_UPLOAD_TOKEN), or give api_key or upload_token."
    )


def _check_delegated(options: TransferOptions, payload: Mapping[str, Any]) -> None:
    """An upload token cannot say anything about the container: do not pretend that it can."""
    named = sorted(payload)
    if named:
        raise ConfigurationError(
            f"An upload token cannot set {', '.join(named)}: its videos are named after the file. Use an API key."
        )
    if options.video_id is not None:
        raise ConfigurationError("An upload token makes its own video; video_id needs an API key.")
