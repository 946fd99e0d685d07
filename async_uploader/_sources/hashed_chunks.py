"""Computes the SHA-256 of a stream as its chunks arrive."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import anyio.to_thread

from async_uploader._limits import KIB

from .chunks import Chunk, Chunks

# Hashing a smaller chunk takes less time than switching to a thread and back.
_MIN_THREAD_BYTES: Final = 64 * KIB


class HashedChunks:
    """Hashes each chunk before it is passed on.

    :param chunks: the chunks of the stream
    """

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._sha256 = hashlib.sha256()

    async def read(self) -> AsyncGenerator[Chunk, None]:
        """The chunks."""
        async with aclosing(self._chunks):
            async for chunk in self._chunks:
                await add_to_hash(self._sha256, chunk)
                yield chunk

    def sha256(self) -> str:
        """The SHA-256 of the chunks so far, in hexadecimal."""
        return self._sha256.hexdigest()


async def add_to_hash(sha256: hashlib._Hash, data: Chunk) -> None:
    """Add bytes to a hash, in a thread if that takes long: hashing releases the GIL."""
    if len(data) < _MIN_THREAD_BYTES:
        sha256.update(data)
    else:
        await anyio.to_thread.run_sync(sha256.update, data, abandon_on_cancel=True)
