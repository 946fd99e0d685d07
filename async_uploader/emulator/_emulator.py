"""The public class: starts and stops an emulator, and shows its state."""

from __future__ import annotations

import asyncio
import errno
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, Unpack

import anyio
from aiohttp.http import HttpProcessingError

from ._access_log import AccessLog
from ._api.imports import resume_imports
from ._clock import Clock
from ._config import Config, EmulatorOptions
from ._http.connections import Connections, available_descriptors
from ._http.throttle import bind, read_bytes
from ._http.tls import create_context
from ._records import RequestLog, RequestRecord, Statistics
from ._server import Server
from ._storage.disk_space import Shortage
from ._storage.store import Store
from ._storage.temporary_directory import unwatch_signals, watch_signals
from ._video_view import VideoView, VideoViews
from ._webhook_sender import WebhookSender

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from types import TracebackType

    from ._faults import Fault
    from ._webhook_sender import Delivery

_CLOSE_SECONDS: Final = 2.0
#: The name of `Emulator.ca_file`.
CA_FILE: Final = "ca.pem"


class Emulator:
    """A local api.video. Use `async with Emulator() as emulator:` and send requests to `emulator.url`.

    An emulator can be entered once. `EmulatorOptions` describes the options. Without `data`, a temporary directory
    is used. It is removed at the end, also if the process ends by an exception, SIGTERM or SIGHUP; after SIGKILL,
    the next emulator removes it. For this, an emulator that is entered in the main thread handles SIGTERM and
    SIGHUP until it closes, unless the program handles them.

    :raises ValueError: an option is impossible; the message is one sentence
    :raises TypeError: an option is unknown
    """

    def __init__(self, **options: Unpack[EmulatorOptions]) -> None:
        self._config = Config.of(options)
        self._log = RequestLog(AccessLog(self._config.api_key).write)
        self._clock = Clock()
        self._webhooks = WebhookSender(self._log.notifier.notify)
        self._store = Store(
            self._config.data,
            self._clock,
            self._log.notifier.notify,
            lambda video: self._webhooks.video_finished(self._store, video),
        )
        self._url = ""
        self._is_open = False

    def __repr__(self) -> str:
        return f"<Emulator {self._url or 'not started'}: {len(self._store.videos)} videos>"

    async def __aenter__(self) -> Self:
        config = self._config
        listener = bind(config.host, config.port, bytes_per_second=config.max_rate)
        watch_signals()
        try:
            await self._store.open()
            context = await self._create_tls_context()
            self._url = _url_of("http" if context is None else "https", *listener.getsockname()[:2])
            self._server = Server(config, self._store, self._log, self._webhooks, url=self._url)
            self._connections = Connections(
                self._server,
                max_descriptors=await self._store.workers.run_small(available_descriptors),
                handler_cancellation=True,  # a stalled request ends when its client disconnects
                access_log=None,
                logger=_http_logger(),
                lingering_time=0,  # `Exchange.drain` replaces it, and counts the bytes
                auto_decompress=False,
                read_bufsize=read_bytes(config.max_rate),
            )
            self._is_open = True
            self._connections.start(listener, context)
            await resume_imports(self._store)
        except BaseException:
            try:
                await self._shut_down()
            finally:
                listener.close()
            raise
        return self

    async def _create_tls_context(self) -> ssl.SSLContext | None:
        if (ca_file := self.ca_file) is None:
            return None
        hosts = (self._config.host, *self._config.allowed_hosts)
        return await self._store.workers.run_small(create_context, ca_file, hosts)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._shut_down()

    async def _shut_down(self) -> None:
        """Close everything that was opened. A cancellation waits for this; `KeyboardInterrupt` does not."""
        try:
            await _run_uncancelled(self._close())
        finally:
            self._store.abandon()
            unwatch_signals()

    async def _close(self) -> None:
        if self._is_open:
            await self._connections.stop()
            await self._server.stop()
            self._connections.pre_shutdown()
            await self._connections.shutdown(_CLOSE_SECONDS)
        await self._store.close()
        await asyncio.sleep(0)  # transports close their sockets in the next iteration of the loop

    @property
    def url(self) -> str:
        """`http://HOST:PORT`, or `https://` with TLS: the base URL for clients, and the web page for browsers."""
        return self._url

    @property
    def ca_file(self) -> Path | None:
        """The certificate authority that clients must trust, for example with `SSL_CERT_FILE`; None without TLS.

        The file is in the data directory, and is replaced at each start.
        """
        return self._store.directory.root.absolute() / CA_FILE if self._config.tls else None

    # State

    @property
    def videos(self) -> Mapping[str, VideoView]:
        """All current containers by id."""
        return VideoViews(self._store.videos)

    def source_path(self, video_id: str) -> Path | None:
        """The file of the finished source; None until it is finished."""
        return self.videos[video_id].source_path

    def sha256(self, video_id: str) -> str | None:
        """The SHA-256 of the finished source in hexadecimal; None until it is finished."""
        return self.videos[video_id].sha256

    @property
    def requests(self) -> Sequence[RequestRecord]:
        """The requests that have ended, oldest first: at most the latest 50,000."""
        return tuple(self._log.records)

    @property
    def shortage(self) -> Shortage | None:
        """The most recent lack of disk space; None if the disk was never full."""
        return self._store.shortages.latest

    @property
    def deliveries(self) -> Sequence[Delivery]:
        """The attempts to deliver events to webhooks, oldest first: at most the latest 1,000."""
        return tuple(self._webhooks.deliveries)

    def statistics(self) -> Statistics:
        """Counters of all requests since the start."""
        return self._log.statistics(self._server.credentials.live_count(self._clock.now()))

    # Waiting

    async def wait_for(self, predicate: Callable[[Emulator], object], *, timeout: float | None = 30.0) -> None:
        """Wait until the predicate holds. It is evaluated after every change of the state.

        :param timeout: seconds to wait (default: 30); None waits for ever
        :raises TimeoutError: the predicate does not hold in time
        """
        async with asyncio.timeout(timeout):
            await self._log.notifier.wait_until(lambda: predicate(self))

    async def finished(self, video_id: str, *, timeout: float | None = 30.0) -> VideoView:
        """Wait until the source is one file with a known SHA-256, shortly after the last response.

        :param timeout: seconds to wait (default: 30); None waits for ever
        :raises KeyError: there is no such video
        :raises TimeoutError: the video is not finished in time
        :raises OSError: all parts were received, but cannot be joined
        """
        videos = self._store.videos
        await self.wait_for(
            lambda emulator: emulator.videos[video_id].state == "finished" or videos[video_id].is_unjoinable,
            timeout=timeout,
        )
        video = videos[video_id]
        if (error := video.join_error) is not None:
            raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(video.source.path))
        return self.videos[video_id]

    # Control

    def add_fault(self, fault: Fault) -> None:
        """Inject a fault into future requests."""
        self._server.faults.add(fault)

    def clear_faults(self) -> None:
        """Remove all faults."""
        self._server.faults.clear()

    async def reset(self) -> None:
        """Forget videos, tokens, webhooks, faults, requests and rate-limit windows. Requests in flight are cut."""
        await self._server.reset()

    async def advance_clock(self, seconds: float) -> None:
        """Move the clock forwards. Tokens expire, and so do containers that were not filled within seven days.

        :raises ValueError: the number is negative or not finite
        """
        self._clock.advance(seconds)
        await self._store.delete_expired()
        self._log.notifier.notify()

    def expire_tokens(self) -> None:
        """Expire all access tokens. Refresh tokens remain valid."""
        self._server.credentials.expire_access_tokens()

    def revoke_refresh_tokens(self) -> None:
        """Revoke all refresh tokens. Access tokens remain valid."""
        self._server.credentials.revoke_refresh_tokens()


async def _run_uncancelled(work: Coroutine[Any, Any, None]) -> None:
    """Await work to its end, even if the caller is cancelled.

    :raises asyncio.CancelledError: after the work, if the caller was cancelled
    """
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):  # anyio repeats a cancellation at every await
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled
    await task


def _url_of(scheme: str, host: str, port: int) -> str:
    """The URL for clients on this machine. They cannot connect to an address that stands for all interfaces."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _http_logger() -> logging.Logger:
    """A logger for aiohttp that drops errors of clients: malformed HTTP gets status 400 and is not logged."""
    logger = logging.getLogger("async_uploader.emulator.http")
    if not logger.filters:
        logger.addFilter(
            lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
        )
    return logger
