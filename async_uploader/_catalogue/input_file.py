"""Reads the small files that options name: ``--config`` and ``--manifest``.

Regular files, devices and FIFOs are read to their end, so that process substitution works. A FIFO must have a
writer already: waiting for one could take forever.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

# The first read must not block; neither must opening a FIFO, which otherwise waits for a writer.
_OPEN: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_READ_BYTES: Final = 1 << 16


def read_file(path: Path) -> bytes:
    """Read a whole file.

    :raises OSError: it cannot be read, or it is a FIFO without a writer
    """
    descriptor = os.open(path, _OPEN)
    try:
        content = b""
        with suppress(BlockingIOError):  # there is a writer, and it has not written yet
            content = os.read(descriptor, _READ_BYTES)
            if not content:
                _refuse_fifo(descriptor)
                return b""
        os.set_blocking(descriptor, True)
        chunks = [content]
        while chunk := os.read(descriptor, _READ_BYTES):
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        os.close(descriptor)


def _refuse_fifo(descriptor: int) -> None:
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        raise OSError(errno.ENXIO, "it is a FIFO without a writer")
