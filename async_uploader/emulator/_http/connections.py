"""Accepts connections, one at a time and never more than the process has file descriptors for.

asyncio's own server accepts a hundred connections at once; without free descriptors, it logs a traceback and
accepts nothing for a second. This server keeps some descriptors for files. A connection that would take one of
these replaces the connection that has been idle longest or has not sent a complete request header. If all
connections are busy, the new one is refused with 503.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import socket
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web

from async_uploader.emulator._problems import Problem

from .tls import HANDSHAKE_SECONDS

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from aiohttp.web_protocol import RequestHandler

#: Connections that wait in the kernel: more than any test opens at once. The kernel has its own limit.
_BACKLOG: Final = 4096
#: Descriptors for everything but connections: the executors' files, thumbnails, downloads.
_KEPT_DESCRIPTORS: Final = 24
#: The lowest limit on connections. If fewer descriptors are free, accepting fails and is retried.
_MIN_DESCRIPTORS: Final = 8
#: The highest limit on connections: the kernel's table of descriptors costs memory.
_MAX_DESCRIPTORS: Final = 1 << 17
_NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
#: How long accepting waits for a descriptor if no connection ends earlier.
_RETRY_SECONDS: Final = 0.1
#: When the share of used descriptors falls below this, the next lack of them is logged again.
_RELAXED_SHARE: Final = 0.8
logger = logging.getLogger("async_uploader.emulator")


class Connections(web.Server):
    """aiohttp's server on our own listening socket.

    :param max_descriptors: the most descriptors for connections and their files, see `available_descriptors`
    :param options: options of `aiohttp.web.Server`
    """

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        max_descriptors: int,
        **options: Any,
    ) -> None:
        super().__init__(self._handle, **options)
        self._handler = handler
        self._idle: OrderedDict[RequestHandler, None] = OrderedDict()  # the one idle longest is first
        self._busy = 0
        self._max_descriptors = max_descriptors
        self._logged: set[str] = set()
        self._freed = asyncio.Event()
        self._accepting: asyncio.Task[None] | None = None
        self._tls: ssl.SSLContext | None = None
        self._handshakes: set[asyncio.Task[None]] = set()

    def start(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Accept connections on a bound socket, with TLS if there is a context. `stop` closes it."""
        self._tls = tls
        listener.listen(_BACKLOG)
        listener.setblocking(False)  # noqa: FBT003
        self._accepting = asyncio.get_running_loop().create_task(self._accept_all(listener))

    async def stop(self) -> None:
        """Stop accepting. Open connections stay open."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
        for task in self._handshakes:
            task.cancel()
        if self._handshakes:
            await asyncio.wait(self._handshakes)

    # Open connections

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._idle[handler] = None

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._idle.pop(handler, None)
        self._freed.set()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        self._idle.pop(connection, None)
        self._busy += 1
        try:
            if self._is_full:  # the request's file needs a descriptor, too
                self._evict()
            return await self._handler(request)
        finally:
            self._busy -= 1
            self._freed.set()
            if connection.transport is not None:
                self._idle[connection] = None

    @property
    def _count(self) -> int:
        """The descriptors in use. A busy connection counts twice, because of its file."""
        return len(self._idle) + len(self._handshakes) + 2 * self._busy

    @property
    def _is_full(self) -> bool:
        """Whether another connection could exceed the limit."""
        return self._count >= self._max_descriptors

    # Accepting

    async def _accept_all(self, listener: socket.socket) -> None:
        with listener:
            while True:
                try:
                    await self._accept(listener)
                except OSError as error:
                    if error.errno in _NO_DESCRIPTORS:
                        self._log_once("Cannot accept a connection", error.strerror or "no descriptors")
                        self._evict()
                        await self._wait()
                    # Any other error ends only that connection.

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        accepted, _ = await loop.sock_accept(listener)
        try:
            if not self._is_full:
                if self._count < self._max_descriptors * _RELAXED_SHARE:
                    self._logged.clear()
            elif not self._evict():
                self._log_once("Refused a connection", "all others are busy")
                _refuse(accepted)
                return
            if self._tls is None:
                await loop.connect_accepted_socket(self, accepted)
            else:  # a client may take long for its handshake
                task = loop.create_task(self._shake_hands(accepted, self._tls))
                self._handshakes.add(task)
                task.add_done_callback(self._handshakes.discard)
        except BaseException:
            accepted.close()
            raise

    async def _shake_hands(self, accepted: socket.socket, tls: ssl.SSLContext) -> None:
        with suppress(OSError, asyncio.CancelledError):  # a failed handshake ends only that connection
            await asyncio.get_running_loop().connect_accepted_socket(
                self, accepted, ssl=tls, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
            return
        accepted.close()

    def _evict(self) -> bool:
        """Close the connection that has been idle longest; False if none is idle."""
        if not self._idle:
            return False
        self._log_once("Closed the connection that was idle longest", "a new one replaces it")
        connection, _ = self._idle.popitem(last=False)
        if connection.transport is not None:
            connection.transport.abort()
        return True

    async def _wait(self) -> None:
        self._freed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_RETRY_SECONDS):
                await self._freed.wait()

    def _log_once(self, event: str, reason: str) -> None:
        """Log an event, once until enough descriptors are free again."""
        if event not in self._logged:
            self._logged.add(event)
            count = len(self._idle) + self._busy
            logger.warning(
                "%s: %s. %d connections are open; raise the limit of file descriptors (ulimit -n) for more.",
                event,
                reason,
                count,
            )


def _refuse(accepted: socket.socket) -> None:
    """Respond with 503 as far as possible without waiting."""
    problem = Problem("service-unavailable", detail="The emulator has no file descriptors for another connection.")
    body = msgspec.json.encode(problem.body())
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    )
    with accepted, suppress(OSError):
        accepted.send(head.encode() + body)
        accepted.shutdown(socket.SHUT_WR)
        accepted.recv(1 << 16)  # closing with unread bytes sends a reset, which may overtake the response


def available_descriptors() -> int:
    """How many descriptors this process can use for connections."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _MAX_DESCRIPTORS if limit == resource.RLIM_INFINITY else min(limit, _MAX_DESCRIPTORS)
    return max(limit - _open_descriptors() - _KEPT_DESCRIPTORS, _MIN_DESCRIPTORS)


def _open_descriptors() -> int:
    for directory in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            return len(os.listdir(directory))
    return 0
