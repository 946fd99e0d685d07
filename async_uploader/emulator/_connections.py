"""Connections: accepted one at a time, and never more than the process has file descriptors for.

asyncio's own server accepts a hundred at once; when descriptors run out it logs a traceback and accepts nothing
for a second. Here a few are kept for files. A connection that would take one of those takes the place of the one
that has been idle for longest, which includes those that have not sent a whole request head. If all are busy, it
is refused with 503.
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

from ._problems import Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.web_protocol import RequestHandler

#: More wait in the kernel than any test opens at once; the kernel has a bound of its own.
_BACKLOG: Final = 4096
#: Descriptors for what is no connection: the executors' files, thumbnails, downloads.
_KEPT_DESCRIPTORS: Final = 24
#: Where not even these are left, accepting fails, and is tried again.
_FEWEST_DESCRIPTORS: Final = 8
#: Where the limit is infinite, there is a table of descriptors to pay for.
_MOST_DESCRIPTORS: Final = 1 << 17
_NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
#: How long accepting waits for a descriptor, if no connection ends before.
_RETRY_SECONDS: Final = 0.1
#: Once the descriptors in use were as few as this, the log tells again when they run out.
_ROOMY_SHARE: Final = 0.8
logger = logging.getLogger("async_uploader.emulator")


class Connections(web.Server):
    """aiohttp's server over a listening socket of ours.

    :param most: how many descriptors connections and their files may take, see `spare_descriptors`
    :param options: those of `aiohttp.web.Server`
    """

    def __init__(
        self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], *, most: int, **options: Any
    ) -> None:
        super().__init__(self._handle, **options)
        self._handler = handler
        self._idle: OrderedDict[RequestHandler, None] = OrderedDict()  # the longest idle first
        self._busy = 0
        self._most = most
        self._said: set[str] = set()
        self._freed = asyncio.Event()
        self._accepting: asyncio.Task[None] | None = None

    def start(self, listener: socket.socket) -> None:
        """Accept connections from a bound socket until `stop`, which closes it."""
        listener.listen(_BACKLOG)
        listener.setblocking(False)  # noqa: FBT003
        self._accepting = asyncio.get_running_loop().create_task(self._accept_all(listener))

    async def stop(self) -> None:
        """Accept no more; those that there are stay."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])

    # What is open

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
            if self._is_full:  # its file takes a descriptor, too
                self._evict()
            return await self._handler(request)
        finally:
            self._busy -= 1
            self._freed.set()
            if connection.transport is not None:
                self._idle[connection] = None

    @property
    def _count(self) -> int:
        """The descriptors in use; a busy connection counts twice, for its file."""
        return len(self._idle) + 2 * self._busy

    @property
    def _is_full(self) -> bool:
        """Whether another connection could take the last descriptors."""
        return self._count >= self._most

    # Accepting

    async def _accept_all(self, listener: socket.socket) -> None:
        with listener:
            while True:
                try:
                    await self._accept(listener)
                except OSError as error:
                    if error.errno in _NO_DESCRIPTORS:
                        self._say("A connection cannot be accepted", error.strerror or "no descriptors")
                        self._evict()
                        await self._wait()
                    # Anything else is the end of that one connection.

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        accepted, _ = await loop.sock_accept(listener)
        try:
            if not self._is_full:
                if self._count < self._most * _ROOMY_SHARE:
                    self._said.clear()
            elif not self._evict():
                self._say("A connection is refused", "all others are busy")
                _refuse(accepted)
                return
            await loop.connect_accepted_socket(self, accepted)
        except BaseException:
            accepted.close()
            raise

    def _evict(self) -> bool:
        """Close the connection that has been idle for longest; False if there is none."""
        if not self._idle:
            return False
        self._say("The longest idle connection is closed", "a new one takes its place")
        connection, _ = self._idle.popitem(last=False)
        if connection.transport is not None:
            connection.transport.abort()
        return True

    async def _wait(self) -> None:
        self._freed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_RETRY_SECONDS):
                await self._freed.wait()

    def _say(self, what: str, why: str) -> None:
        """Say it once, until there is room again."""
        if what not in self._said:
            self._said.add(what)
            count = len(self._idle) + self._busy
            logger.warning(
                "%s: %s. %d connections are open; raise the limit of file descriptors (ulimit -n) for more.",
                what,
                why,
                count,
            )


def _refuse(accepted: socket.socket) -> None:
    """Answer 503, as far as that goes without waiting."""
    problem = Problem("service-unavailable", detail="The emulator has no file descriptors for another connection.")
    body = msgspec.json.encode(problem.body())
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    )
    with accepted, suppress(OSError):
        accepted.send(head.encode() + body)
        accepted.shutdown(socket.SHUT_WR)
        accepted.recv(1 << 16)  # unread bytes would make closing a reset, which may overtake the answer


def spare_descriptors() -> int:
    """How many descriptors this process has for connections."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _MOST_DESCRIPTORS if limit == resource.RLIM_INFINITY else min(limit, _MOST_DESCRIPTORS)
    return max(limit - _open_descriptors() - _KEPT_DESCRIPTORS, _FEWEST_DESCRIPTORS)


def _open_descriptors() -> int:
    for directory in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            return len(os.listdir(directory))
    return 0
