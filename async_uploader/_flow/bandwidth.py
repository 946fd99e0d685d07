"""Limits the bytes that a client sends per second.

A fixed schedule (a leaky bucket as a meter): each write gets the next free moment, and waits for it. Writes are
small, so that the rate is even, and served in order, so that all parts and uploads get a share.
"""

from __future__ import annotations

import asyncio
from typing import Final

# Bytes of one write, as time: short enough to look even, long enough to cost little.
_WRITE_SECONDS: Final = 0.02
_MIN_WRITE_BYTES: Final = 1024
# A busy event loop wakes up late. Up to this much lost time is made up for.
_CREDIT_SECONDS: Final = 0.1


class Bandwidth:
    """An upper limit of the bytes sent per second, shared by everything that calls :meth:`take`.

    :param bytes_per_second: the limit
    :ivar write_bytes: the largest number of bytes to take and write at once
    """

    def __init__(self, bytes_per_second: float) -> None:
        self._bytes_per_second = bytes_per_second
        self._next_at = 0.0
        self.write_bytes: int = max(_MIN_WRITE_BYTES, int(bytes_per_second * _WRITE_SECONDS))

    async def take(self, count_bytes: int) -> None:
        """Wait until ``count_bytes`` may be sent. A cancellation returns them."""
        seconds = count_bytes / self._bytes_per_second
        now = asyncio.get_running_loop().time()
        begin_at = max(self._next_at, now - _CREDIT_SECONDS)
        self._next_at = begin_at + seconds
        if begin_at > now:
            try:
                await asyncio.sleep(begin_at - now)
            except asyncio.CancelledError:
                self._next_at -= seconds
                raise
