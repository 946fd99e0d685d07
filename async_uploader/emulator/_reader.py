"""A file that is read block by block in threads."""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Reader:
    """A file that is read in threads, and may be closed while a cancelled request's last read still runs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._file = -1
        self._closed = False

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset`; the first call opens the file.

        :raises OSError, EOFError: there is no such file, or nothing of it there
        """
        with self._lock:
            if self._closed:
                raise FileNotFoundError
            if self._file < 0:
                self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            block = os.pread(self._file, count, offset)
        if not block:
            raise EOFError(f"{self._path} is shorter than it was.")
        return block

    def close(self) -> None:
        """Close it, once and for all."""
        with self._lock:
            self._closed = True
            if self._file >= 0:
                os.close(self._file)
                self._file = -1
