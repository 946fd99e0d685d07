"""Receives the body of a large response directly into one buffer.

Problem
    aiohttp copies the bytes of each TLS record several times, and wakes the reading task whenever some arrive.
    That is a fifth of the CPU time of an upload from the web.

Approach
    Once aiohttp has parsed the head of the response, the connection gets a protocol whose buffer the event loop
    fills directly. The reader wakes up when the buffer is full. At the end of the body, aiohttp gets the
    connection back, and reuses it.

Rejected
    - Another HTTP client: redirects, proxies, TLS and errors would differ from those of the uploads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

import aiohttp

from async_uploader._buffers import page_aligned_buffer
from async_uploader._limits import KIB

# As large as the blocks in which the bytes are sent.
_BUFFER_BYTES: Final = 256 * KIB
# The reader gets what has arrived after this time, so that a slow source does not look like a stalled one.
_MAX_DELAY_SECONDS: Final = 0.2


class BodyReceiver(asyncio.BufferedProtocol):
    """Receives the rest of a body. aiohttp's protocol is told when the connection is lost.

    :param remaining_bytes: bytes of the body that have not arrived yet
    """

    def __init__(self, transport: asyncio.Transport, protocol: asyncio.BaseProtocol, remaining_bytes: int) -> None:
        self._transport = transport
        self._protocol = protocol
        self._remaining_bytes = remaining_bytes
        self._buffer = page_aligned_buffer(_BUFFER_BYTES)
        self._filled = 0
        self._is_paused = False
        self._is_lost = False
        self._is_late = False
        self._waiter: asyncio.Future[None] | None = None
        transport.set_protocol(self)

    def detach(self) -> None:
        """Give the connection back to aiohttp."""
        if self._transport.get_protocol() is self:
            self._transport.set_protocol(self._protocol)
        self._resume()

    def _resume(self) -> None:
        if self._is_paused and not (self._is_lost or self._transport.is_closing()):
            self._transport.resume_reading()
        self._is_paused = False

    @property
    def is_complete(self) -> bool:
        """Whether the whole body has arrived."""
        return not self._remaining_bytes

    async def receive(self) -> memoryview:
        """Wait until the buffer is full, the body is complete, or bytes have arrived and time has passed.

        :returns: what has arrived. It is valid until the next call; empty if the connection was lost
        """
        self._filled, self._is_late = 0, False
        self._resume()
        if not self._is_lost:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(_MAX_DELAY_SECONDS, self._on_late)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        self._pause()
        return self._buffer[: self._filled]

    def _on_late(self) -> None:
        self._is_late = True
        if self._filled:
            self._wake()

    def _pause(self) -> None:
        """Stop filling the buffer, which the reader is about to use."""
        if not (self._is_paused or self._is_lost or self.is_complete or self._transport.is_closing()):
            self._is_paused = True
            self._transport.pause_reading()

    def _wake(self) -> None:
        self._pause()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def get_buffer(self, _size_hint: int) -> memoryview:
        """See :class:`asyncio.BufferedProtocol`."""
        return self._buffer[self._filled : self._filled + self._remaining_bytes]

    def buffer_updated(self, count_bytes: int) -> None:
        """See :class:`asyncio.BufferedProtocol`."""
        self._filled += count_bytes
        self._remaining_bytes -= count_bytes
        if self.is_complete:
            # At once: what follows is for aiohttp, such as the end of the connection.
            self.detach()
        if self.is_complete or self._is_late or self._filled == len(self._buffer):
            self._wake()

    def eof_received(self) -> None:
        """The server closes the connection early."""

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.BaseProtocol`."""
        self._is_lost = True
        self._protocol.connection_lost(exc)
        self._wake()


async def receive_body(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes | memoryview, None]:
    """The body of a response, in chunks. Each one is valid until the next one is requested.

    :raises aiohttp.ClientError: the connection was lost
    """
    size_bytes, content = response.content_length, response.content
    yield await content.readany()
    while chunk := content.read_nowait():
        yield chunk
    connection = response.connection
    if connection is None or connection.transport is None or size_bytes is None or _is_chunked(response):
        async for chunk in content.iter_any():
            yield chunk
        return
    assert connection.protocol is not None
    receiver = BodyReceiver(connection.transport, connection.protocol, size_bytes - content.total_bytes)
    try:
        while not receiver.is_complete:
            received = await receiver.receive()
            if not received:
                raise aiohttp.ServerDisconnectedError
            if receiver.is_complete:
                content.feed_eof()  # aiohttp may reuse the connection
            yield received
    finally:
        receiver.detach()


def _is_chunked(response: aiohttp.ClientResponse) -> bool:
    return "Transfer-Encoding" in response.headers
