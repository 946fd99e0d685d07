"""The emulator's face: its life, and what tests and benchmarks may ask it."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
from aiohttp.http import HttpProcessingError

from ._config import Config
from ._connections import Connections, spare_descriptors
from ._imports import resume
from ._records import Ledger, RequestRecord, Statistics
from ._room import Shortage
from ._scratch import unwatch_signals, watch_signals
from ._server import Server
from ._store import Store, Video
from ._throttle import listen, read_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
    from os import PathLike
    from types import TracebackType

    from ._faults import Fault

_CLOSE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoView:
    """A container as it is at one moment.

    `state` is "empty", "uploading", "uploaded" (all there, being joined), "finished" (one file with a known
    SHA-256), "importing" or "failed" (an import that will not come, or a source that could not be joined).
    `pieces` are the Content-Ranges received, in the file's order. `source_path`, `sha256` and `size_bytes` are
    None until finished.
    """

    video_id: str
    title: str
    state: str
    source_path: Path | None
    sha256: str | None
    size_bytes: int | None
    pieces: tuple[str, ...]
    received_bytes: int


class Emulator:
    """A local api.video: `async with Emulator() as emulator:` and talk to `emulator.url`; each is entered once.

    The options are those of the command `emulator`; `Config` says what each means. `data` None keeps everything in
    a temporary directory that is removed at the end, also if the process ends by an exception, SIGTERM or SIGHUP;
    after SIGKILL the next emulator removes it. For that, an emulator that is entered in the main thread handles
    those two signals where the program does not, until it closes.

    :raises ValueError: for an impossible option, in one plain sentence.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        data: str | PathLike[str] | None = None,
        api_key: str = "local-key",
        rate_limit: int | None = None,
        rate_window: float = 60.0,
        connection_rate: float | None = None,
        link_rate: float | None = None,
        latency: float = 0.0,
        token_ttl: float = 3600,
        faults: Iterable[Fault] = (),
        allowed_hosts: Iterable[str] = (),
    ) -> None:
        self._config = Config(
            host=host,
            port=port,
            data=None if data is None else Path(data),
            api_key=api_key,
            rate_limit=rate_limit,
            rate_window=rate_window,
            connection_rate=connection_rate,
            link_rate=link_rate,
            latency=latency,
            token_ttl=token_ttl,
            faults=tuple(faults),
            allowed_hosts=tuple(allowed_hosts),
        )
        self._ledger = Ledger()
        self._store = Store(self._config.data, self._ledger.bell.ring)
        self._url = ""
        self._is_open = False

    def __repr__(self) -> str:
        return f"<Emulator {self._url or 'not started'}: {len(self._store.videos)} videos>"

    async def __aenter__(self) -> Self:
        config = self._config
        listener = listen(config.host, config.port, bytes_per_second=config.line_rate)
        watch_signals()
        try:
            await self._store.open()
            self._url = _url_of(*listener.getsockname()[:2])
            self._server = Server(config, self._store, self._ledger, self._url)
            self._protocols = Connections(
                self._server,
                most=await self._store.ask(spare_descriptors),
                handler_cancellation=True,  # a stalled request ends when its client goes away
                access_log=None,
                logger=_http_logger(),
                lingering_time=0,  # `Exchange.linger` does it, and counts
                auto_decompress=False,
                read_bufsize=read_bytes(config.line_rate),
            )
            self._is_open = True
            self._protocols.start(listener)
            await resume(self._store)
        except BaseException:
            try:
                await self._end()
            finally:
                listener.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        """Close as far as it was opened. A cancellation waits for that; what ends the loop does not."""
        try:
            await _to_the_end(self._close())
        finally:
            self._store.abandon()
            unwatch_signals()

    async def _close(self) -> None:
        if self._is_open:
            await self._protocols.stop()
            await self._server.stop()
            self._protocols.pre_shutdown()
            await self._protocols.shutdown(_CLOSE_SECONDS)
        await self._store.close()
        await asyncio.sleep(0)  # closed transports give their sockets back in the loop's next round

    @property
    def url(self) -> str:
        """`http://HOST:PORT`: the base URL for clients, a page for browsers."""
        return self._url

    # What is there

    @property
    def videos(self) -> Mapping[str, VideoView]:
        """All containers by id, as they are now."""
        return _Views(self._store.videos)

    def source_path(self, video_id: str) -> Path | None:
        """The finished source's file; None until it is finished."""
        return self.videos[video_id].source_path

    def sha256(self, video_id: str) -> str | None:
        """The finished source's SHA-256 in hexadecimal; None until it is finished."""
        return self.videos[video_id].sha256

    @property
    def requests(self) -> Sequence[RequestRecord]:
        """The requests that have ended, oldest first; the latest 50,000."""
        return tuple(self._ledger.records)

    @property
    def shortage(self) -> Shortage | None:
        """Why something could not be kept, the last time that the disk was full; None if it never was."""
        return self._store.shortage

    def statistics(self) -> Statistics:
        return self._ledger.statistics(self._server.credentials.live_count(time.time()))

    # Waiting

    async def wait_for(self, predicate: Callable[[Emulator], object], *, timeout: float | None = 30.0) -> None:
        """Return once the predicate holds; it is asked again whenever something has changed.

        :raises TimeoutError: if it does not hold within `timeout` seconds.
        """
        async with asyncio.timeout(timeout):
            await self._ledger.bell.wait_until(lambda: predicate(self))

    async def finished(self, video_id: str, *, timeout: float | None = 30.0) -> VideoView:
        """The video once its source is one file with a known SHA-256, which is a moment after the last answer.

        :raises TimeoutError: it is not finished within `timeout` seconds
        :raises OSError: all of it has arrived, but cannot be joined; the reason says why
        """
        videos = self._store.videos
        await self.wait_for(
            lambda emulator: emulator.videos[video_id].state == "finished" or videos[video_id].cannot_be_joined,
            timeout=timeout,
        )
        video = videos[video_id]
        if (error := video.join_error) is not None:
            raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(video.source.path))
        return self.videos[video_id]

    # Meddling

    def add_fault(self, fault: Fault) -> None:
        self._server.faults.add(fault)

    def clear_faults(self) -> None:
        self._server.faults.clear()

    def expire_tokens(self) -> None:
        """Every access token is expired from now on; refresh tokens still work."""
        self._server.credentials.expire_access_tokens()

    def revoke_refresh_tokens(self) -> None:
        """No refresh token works any more; access tokens live on."""
        self._server.credentials.revoke_refresh_tokens()


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await work that no cancellation may break off; a cancellation is raised after it.

    :raises asyncio.CancelledError: the caller was cancelled meanwhile
    """
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):  # anyio's cancellation would come again at every await
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled
    await task


class _Views(Mapping[str, VideoView]):
    """Makes a view when it is asked for: there may be ten thousand videos."""

    def __init__(self, videos: Mapping[str, Video]) -> None:
        self._videos = videos

    def __getitem__(self, video_id: str) -> VideoView:
        return _view(self._videos[video_id])

    def __iter__(self) -> Iterator[str]:
        return iter(self._videos)

    def __len__(self) -> int:
        return len(self._videos)


def _view(video: Video) -> VideoView:
    container = video.container
    return VideoView(
        video_id=container.video_id,
        title=str(container.details.get("title", "")),
        state=video.state,
        source_path=video.source.path if video.is_finished else None,
        sha256=container.sha256,
        size_bytes=container.size_bytes,
        pieces=tuple(str(piece.range) for piece in video.upload.landed()),
        received_bytes=video.upload.landed_bytes,
    )


def _url_of(host: str, port: int) -> str:
    """Where clients on this machine find the socket: an address for all interfaces is none to call."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _http_logger() -> logging.Logger:
    """aiohttp's errors, without those that a client makes: what is no HTTP is answered 400, not logged."""
    logger = logging.getLogger("async_uploader.emulator.http")
    if not logger.filters:
        logger.addFilter(
            lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
        )
    return logger
