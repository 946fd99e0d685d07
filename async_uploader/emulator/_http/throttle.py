"""Throttles connections: bytes are read no faster than a rate, without bursts.

A pacer stores one moment: when all bytes read so far should have arrived. Each reader advances that moment and
waits for it, so the errors of single sleeps do not add up. An idle connection saves no more than
`_CREDIT_SECONDS`, which only compensates for late timers.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_CREDIT_SECONDS: Final = 0.02
_FAST_READ_BYTES: Final = 256 * 1024
# A throttled connection is read in blocks of 2.5 ms, within these bounds: small blocks make it smooth, large ones
# cost less CPU.
_PACED_READ_BYTES: Final = (16 * 1024, 64 * 1024)
_BLOCK_SECONDS: Final = 0.0025
# Small socket buffers make the client's kernel notice the low rate. The kernel doubles this number. Much smaller
# values make loopback, with its 64 KiB segments, stall.
MIN_BUFFER_BYTES: Final = 64 * 1024


class Pacer:
    """Limits a rate in bytes per second. Several tasks can share a pacer."""

    def __init__(self, bytes_per_second: float, now: float) -> None:
        self._seconds_per_byte = 1 / bytes_per_second
        self._due_at = now

    def take(self, count: int, now: float) -> float:
        """Count `count` bytes read at `now`; returns the moment until which the reader must wait."""
        start = max(self._due_at, now - _CREDIT_SECONDS)
        self._due_at = start + count * self._seconds_per_byte
        return self._due_at


async def pace(pacers: Sequence[Pacer], count: int) -> None:
    """Wait until every pacer allows `count` more bytes."""
    if not pacers:
        return
    now = asyncio.get_running_loop().time()
    delay = max(pacer.take(count, now) for pacer in pacers) - now
    if delay > 0:
        await asyncio.sleep(delay)


def read_bytes(bytes_per_second: float | None) -> int:
    """How many bytes to read from a connection at once; None is an unlimited rate."""
    if bytes_per_second is None:
        return _FAST_READ_BYTES
    least, most = _PACED_READ_BYTES
    return max(least, min(most, int(bytes_per_second * _BLOCK_SECONDS)))


def bind(host: str, port: int, *, bytes_per_second: float | None) -> socket.socket:
    """Bind a listening socket. Accepted connections inherit the small buffer of a low rate.

    :raises OSError: the address cannot be used
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if bytes_per_second is not None:
            buffer_bytes = max(MIN_BUFFER_BYTES, 2 * read_bytes(bytes_per_second))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
