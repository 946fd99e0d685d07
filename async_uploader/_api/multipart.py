"""A part on its way: one multipart file field of known length, read while it is sent.

Rejected: ``aiohttp.FormData`` (holds the part), an async generator (chunked transfer coding), a fresh ``bytes``
a block (20 times the page faults). Instead one block is read into a buffer and written, and the buffer is used
again as soon as the transport holds nothing of it. That last condition is checked and not assumed, because
event loops differ: asyncio 3.11 copies what it could not send, later versions and uvloop keep a view.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

from aiohttp import payload

from async_uploader._buffers import page_aligned_buffer
from async_uploader._counter import Counter
from async_uploader._errors import UploaderError
from async_uploader._flow.tcp_info import tcp_info
from async_uploader._limits import KIB, MIB
from async_uploader._sources.protocol import Reader

from .part_request import PartObserver

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

# Below 1 MiB the hop into a reading thread costs more than the read; above, only memory grows. With many parts in
# flight the hops overlap, and small blocks keep memory and the loop's stalls (encrypting one) small instead.
BLOCK_BYTES: Final = MIB
SMALL_BLOCK_BYTES: Final = 256 * KIB
_MANY_PARTS: Final = 8
# What is encrypted is held twice more, by OpenSSL and on its way out of it. Smaller costs turns of the loop.
_ENCRYPTED_AT_ONCE_BYTES: Final = 512 * KIB


class BlockPool:
    """Blocks that are not in use, for all parts of a client. Peak memory: one block a part in flight."""

    def __init__(self) -> None:
        self._free: dict[int, list[memoryview]] = {BLOCK_BYTES: [], SMALL_BLOCK_BYTES: []}
        self._parts = Counter()

    def part(self) -> AbstractContextManager[None]:
        """One more part is in flight."""
        return self._parts.incremented()

    def take(self) -> memoryview:
        """A block that nobody else holds."""
        size_bytes = BLOCK_BYTES if self._parts.count <= _MANY_PARTS else SMALL_BLOCK_BYTES
        free = self._free[size_bytes]
        return free.pop() if free else page_aligned_buffer(size_bytes)

    def give_back(self, block: memoryview) -> None:
        """Only for a block that neither a thread nor a transport can still touch."""
        self._free[len(block)].append(block)


class PartBody(payload.Payload):
    """The multipart body of one attempt to send one part.

    :param reader: gives the part's bytes. Opened and closed by the caller: this body is written by a task of
        aiohttp's, which can be cancelled in ways that no shield of ours withstands
    :param size_bytes: how many there are
    :param filename: goes into the file field, quoted; the service shows it as a title
    :param form_fields: sent before the file
    :param observer: follows the bytes, block by block
    :param hold_seconds: wait so long after the form fields: the service may refuse by them, before the file leaves
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
    ) -> None:
        boundary = secrets.token_hex(16)
        super().__init__(None, content_type=f"multipart/form-data; boundary={boundary}")
        self._head = _preamble(boundary, filename=filename, form_fields=form_fields)
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._size_bytes = len(self._head) + size_bytes + len(self._tail)
        self._reader = reader
        self._pool = pool
        self._observer = observer
        self._hold_seconds = hold_seconds
        self._transport: asyncio.WriteTransport | None = None
        #: How much has reached the other side, for the meter; the kernel's count where it tells.
        self.delivered_bytes: int = 0
        self.acked_before_bytes: int = 0
        #: Why the source could not be read to its end; aiohttp would bury it.
        self.failure: UploaderError | None = None

    @property
    def size(self) -> int:
        """Bytes of the whole body, for ``Content-Length``."""
        return self._size_bytes

    @property
    def transport(self) -> asyncio.WriteTransport | None:
        """The connection, once the body has begun to go out on it."""
        return self._transport

    @property
    def local_port(self) -> int | None:
        """The connection's local port, once the body has begun to go out on it."""
        name = self._transport.get_extra_info("sockname") if self._transport is not None else None
        return name[1] if name else None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002
        """Not possible: the body is never held."""
        raise TypeError("a part's body is not held in memory")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send the whole body once."""
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, _content_length: int | None) -> None:
        """Send the whole body once: its length is known, and aiohttp's idea of it is the same."""
        transport = self._transport = writer.transport
        assert transport is not None
        if (info := tcp_info(transport)) is not None:
            self.acked_before_bytes = info.acked_bytes
        # Drain has to mean "the transport holds nothing". The TLS transport compares with >=, so 0 would
        # make it wait for ever; the plain one with >.
        transport.set_write_buffer_limits(high=1 if _is_tls(transport) else 0, low=0)
        try:
            await writer.write(self._head)
            if self._hold_seconds:
                # A response that comes meanwhile has aiohttp cancel this.
                await asyncio.sleep(self._hold_seconds)
            await self._write_part(writer, transport)
            await writer.write(self._tail)
        except BaseException as exc:
            if isinstance(exc, UploaderError):
                self.failure = exc
            # close() would first try to send what is buffered, to a peer that may have stalled.
            transport.abort()
            raise

    async def _write_part(self, writer: AbstractStreamWriter, transport: asyncio.WriteTransport) -> None:
        at_once_bytes = _ENCRYPTED_AT_ONCE_BYTES if _is_tls(transport) else BLOCK_BYTES
        block = self._pool.take()
        while count := await self._reader.readinto(block):
            for start in range(0, count, at_once_bytes):
                some = block[start : min(start + at_once_bytes, count)]
                await writer.write(some)
                await writer.drain()
                self._observer.sent(len(some))
                self.delivered_bytes += len(some)
            if transport.get_write_buffer_size():
                block = self._pool.take()
        # Not in a finally: after an error or a cancellation a thread may still write into the block.
        self._pool.give_back(block)


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
    """A field or file name as browsers write it into a multipart header (WHATWG HTML, "multipart/form-data").

    Quotes and line ends are percent-encoded, so a name cannot end its header, and so is the backslash, which
    some parsers take for an escape. Any other character arrives as it is, in UTF-8.
    """
    return value.replace("\\", "%5C").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
