"""The windows of the rate limit, shared by all processes of this machine that use the same credential.

Problem
    The service counts the requests of an account. A process that knows only its own requests sends parts into a
    window that another process has used up: each is refused with 429 after its body was sent.

Approach
    A small file for each credential holds the windows. A process reads it, decides, counts its request and writes
    it back while it holds an exclusive lock on it, which takes microseconds and never includes a wait. The kernel
    releases the lock of a process that dies. Times are those of the monotonic clock, which processes share.

Rejected
    - A server process: something would have to start it, stop it and restart it.
    - SQLite: a commit waits for the disk, and a busy database blocks the event loop.
    - The journal: it is optional, and writes in a thread.

If the file cannot be used, each process counts its own requests.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from async_uploader._private_directory import make_private_directory

from .rate_window import RateWindow

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger("async_uploader")

# Three windows with thousands of recent requests take less.
_MAX_BYTES: Final = 1 << 16
_LENGTH_BYTES: Final = 4
# Windows end within an hour. A file that was not opened for a day is obsolete.
_EXPIRY_SECONDS: Final = 24 * 3600.0
# A window that resets later than this was written before the machine restarted, or is damaged.
_MAX_RESET_SECONDS: Final = 3600.0
# Another process may have counted a request just after this process has read the clock.
_CLOCK_TOLERANCE_SECONDS: Final = 1.0

_decoder: Final = msgspec.msgpack.Decoder(dict[str, RateWindow])
_encoder: Final = msgspec.msgpack.Encoder()


class SharedWindows:
    """The file with the windows of one credential. No method waits for another process."""

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self._contents: _Contents | None = None

    def open(self, path: Path) -> None:
        """Open or create the file, and delete the expired ones beside it. Call it in a thread.

        If that fails, the windows are not shared.
        """
        if fcntl is None:
            return
        try:
            make_private_directory(path.parent)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._contents = _Contents(self._descriptor)
            os.utime(self._descriptor)
            _delete_expired(path.parent)
        except OSError as exc:
            _log.debug("Rate limit not shared with other processes: cannot use %s (%s).", path, exc.strerror)

    def close(self) -> None:
        """Close the file. It stays for the next process."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def is_open(self) -> bool:
        """Whether the windows are shared."""
        return self._descriptor is not None

    @contextmanager
    def exclusive(self) -> Iterator[_Contents | None]:
        """Lock the file while the ``with`` block lasts. The block must not await anything.

        :returns: the file's contents; None if another process holds the lock
        """
        descriptor = self._descriptor
        assert descriptor is not None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
            return
        try:
            yield self._contents
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)


class _Contents:
    """The contents of the file while it is locked: a length, then that many bytes of MessagePack."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._written = b""

    def read(self, now: float) -> dict[str, RateWindow]:
        """The windows by kind of request that other processes have changed. Unreadable contents count as none."""
        try:
            data = os.pread(self._descriptor, _MAX_BYTES, 0)
            if self._written and data.startswith(self._written):
                return {}
            end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "big")
            windows = _decoder.decode(data[_LENGTH_BYTES:end])
        except (OSError, msgspec.MsgspecError):
            return {}
        return {kind: window for kind, window in windows.items() if _is_of_this_boot(window, now)}

    def write(self, windows: Mapping[str, RateWindow]) -> None:
        """Replace the windows, in one write: a process that dies leaves the old or the new ones."""
        data = _encoder.encode(windows)
        self._written = len(data).to_bytes(_LENGTH_BYTES, "big") + data
        with suppress(OSError):  # for example, a full disk: the old windows stay
            os.pwrite(self._descriptor, self._written, 0)


def _is_of_this_boot(window: RateWindow, now: float) -> bool:
    is_past = window.last_request_at <= now + _CLOCK_TOLERANCE_SECONDS
    return is_past and window.resets_at - now <= _MAX_RESET_SECONDS


def _delete_expired(directory: Path) -> None:
    oldest = time.time() - _EXPIRY_SECONDS
    for entry in os.scandir(directory):
        with suppress(OSError):
            if entry.stat().st_mtime < oldest:
                os.unlink(entry.path)
