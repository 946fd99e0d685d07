"""A body on its way to disk: a temporary file that either becomes a received piece or disappears.

The methods block, run in threads and take a lock, so that `discard` may be handed to a thread at any time,
also while a cancelled request's last write still runs in another one.
"""

from __future__ import annotations

import os
import tempfile
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ._room import Room

Buffer: TypeAlias = bytes | memoryview

_IOV_MAX: Final = 1024  # the most buffers that Linux takes in one writev


class Spool:
    """`expected_bytes` is the most that will be written, if that is known: there must be room for it."""

    def __init__(self, directory: Path, room: Room, expected_bytes: int | None) -> None:
        self._directory = directory
        self._room = room
        self._expected_bytes = expected_bytes or 0
        self._promised_bytes = 0
        self._lock = Lock()
        self._file = -1
        self._path: str | None = None
        self._closed = False

    def write(self, buffers: Sequence[Buffer]) -> None:
        """Append the buffers; the first call makes the file.

        :raises OSError: there is no room, or another failure to write
        """
        with self._lock:
            if self._closed:
                return
            if self._path is None:
                self._file, self._path = tempfile.mkstemp(dir=self._directory)
                self._room.promise(self._file, self._expected_bytes)
                self._promised_bytes = self._expected_bytes
            for start in range(0, len(buffers), _IOV_MAX):
                self._write_all(list(buffers[start : start + _IOV_MAX]))

    def keep(self, target: Path) -> None:
        """Become `target`: the moment from which the piece counts as received."""
        with self._lock:
            assert self._path is not None
            os.rename(self._path, target)
            self._path = None
            self._close()

    def discard(self) -> None:
        """Leave nothing behind; harmless after `keep` and when called twice."""
        with self._lock:
            self._close()
            if self._path is not None:
                os.unlink(self._path)
                self._path = None

    def _write_all(self, buffers: list[Buffer]) -> None:
        while buffers:
            with self._room.writing():
                written = os.writev(self._file, buffers)
                self._redeem(min(written, self._promised_bytes))
            while buffers and written >= len(buffers[0]):
                written -= len(buffers.pop(0))
            if written:
                buffers[0] = memoryview(buffers[0])[written:]

    def _redeem(self, count: int) -> None:
        if count:
            self._room.redeem(count)
            self._promised_bytes -= count

    def _close(self) -> None:
        self._closed = True
        self._redeem(self._promised_bytes)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
