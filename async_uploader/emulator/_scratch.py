"""Temporary directories that do not outlive their process, however it ends.

A directory is removed when its emulator closes. If the process ends first, `remove_all` does it: at the
interpreter's exit, and on SIGTERM and SIGHUP (`watch_signals`). What no process can do after SIGKILL, the next
start does: `sweep` removes the directories that no living process holds.

Each process holds an flock on its directories, which the kernel releases with the process. The lock is on the
directory itself, so there is no moment at which a directory exists without something to lock. A sweep may still
lock a new directory before its owner does; the owner notices, and makes another one.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import os
import secrets
import shutil
import signal
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType

PREFIX: Final = "async-uploader-emulator-"
#: The longest that the directories of dead processes may delay a start. What is left waits for the next one.
SWEEP_SECONDS: Final = 1.0
#: Threads that still write can put a file into a directory between its listing and its removal.
_REMOVE_ATTEMPTS: Final = 5
_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


class Scratch:
    """One temporary directory. Its methods block and may be called from any thread, and from signal handlers."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._held = -1
        self._is_closed = False
        # Reentrant: a signal handler may remove what its own thread is making.
        self._lock = threading.RLock()

    def make(self) -> Path:
        """Make the directory, and hold it.

        :raises OSError: it cannot be made, or the process is ending
        """
        while True:
            with self._lock:
                if self._is_closed or _process.is_ending:
                    raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
                # Known before it exists, so that there is no moment at which removing would miss it.
                _live.add(self)
                self._path = Path(tempfile.gettempdir(), f"{PREFIX}{secrets.token_hex(6)}")
                with suppress(FileExistsError):
                    self._path.mkdir(mode=0o700)
                    self._held = _hold(self._path)
                    if self._held >= 0:
                        return self._path

    def remove(self) -> None:
        """Remove the directory; harmless if it is gone, or was never made."""
        with self._lock:
            self._is_closed = True
            if self._path is not None:
                _remove(self._path)
                self._path = None
            self._release()
            _live.discard(self)

    def _release(self) -> None:
        held, self._held = self._held, -1
        if held >= 0:
            os.close(held)

    def forget(self) -> None:
        """Leave the directory to another process: this one is a fork of its owner."""
        self._lock = threading.RLock()  # the owner's threads are not here to release it
        self._is_closed, self._path = True, None
        self._release()


class _Process:
    """What holds for this process as a whole."""

    def __init__(self) -> None:
        self.is_ending = False
        self.watchers = 0


_live: set[Scratch] = set()
_process = _Process()


def remove_all() -> None:
    """Remove every directory of this process, which is about to end: no other one is made after this."""
    _process.is_ending = True
    for scratch in list(_live):
        scratch.remove()


def _forget_all() -> None:
    _process.is_ending = False
    for scratch in list(_live):
        scratch.forget()
    _live.clear()


atexit.register(remove_all)
os.register_at_fork(after_in_child=_forget_all)


def watch_signals() -> None:
    """Have SIGTERM and SIGHUP remove the directories before they end the process as they would without us.

    A program's own handlers stay: they unwind the emulator, or end the interpreter, and either removes them too.
    Python lets only the main thread do this; from another one it does nothing. Undone by `unwatch_signals`.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    _process.watchers += 1
    for number in _SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def unwatch_signals() -> None:
    """Undo one `watch_signals`; the last one restores the signals' default actions."""
    if threading.current_thread() is not threading.main_thread() or not _process.watchers:
        return
    _process.watchers -= 1
    if not _process.watchers:
        for number in _SIGNALS:
            if signal.getsignal(number) is _end:
                signal.signal(number, signal.SIG_DFL)


def _end(number: int, _: FrameType | None) -> None:
    remove_all()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def sweep(*, seconds: float = SWEEP_SECONDS) -> None:
    """Remove the directories of processes that were killed.

    :param seconds: how long that may take
    """
    until_s = time.monotonic() + seconds
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if time.monotonic() >= until_s:
                return
            if entry.name.startswith(PREFIX):
                _remove_if_stale(Path(entry.path), until_s)


def _remove_if_stale(path: Path, until_s: float) -> None:
    with suppress(OSError):
        held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(held).st_uid == os.geteuid():
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove_until(path, until_s)
        finally:
            os.close(held)


def _remove_until(path: Path, until_s: float) -> None:
    for folder, directories, files in os.walk(path, topdown=False):
        for name in files:
            if time.monotonic() >= until_s:
                return
            os.unlink(os.path.join(folder, name))
        for name in directories:
            os.rmdir(os.path.join(folder, name))
    path.rmdir()


def _hold(path: Path) -> int:
    """A descriptor with a lock on a new directory; -1 if a sweep has taken it for stale."""
    try:
        held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        return -1
    except OSError:  # not every file system has locks on directories; there, a sweep cannot lock it either
        pass
    if not path.exists():
        os.close(held)
        return -1
    return held


def _remove(path: Path) -> None:
    """Remove a directory that other threads may still write to."""
    # They work with paths: under another name, nothing new comes into it.
    gone = path.with_name(f"{path.name}-gone")
    with suppress(OSError):
        path.rename(gone)
    for _ in range(_REMOVE_ATTEMPTS):
        shutil.rmtree(gone, ignore_errors=True)
        if not os.path.lexists(gone):
            return
