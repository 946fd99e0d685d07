"""Slow lines: bytes are taken from a connection no faster than a rate, smoothly.

A pacer keeps one moment, the one at which everything taken so far is paid for. Whoever takes bytes pushes it
on and waits until it has come, so errors of single sleeps never add up. A line that was idle starts anew: it
saves no more than `_CREDIT_SECONDS`, which only makes up for a timer's lateness.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_CREDIT_SECONDS: Final = 0.02
_FAST_READ_BYTES: Final = 256 * 1024
# A slow line is read in pieces of 2.5 ms, within these: small ones make it smooth, large ones cost less CPU.
_PACED_READ_BYTES: Final = (16 * 1024, 64 * 1024)
_PIECE_SECONDS: Final = 0.0025
# Small buffers make the client's own kernel feel the slow line. The kernel doubles the socket's number;
# much less than this makes loopback, with its 64 KiB segments, stall.
_LEAST_BUFFER_BYTES: Final = 64 * 1024


class Pacer:
    """One line of so many bytes a second; several tasks may share it."""

    def __init__(self, bytes_per_second: float, now: float) -> None:
        self._seconds_per_byte = 1 / bytes_per_second
        self._paid_until = now

    def take(self, count: int, now: float) -> float:
        """Note `count` bytes taken at `now`; the moment until which the taker has to wait."""
        start = max(self._paid_until, now - _CREDIT_SECONDS)
        self._paid_until = start + count * self._seconds_per_byte
        return self._paid_until


async def pace(pacers: Sequence[Pacer], count: int) -> None:
    """Wait until `count` bytes have come through every pacer."""
    if not pacers:
        return
    now = asyncio.get_running_loop().time()
    delay = max(pacer.take(count, now) for pacer in pacers) - now
    if delay > 0:
        await asyncio.sleep(delay)


def read_bytes(bytes_per_second: float | None) -> int:
    """How much to take from a connection at once; None is as fast as it can be."""
    if bytes_per_second is None:
        return _FAST_READ_BYTES
    least, most = _PACED_READ_BYTES
    return max(least, min(most, int(bytes_per_second * _PIECE_SECONDS)))


def listen(host: str, port: int, *, bytes_per_second: float | None) -> socket.socket:
    """A bound socket; connections accepted from it inherit the small buffer of a slow line."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if bytes_per_second is not None:
            buffer_bytes = max(_LEAST_BUFFER_BYTES, 2 * read_bytes(bytes_per_second))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
