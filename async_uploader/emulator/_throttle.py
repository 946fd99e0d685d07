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
# Small buffers make the client's own kernel feel the slow line. The kernel doubles the socket's number;
# much less than this makes loopback, with its 64 KiB segments, stall.
RECEIVE_BUFFER_BYTES: Final = 64 * 1024
PACED_READ_BYTES: Final = 16 * 1024
FAST_READ_BYTES: Final = 256 * 1024


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


def listen(host: str, port: int, *, slow: bool) -> socket.socket:
    """A bound socket; connections accepted from it inherit the small buffer of a slow line."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if slow:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
