"""Where a file goes that a command makes as a whole: ``--report``.

======================================  ==========================================================
what the path leads to                  what happens
======================================  ==========================================================
nothing yet                             the file is created as a whole, or not at all
a regular file                          it is replaced as a whole, or stays as it was
a symbolic link                         as for its target; the link stays
a character device, a FIFO with a       the bytes are written to it at the end
reader, standard output in a file
a FIFO without a reader, a socket,      refused before anything is sent
a block device, a directory, …
======================================  ==========================================================
"""

from __future__ import annotations

import errno
import os
import select
import stat
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from typing import Final

from async_uploader._errors import SourceError

# A reader that takes nothing for so long does not hold up the end of the command.
_STALL_SECONDS: Final = 5.0
# poll() promises that a pipe takes at least one page without blocking.
_WRITE_BYTES: Final = 4096
_OPEN_STREAM: Final = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KINDS: Final = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
)


def kind_of(status: os.stat_result) -> str | None:
    """``"a FIFO"``, ``"a directory"``, …; None for a regular file."""
    return next((kind for is_kind, kind in _KINDS if is_kind(status.st_mode)), None)


def is_standard_output(status: os.stat_result) -> bool:
    """Whether standard output or standard error goes to this regular file."""
    return stat.S_ISREG(status.st_mode) and any(_has_file(number, status) for number in (1, 2))


def _has_file(descriptor: int, status: os.stat_result) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), status)
    return False


class Target:
    """A place to write to, checked when this is made. Close it.

    :param path: a regular file or nothing yet, or something that takes a stream
    :param name: what it is called in messages, as ``"The report"``
    :raises SourceError: it cannot be written there
    """

    def __init__(self, path: Path, *, name: str) -> None:
        self.path = path
        self._shown = f"{name} {path}"
        self._stream: int | None = None
        # Of the path itself, so that a symbolic link stays one.
        self._real = Path(os.path.realpath(path))
        try:
            self._check()
        except OSError as exc:
            raise self._refusal(exc.strerror or "it cannot be opened") from exc

    def _check(self) -> None:
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            status = None
        if status is not None and not stat.S_ISREG(status.st_mode):
            self._stream = self._opened(status)
        elif status is not None and is_standard_output(status):
            # Replacing that file would take away what was shown, and what will be.
            self._stream = os.dup(1 if _has_file(1, status) else 2)
        else:
            self._check_replaceable()

    def _opened(self, status: os.stat_result) -> int:
        kind = kind_of(status)
        if not (stat.S_ISCHR(status.st_mode) or stat.S_ISFIFO(status.st_mode)):
            raise self._refusal(f"it is {kind}")
        try:
            # Kept open until the end: a FIFO's reader would take closing it for the end of the file.
            return os.open(self.path, _OPEN_STREAM)
        except OSError as exc:
            if exc.errno == errno.ENXIO and stat.S_ISFIFO(status.st_mode):
                raise self._refusal("it is a FIFO that nobody reads from") from exc
            raise

    def _check_replaceable(self) -> None:
        folder = self._real.parent
        if not folder.is_dir():
            raise self._refusal(f"there is no directory {folder if self.path.is_symlink() else self.path.parent}")
        if not os.access(folder, os.W_OK) or (self._real.exists() and not os.access(self._real, os.W_OK)):
            raise self._refusal("permission denied")
        with TemporaryFile(dir=folder):  # also where the mode allows it and the file system does not
            pass

    def _refusal(self, reason: str) -> SourceError:
        return SourceError(f"{self._shown} cannot be written: {reason}.")

    def write(self, content: bytes) -> None:
        """Write the whole content.

        :raises OSError: it cannot be written; a regular file is as it was before
        """
        if self._stream is None:
            _replace(self._real, content)
        else:
            _write_stream(self._stream, content)

    def close(self) -> None:
        """Let go of it."""
        if self._stream is not None:
            os.close(self._stream)
            self._stream = None


def _replace(path: Path, content: bytes) -> None:
    status = path.lstat() if os.path.lexists(path) else None
    if status is not None and not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EEXIST, "it is no regular file any more")
    mode = 0o666 & ~_umask() if status is None else stat.S_IMODE(status.st_mode)
    with NamedTemporaryFile(dir=path.parent, prefix=".async-uploader-", suffix=".part", delete=False) as file:
        try:
            file.write(content)
            file.close()
            os.chmod(file.name, mode)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def _write_stream(descriptor: int, content: bytes) -> None:
    ready = select.poll()
    ready.register(descriptor, select.POLLOUT)
    rest = memoryview(content)
    while rest:
        if not ready.poll(_STALL_SECONDS * 1000):
            raise TimeoutError(errno.ETIMEDOUT, f"nobody has read from it for {_STALL_SECONDS:.0f} s")
        with suppress(BlockingIOError):
            rest = rest[os.write(descriptor, rest[:_WRITE_BYTES]) :]


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
