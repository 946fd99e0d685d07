"""The temporary file of one request body, which either becomes a received part or is deleted."""

from __future__ import annotations

import os
import tempfile
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .disk_space import DiskSpace

Buffer: TypeAlias = bytes | memoryview

_IOV_MAX: Final = 1024  # the most buffers that Linux accepts in one writev


class PartFile:
    """A file that is written in threads.

    A lock protects every method, so `discard` can be called while the last write of a cancelled request still
    runs.

    :param expected_bytes: the most bytes that will be written, which are reserved on the disk; None if unknown
    """

    def __init__(self, directory: Path, space: DiskSpace, expected_bytes: int | None) -> None:
        self._directory = directory
        self._space = space
        self._expected_bytes = expected_bytes or 0
        self._reserved_bytes = 0
        self._lock = Lock()
        self._descriptor = -1
        self._path: str | None = None
        self._is_closed = False

    def write(self, buffers: Sequence[Buffer]) -> None:
        """Append the buffers. The first call creates the file.

        :raises OSError: the disk is full, or writing failed
        """
        with self._lock:
            if self._is_closed:
                return
            if self._path is None:
                self._descriptor, self._path = tempfile.mkstemp(dir=self._directory)
                self._space.reserve(self._descriptor, self._expected_bytes)
                self._reserved_bytes = self._expected_bytes
            for start in range(0, len(buffers), _IOV_MAX):
                self._write_all(list(buffers[start : start + _IOV_MAX]))

    def move_to(self, target: Path) -> None:
        """Rename the file to `target`. From then on, the part counts as received."""
        with self._lock:
            assert self._path is not None
            os.rename(self._path, target)
            self._path = None
            self._close()

    def discard(self) -> None:
        """Delete the file. Does nothing after `move_to`, or when called again."""
        with self._lock:
            self._close()
            if self._path is not None:
                os.unlink(self._path)
                self._path = None

    def _write_all(self, buffers: list[Buffer]) -> None:
        while buffers:
            with self._space.writing():
                written = os.writev(self._descriptor, buffers)
                self._release(min(written, self._reserved_bytes))
            while buffers and written >= len(buffers[0]):
                written -= len(buffers.pop(0))
            if written:
                buffers[0] = memoryview(buffers[0])[written:]

    def _release(self, count: int) -> None:
        if count:
            self._space.release(count)
            self._reserved_bytes -= count

    def _close(self) -> None:
        self._is_closed = True
        self._release(self._reserved_bytes)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
