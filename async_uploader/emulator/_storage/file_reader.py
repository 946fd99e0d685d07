"""Reads a file block by block, in threads."""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class FileReader:
    """A file that is read in threads.

    It may be closed while the last read of a cancelled request still runs in another thread.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._descriptor = -1
        self._is_closed = False

    def read(self, offset: int, count: int) -> bytes:
        """Read up to `count` bytes from `offset`. The first call opens the file.

        :raises OSError: the file cannot be opened or read
        :raises EOFError: the file ends at or before `offset`
        """
        with self._lock:
            if self._is_closed:
                raise FileNotFoundError
            if self._descriptor < 0:
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            block = os.pread(self._descriptor, count, offset)
        if not block:
            raise EOFError(f"{self._path} was truncated.")
        return block

    def close(self) -> None:
        """Close the file; it cannot be opened again."""
        with self._lock:
            self._is_closed = True
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
