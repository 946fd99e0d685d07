"""Temporary directories that are removed when their process ends, however it ends.

An emulator removes its directory when it closes. If the process ends first, `remove_all` does: at the
interpreter's exit, and on SIGTERM and SIGHUP (`watch_signals`). After SIGKILL, the next start does: `remove_stale`
removes the directories that no living process holds.

Each process holds an flock on its directories, which the kernel releases with the process. The lock is on the
directory itself, so a directory never exists without something to lock. `remove_stale` may still lock a new
directory before its owner does; the owner notices this and creates another one.
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
#: The most time that stale directories may delay a start. The rest is removed by later starts.
REMOVE_STALE_SECONDS: Final = 1.0
#: Threads that still write can create a file between the listing of a directory and its removal.
_REMOVE_ATTEMPTS: Final = 5
_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


class TemporaryDirectory:
    """One temporary directory. Its methods block, and can be called from any thread and from signal handlers."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._descriptor = -1
        self._is_closed = False
        # Reentrant: a signal handler may remove the directory that its own thread is creating.
        self._lock = threading.RLock()

    def create(self) -> Path:
        """Create the directory and lock it.

        :raises OSError: the directory cannot be created, or the process is ending
        """
        while True:
            with self._lock:
                if self._is_closed or _process.is_ending:
                    raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
                # Registered before it exists, so that `remove_all` never misses it.
                _open_directories.add(self)
                self._path = Path(tempfile.gettempdir(), f"{PREFIX}{secrets.token_hex(6)}")
                with suppress(FileExistsError):
                    self._path.mkdir(mode=0o700)
                    self._descriptor = _lock_directory(self._path)
                    if self._descriptor >= 0:
                        return self._path

    def remove(self) -> None:
        """Remove the directory. Does nothing if it was removed, or never created."""
        with self._lock:
            self._is_closed = True
            if self._path is not None:
                _remove(self._path)
                self._path = None
            self._unlock()
            _open_directories.discard(self)

    def _unlock(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def disown(self) -> None:
        """Leave the directory to the parent process: this process is a fork of its owner."""
        self._lock = threading.RLock()  # a thread of the parent may hold the old one
        self._is_closed, self._path = True, None
        self._unlock()


class _Process:
    """The state of this process."""

    def __init__(self) -> None:
        self.is_ending = False
        self.watchers = 0


_open_directories: set[TemporaryDirectory] = set()
_process = _Process()


def remove_all() -> None:
    """Remove every directory of this process, which is about to end. No directory can be created afterwards."""
    _process.is_ending = True
    for directory in list(_open_directories):
        directory.remove()


def _disown_all() -> None:
    _process.is_ending = False
    for directory in list(_open_directories):
        directory.disown()
    _open_directories.clear()


atexit.register(remove_all)
os.register_at_fork(after_in_child=_disown_all)


def watch_signals() -> None:
    """Remove the directories on SIGTERM and SIGHUP, before these end the process as usual.

    A program's own handlers are kept: they close the emulator or end the interpreter, and both remove the
    directories. Python allows this only in the main thread; in other threads, this does nothing.
    `unwatch_signals` undoes it.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    _process.watchers += 1
    for number in _SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _handle_signal)


def unwatch_signals() -> None:
    """Undo one `watch_signals`. The last call restores the default actions of the signals."""
    if threading.current_thread() is not threading.main_thread() or not _process.watchers:
        return
    _process.watchers -= 1
    if not _process.watchers:
        for number in _SIGNALS:
            if signal.getsignal(number) is _handle_signal:
                signal.signal(number, signal.SIG_DFL)


def _handle_signal(number: int, _: FrameType | None) -> None:
    remove_all()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def remove_stale(*, seconds: float = REMOVE_STALE_SECONDS) -> None:
    """Remove the directories of processes that were killed.

    :param seconds: the most time to spend
    """
    deadline_s = time.monotonic() + seconds
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if time.monotonic() >= deadline_s:
                return
            if entry.name.startswith(PREFIX):
                _remove_if_stale(Path(entry.path), deadline_s)


def _remove_if_stale(path: Path, deadline_s: float) -> None:
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_uid == os.geteuid():
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove_until(path, deadline_s)
        finally:
            os.close(descriptor)


def _remove_until(path: Path, deadline_s: float) -> None:
    for folder, directories, files in os.walk(path, topdown=False):
        for name in files:
            if time.monotonic() >= deadline_s:
                return
            os.unlink(os.path.join(folder, name))
        for name in directories:
            os.rmdir(os.path.join(folder, name))
    path.rmdir()


def _lock_directory(path: Path) -> int:
    """Lock a new directory; returns its descriptor, or -1 if `remove_stale` of another process got it first."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return -1
    except OSError:  # without locks on directories, `remove_stale` cannot lock it either
        pass
    if not path.exists():
        os.close(descriptor)
        return -1
    return descriptor


def _remove(path: Path) -> None:
    """Remove a directory that other threads may still write to."""
    # The threads use paths: under another name, nothing new is created in it.
    renamed = path.with_name(f"{path.name}-gone")
    with suppress(OSError):
        path.rename(renamed)
    for _ in range(_REMOVE_ATTEMPTS):
        shutil.rmtree(renamed, ignore_errors=True)
        if not os.path.lexists(renamed):
            return
