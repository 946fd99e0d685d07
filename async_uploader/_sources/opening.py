"""Opens regular files, and nothing else."""

from __future__ import annotations

import errno
import os
import stat
from io import FileIO
from pathlib import Path


def open_regular_file(path: Path) -> FileIO:
    """Open a regular file for unbuffered reading. Blocks; call it in a thread.

    Anything else fails at once. In particular, this never waits for the writer of a named pipe.

    :raises OSError: the path does not lead to a regular file, or cannot be opened
    """
    return open(path, "rb", buffering=0, opener=_open_descriptor)


def _open_descriptor(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return descriptor
