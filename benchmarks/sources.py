"""Temporary source files. They are in the page cache, so that the disk is not measured."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Self

from .units import MIB

_TMPFS: Final = Path("/dev/shm")
# Small, because a child inherits the peak memory of this process; see `children`.
_BLOCK_BYTES: Final = MIB


class Sources:
    """Files in a temporary directory, each created once. Use as a context manager.

    The files are on a disk (``TMPDIR`` or the system's default) and in the page cache, like a file that was
    rendered or copied just now.

    :ivar folder: a directory on tmpfs, for what servers store
    :ivar files: the directory of the files
    """

    def __init__(self) -> None:
        self.folder = self.files = Path()

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="benchmarks-", dir=_TMPFS if _TMPFS.is_dir() else None))
        # nginx started by root runs its workers as another user.
        self.folder.chmod(0o755)
        self.files = Path(tempfile.mkdtemp(prefix="benchmarks-"))
        return self

    def __exit__(self, *_: object) -> None:
        for folder in (self.folder, self.files):
            shutil.rmtree(folder, ignore_errors=True)

    def file(self, size_bytes: int) -> Path:
        """A file of random bytes, in the page cache."""
        path = self.files / f"random-{size_bytes}.mp4"
        if not path.exists():
            _fill(path, size_bytes)
            os.sync()  # otherwise it is written during a measurement
        return path

    def sparse(self, size_bytes: int) -> Path:
        """A file without allocated blocks, for sizes beyond the memory. It reads as zeros.

        It is on tmpfs: of a file on disk, the page cache would keep the zeros, and evict other pages for them.
        """
        path = self.folder / f"sparse-{size_bytes}.mp4"
        if not path.exists():
            path.touch()
            os.truncate(path, size_bytes)
        return path

    def many(self, count: int, size_bytes: int) -> Path:
        """A directory with ``count`` files."""
        folder = self.files / f"many-{count}-{size_bytes}"
        if not folder.exists():
            folder.mkdir()
            for number in range(count):
                _fill(folder / f"{number:05}.mp4", size_bytes)
        return folder

    def parts(self, source: Path, part_bytes: int) -> list[Path]:
        """The parts of a source as files."""
        folder = source.with_suffix(f".parts-{part_bytes}")
        if not folder.exists():
            folder.mkdir()
            with source.open("rb") as file:
                for number in range(1, math.ceil(source.stat().st_size / part_bytes) + 1):
                    with (folder / f"{number:05}").open("wb") as part:
                        _copy(file, part, part_bytes)
            os.sync()
        return sorted(folder.iterdir())

    def drop(self, path: Path) -> None:
        """Delete a file or directory, and its parts."""
        for one in path.parent.glob(f"{path.stem}*"):
            if one.is_dir():
                shutil.rmtree(one)
            else:
                one.unlink()


@contextmanager
def on_cold_disk(size_bytes: int) -> Iterator[Path]:
    """A file on a disk (``TMPDIR`` or the system's default). Call :func:`evict` before each run."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        path = Path(folder) / f"cold-{size_bytes}.mp4"
        _fill(path, size_bytes)
        yield path


def evict(path: Path) -> None:
    """Remove a file from the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _copy(source: BinaryIO, part: BinaryIO, count_bytes: int) -> None:
    while count_bytes and (block := source.read(min(_BLOCK_BYTES, count_bytes))):
        part.write(block)
        count_bytes -= len(block)


def _fill(path: Path, size_bytes: int) -> None:
    block = os.urandom(min(_BLOCK_BYTES, size_bytes))
    with path.open("wb") as file:
        while (left := size_bytes - file.tell()) > 0:
            file.write(block[:left])
