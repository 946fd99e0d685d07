"""The file that a command writes as a whole at its end: ``--report``.

============================================  ====================================================
what the path leads to                        what happens
============================================  ====================================================
nothing                                       the file is created as a whole, or not at all
a regular file                                it is replaced as a whole, or stays unchanged
a symbolic link                               as for its target; the link stays
a character device, a FIFO with a reader,     the bytes are written to it at the end
the file of standard output
a FIFO without a reader, a socket, a block    refused before anything is sent
device, a directory, a closed standard stream
============================================  ====================================================
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

from async_uploader import SourceError

from .descriptors import closed_stream
from .os_errors import describe_os_error

# A reader that reads nothing for this long does not delay the end of the command any further.
_STALL_SECONDS: Final = 5.0
# After poll(), a pipe accepts at least one page without blocking.
_WRITE_BYTES: Final = 4096
_OPEN_STREAM: Final = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KINDS: Final = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
)


def special_kind(status: os.stat_result) -> str | None:
    """``"a FIFO"``, ``"a directory"`` …; None for a regular file."""
    return next((kind for is_kind, kind in _KINDS if is_kind(status.st_mode)), None)


def is_standard_output(status: os.stat_result) -> bool:
    """Whether standard output or standard error goes to this regular file."""
    return stat.S_ISREG(status.st_mode) and any(_is_open_as(number, status) for number in (1, 2))


def _is_open_as(descriptor: int, status: os.stat_result) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), status)
    return False


class OutputFile:
    """A file to write as a whole, or a stream to write to. The constructor checks the path.

    :param path: where to write
    :param name: the name of the content in messages, such as ``"the report"``
    :raises SourceError: the path cannot be written
    """

    def __init__(self, path: Path, *, name: str) -> None:
        self.path = path
        self._name = name
        self._stream: int | None = None
        # The target of a symbolic link is replaced, so that the link stays.
        self._real_path = Path(os.path.realpath(path))
        try:
            self._check()
        except OSError as exc:
            raise self._refusal(describe_os_error(exc)) from exc

    def _check(self) -> None:
        if (stream := closed_stream(self.path)) is not None:
            raise self._refusal(f"{stream} is closed")
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            status = None
        if status is not None and not stat.S_ISREG(status.st_mode):
            self._stream = self._open_stream(status)
        elif status is not None and is_standard_output(status):
            # Replacing the file would remove the output of the command.
            self._stream = os.dup(1 if _is_open_as(1, status) else 2)
        else:
            self._check_replaceable()

    def _open_stream(self, status: os.stat_result) -> int:
        if not (stat.S_ISCHR(status.st_mode) or stat.S_ISFIFO(status.st_mode)):
            raise self._refusal(f"it is {special_kind(status)}")
        try:
            # Stays open until the end: the reader of a FIFO would take a close for the end of the file.
            return os.open(self.path, _OPEN_STREAM)
        except OSError as exc:
            if exc.errno == errno.ENXIO and stat.S_ISFIFO(status.st_mode):
                raise self._refusal("it is a FIFO without a reader") from exc
            raise

    def _check_replaceable(self) -> None:
        directory = self._real_path.parent
        if not directory.is_dir():
            missing = directory if self.path.is_symlink() else self.path.parent
            raise self._refusal(f"there is no directory {missing}")
        if not os.access(directory, os.W_OK) or (
            self._real_path.exists() and not os.access(self._real_path, os.W_OK)
        ):
            raise self._refusal("permission denied")
        with TemporaryFile(dir=directory):  # a read-only file system, for example, has no effect on modes
            pass

    def _refusal(self, reason: str) -> SourceError:
        return SourceError(f"Cannot write {self._name} to {self.path}: {reason}.")

    def write(self, content: bytes) -> None:
        """Write the whole content.

        :raises OSError: it cannot be written; a regular file is unchanged
        """
        if self._stream is None:
            _replace_file(self._real_path, content)
        else:
            _write_stream(self._stream, content)

    def close(self) -> None:
        """Close the stream, if there is one."""
        if self._stream is not None:
            os.close(self._stream)
            self._stream = None


def _replace_file(path: Path, content: bytes) -> None:
    status = path.lstat() if os.path.lexists(path) else None
    if status is not None and not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EEXIST, "it is not a regular file any more")
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
            raise TimeoutError(errno.ETIMEDOUT, f"the reader has read nothing for {_STALL_SECONDS:.0f} s")
        with suppress(BlockingIOError):
            rest = rest[os.write(descriptor, rest[:_WRITE_BYTES]) :]


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
