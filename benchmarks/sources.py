"""The files that are sent: on a disk but in memory, so that it is not measured, and gone afterwards."""

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
# Small, see `children`: what is at its peak here is on each child's account.
_BLOCK_BYTES: Final = MIB


class Sources:
    """Files in a temporary directory, each made once. Use as a context manager.

    They are files of a disk (``TMPDIR`` or the system's) that the kernel has in memory, like a user's that was
    rendered or copied just now.

    :ivar folder: on tmpfs, for what servers store
    """

    def __init__(self) -> None:
        self.folder = self._files = Path()

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="benchmarks-", dir=_TMPFS if _TMPFS.is_dir() else None))
        # Workers of a server that is started by root may run as somebody else.
        self.folder.chmod(0o755)
        self._files = Path(tempfile.mkdtemp(prefix="benchmarks-"))
        return self

    def __exit__(self, *_: object) -> None:
        for folder in (self.folder, self._files):
            shutil.rmtree(folder, ignore_errors=True)

    def file(self, size_bytes: int) -> Path:
        """A file of random bytes, all of them in memory."""
        path = self._files / f"random-{size_bytes}.mp4"
        if not path.exists():
            _fill(path, size_bytes)
            os.sync()  # or it is written while something is measured
        return path

    def sparse(self, size_bytes: int) -> Path:
        """A file without content, which reads as zeros and takes no memory: for the sizes beyond it.

        On tmpfs. Of a disk's file the system would keep all zeros that were read, and make room for them again.
        """
        path = self.folder / f"sparse-{size_bytes}.mp4"
        if not path.exists():
            path.touch()
            os.truncate(path, size_bytes)
        return path

    def many(self, count: int, size_bytes: int) -> Path:
        """A folder of so many files."""
        folder = self._files / f"many-{count}-{size_bytes}"
        if not folder.exists():
            folder.mkdir()
            for number in range(count):
                _fill(folder / f"{number:05}.mp4", size_bytes)
        return folder

    def parts(self, source: Path, part_bytes: int) -> list[Path]:
        """The source's parts as files of their own."""
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
        """Remove a file, or a folder, and what was cut from it."""
        for one in path.parent.glob(f"{path.stem}*"):
            if one.is_dir():
                shutil.rmtree(one)
            else:
                one.unlink()


@contextmanager
def on_cold_disk(size_bytes: int) -> Iterator[Path]:
    """A file on a real disk (``TMPDIR`` or the system's). Evict it with :func:`evict` before each run."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        path = Path(folder) / f"cold-{size_bytes}.mp4"
        _fill(path, size_bytes)
        yield path


def evict(path: Path) -> None:
    """Have the system forget a file's bytes, so that they come from the disk again."""
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
