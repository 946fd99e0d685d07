"""The multipart body of a part: one file field of known length, read while it is sent.

Problem
    Send parts of up to 200 MiB without holding them in memory and without chunked transfer coding.

Approach
    Read one block into a buffer, write it, and reuse the buffer as soon as the transport no longer needs it. This
    is checked for every block, because event loops differ: asyncio 3.11 copies the bytes that it could not send,
    later versions and uvloop keep a view of the buffer.

Rejected
    - ``aiohttp.FormData``: holds the whole part.
    - An async generator: makes aiohttp use chunked transfer coding.
    - New ``bytes`` for every block: 20 times the page faults.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Final

from aiohttp import payload

from async_uploader._buffers import page_aligned_buffer
from async_uploader._counter import Counter
from async_uploader._errors import UploaderError
from async_uploader._flow.bandwidth import Bandwidth
from async_uploader._flow.tcp_info import tcp_info
from async_uploader._limits import KIB, MIB
from async_uploader._sources.protocol import Reader
from async_uploader.events import Bound

from .part_request import PartObserver

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

# Below 1 MiB, switching to a reading thread costs more than the read; above, only memory grows. With many parts in
# flight these switches overlap, and small blocks save memory and the time in which encryption blocks the event
# loop.
BLOCK_BYTES: Final = MIB
SMALL_BLOCK_BYTES: Final = 256 * KIB
_MANY_PARTS: Final = 8
# Bytes to encrypt at once. OpenSSL and its output buffer hold two more copies; smaller writes cost CPU time.
_ENCRYPTED_AT_ONCE_BYTES: Final = 512 * KIB
# A shorter pause hardly lowers the throughput of a connection.
_SHORT_PAUSE_SECONDS: Final = 0.5


class BlockPool:
    """Free blocks for all parts of a client. Peak memory: one block per part in flight."""

    def __init__(self) -> None:
        self._free: dict[int, list[memoryview]] = {BLOCK_BYTES: [], SMALL_BLOCK_BYTES: []}
        self._parts = Counter()

    def part(self) -> AbstractContextManager[None]:
        """Count a part in flight while the ``with`` block lasts."""
        return self._parts.incremented()

    def take(self, *, is_small: bool = False) -> memoryview:
        """Return a block for exclusive use.

        :param is_small: whether the block is always small; default: only if many parts are in flight
        """
        is_small = is_small or self._parts.count > _MANY_PARTS
        size_bytes = SMALL_BLOCK_BYTES if is_small else BLOCK_BYTES
        free = self._free[size_bytes]
        return free.pop() if free else page_aligned_buffer(size_bytes)

    def give_back(self, block: memoryview) -> None:
        """Return a block to the pool. No thread and no transport may still use it."""
        self._free[len(block)].append(block)


class PartBody(payload.Payload):
    """The multipart body of one attempt to send one part.

    :param reader: reads the bytes of the part. The caller opens and closes it: aiohttp writes this body in a task
        of its own, which can be cancelled despite shields
    :param size_bytes: size of the part
    :param filename: name of the file; the service uses it as a title
    :param form_fields: sent before the file
    :param observer: follows the bytes, block by block
    :param hold_seconds: pause after the form fields, so that the service can refuse before the file is sent
    :param bandwidth: limits the bytes per second; default: no limit
    :ivar is_held_back: whether the body is waiting for that limit, or paused
    """

    def __init__(
        self,
        reader: Reader,
        *,
        size_bytes: int,
        filename: str,
        form_fields: Mapping[str, str],
        pool: BlockPool,
        observer: PartObserver,
        hold_seconds: float = 0.0,
        bandwidth: Bandwidth | None = None,
    ) -> None:
        boundary = secrets.token_hex(16)
        super().__init__(None, content_type=f"multipart/form-data; boundary={boundary}")
        self._head = _preamble(boundary, filename=filename, form_fields=form_fields)
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._part_bytes = size_bytes
        self._size_bytes = len(self._head) + size_bytes + len(self._tail)
        self._reader = reader
        self._pool = pool
        self._observer = observer
        self._hold_seconds = hold_seconds
        self._bandwidth = bandwidth
        self.is_held_back: bool = False
        self._transport: asyncio.WriteTransport | None = None
        #: Bytes that the peer has received, for the throughput meter: by the kernel's count, if available.
        self.delivered_bytes: int = 0
        self.acked_before_bytes: int = 0
        #: What it waits for. Once it is written, the kernel may still be sending it.
        self.waits_for: Bound = Bound.SERVICE
        #: Whether the source ends a read that stalls.
        self.limits_waits: bool = False
        #: Waits while the upload is paused.
        self.wait_while_paused: Callable[[], Awaitable[None]] | None = None
        self._is_paused = self._was_paused = False
        #: Whether the body waits for such a source.
        self.is_waiting_for_source: bool = False
        #: The error of the source, which aiohttp would hide.
        self.failure: UploaderError | None = None

    @property
    def size(self) -> int:
        """Size of the whole body in bytes, for ``Content-Length``."""
        return self._size_bytes

    @property
    def transport(self) -> asyncio.WriteTransport | None:
        """The connection; None until the body is being sent."""
        return self._transport

    @property
    def local_port(self) -> int | None:
        """The connection's local port; None until the body is being sent."""
        name = self._transport.get_extra_info("sockname") if self._transport is not None else None
        return name[1] if name else None

    def replacement_factor(self) -> float | None:
        """How many times slower than others its connection is; None if it is not to be replaced."""
        # While the source is read from elsewhere, the connection may not be what is slow. During a pause it sends
        # nothing, and afterwards it cannot be compared with others that were not paused.
        if self._transport is None or self.limits_waits or self._is_paused or self._was_paused:
            return None
        return self._observer.replacement_factor(self, self._size_bytes)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002
        """Not supported: the body is never held in memory."""
        raise TypeError("the body of a part is not held in memory")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send the whole body once."""
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, _content_length: int | None) -> None:
        """Send the whole body once. Its length is known, and the same as aiohttp's."""
        transport = self._transport = writer.transport
        assert transport is not None
        if (info := tcp_info(transport)) is not None:
            self.acked_before_bytes = info.acked_bytes
        # `drain()` must wait until the transport's buffer is empty. The plain transport waits while it holds more
        # than `high` bytes, the TLS transport while it holds at least `high`: with 0, that one would wait forever.
        transport.set_write_buffer_limits(high=1 if _is_tls(transport) else 0, low=0)
        try:
            if self._part_bytes <= SMALL_BLOCK_BYTES and not (self._hold_seconds or self._may_be_held_back):
                await self._write_at_once(writer)
                self.waits_for = Bound.SERVICE
                return
            await writer.write(self._head)
            if self._hold_seconds:
                # If a response arrives in the meantime, aiohttp cancels this task.
                await asyncio.sleep(self._hold_seconds)
            await self._write_part(writer, transport)
            await writer.write(self._tail)
            self.waits_for = Bound.SERVICE
        except BaseException as exc:
            if isinstance(exc, UploaderError):
                self.failure = exc
            # `close()` would first send the buffered bytes, to a peer that may have stalled.
            transport.abort()
            raise

    async def _write_at_once(self, writer: AbstractStreamWriter) -> None:
        """Send a small part and its frame in one write: each write costs more than copying the bytes."""
        block = self._pool.take(is_small=True)
        count = 0
        while more := await self._read(block[count:]):
            count += more
        body = b"".join((self._head, block[:count], self._tail))
        self._pool.give_back(block)  # not in a finally, as below
        await writer.write(body)
        self._observer.sent(count)
        self.delivered_bytes += count
        await writer.drain()

    async def _write_part(self, writer: AbstractStreamWriter, transport: asyncio.WriteTransport) -> None:
        at_once_bytes = _ENCRYPTED_AT_ONCE_BYTES if _is_tls(transport) else BLOCK_BYTES
        if self._bandwidth is not None:
            at_once_bytes = min(at_once_bytes, self._bandwidth.write_bytes)
        # The bytes of a remote source arrive in small chunks. Collecting several would delay the first one.
        take_block = partial(self._pool.take, is_small=self.limits_waits)
        block = take_block()
        while count := await self._read(block):
            for start in range(0, count, at_once_bytes):
                some = block[start : min(start + at_once_bytes, count)]
                if self._may_be_held_back:
                    await self._hold_back(len(some))
                await writer.write(some)
                await writer.drain()
                self._observer.sent(len(some))
                self.delivered_bytes += len(some)
            if transport.get_write_buffer_size():
                block = take_block()
        # Not in a finally: after an error or a cancellation a thread may still write into the block.
        self._pool.give_back(block)

    @property
    def _may_be_held_back(self) -> bool:
        return self._bandwidth is not None or self.wait_while_paused is not None

    async def _hold_back(self, count_bytes: int) -> None:
        """Wait while the upload is paused, and until the bandwidth limit allows this number of bytes."""
        self.is_held_back = True
        if self.wait_while_paused is not None:
            began_at = asyncio.get_running_loop().time()
            self._is_paused = True
            self.waits_for = Bound.PAUSE
            await self.wait_while_paused()
            self._is_paused = False
            self._was_paused |= asyncio.get_running_loop().time() - began_at > _SHORT_PAUSE_SECONDS
        if self._bandwidth is not None:
            self.waits_for = Bound.BANDWIDTH_LIMIT
            await self._bandwidth.take(count_bytes)
        self.is_held_back = False
        self.waits_for = Bound.NETWORK

    async def _read(self, block: memoryview) -> int:
        self.is_waiting_for_source = self.limits_waits
        self.waits_for = Bound.SOURCE
        try:
            return await self._reader.readinto(block)
        finally:
            self.is_waiting_for_source = False
            self.waits_for = Bound.NETWORK


def _is_tls(transport: asyncio.WriteTransport) -> bool:
    return transport.get_extra_info("ssl_object") is not None


def _preamble(boundary: str, *, filename: str, form_fields: Mapping[str, str]) -> bytes:
    lines = []
    for name, value in form_fields.items():
        lines += [f"--{boundary}", f'Content-Disposition: form-data; name="{quoted(name)}"', "", value]
    lines += [
        f"--{boundary}",
        f'Content-Disposition: form-data; name="file"; filename="{quoted(filename)}"',
        "Content-Type: application/octet-stream",
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


def quoted(value: str) -> str:
    """Quote a field or file name for a multipart header, as browsers do (WHATWG HTML, "multipart/form-data").

    Quotes and line breaks are percent-encoded, so that a name cannot end its header. So is the backslash: some
    parsers treat it as an escape character. Other characters are sent unchanged, in UTF-8.
    """
    return value.replace("\\", "%5C").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
