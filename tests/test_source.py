"""Reads of a part, from the page cache and from the disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from async_uploader import SourceError
from async_uploader._plan import Part
from async_uploader._sources.file import FileSource

BLOCK_BYTES = 100_000
PART = Part(number=2, offset=700, size_bytes=432_100, last=False)
SMALL_PART = Part(number=2, offset=700, size_bytes=4321, last=False)
SIZE_BYTES = 900_000

Preadv = Callable[[int, Sequence[memoryview], int, int], int]


def all_cached(real: Preadv) -> Preadv:
    """All bytes are in the page cache."""
    return real


def nothing_cached(_: Preadv) -> Preadv:
    """No bytes are in the page cache."""

    def preadv(*_: object) -> int:
        raise BlockingIOError(errno.EAGAIN, "not yet")

    return preadv


def start_cached(real: Preadv) -> Preadv:
    """The first block and a half are in the page cache."""

    def preadv(file: int, buffers: Sequence[memoryview], offset: int, flags: int) -> int:
        end = PART.offset + BLOCK_BYTES * 3 // 2
        return real(file, [buffers[0][: max(0, end - offset)]], offset, flags)

    return preadv


def unsupported(_: Preadv) -> Preadv:
    """The file system does not support RWF_NOWAIT."""

    def preadv(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    return preadv


@pytest.mark.parametrize("page_cache", [all_cached, nothing_cached, start_cached, unsupported])
async def test_reads_exactly_the_bytes_of_a_part(
    page_cache: Callable[[Preadv], Preadv], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(SIZE_BYTES)
    (tmp_path / "a.mp4").write_bytes(content)
    monkeypatch.setattr(os, "preadv", page_cache(os.preadv))
    with ThreadPoolExecutor(2) as threads:
        source = await FileSource.open(tmp_path / "a.mp4", threads=threads)
        assert source is not None
        block, read = memoryview(bytearray(BLOCK_BYTES)), b""
        async with source.reading(PART) as reader:
            while count := await reader.readinto(block):
                read += block[:count]
    assert read == content[PART.offset : PART.end]


async def test_disk_error_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").write_bytes(bytes(SIZE_BYTES))

    def preadv(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", preadv)
    with ThreadPoolExecutor(2) as threads:
        source = await FileSource.open(tmp_path / "a.mp4", threads=threads)
        assert source is not None
        async with source.reading(PART) as reader:
            with pytest.raises(SourceError, match=r"a\.mp4 cannot be read: Input/output error"):
                await reader.readinto(memoryview(bytearray(BLOCK_BYTES)))


async def test_a_small_part_is_read_at_once(tmp_path: Path) -> None:
    """A later change of the file does not matter: its bytes are in memory."""
    path = tmp_path / "a.mp4"
    content = os.urandom(SIZE_BYTES)
    path.write_bytes(content)
    with ThreadPoolExecutor(2) as threads:
        source = await FileSource.open(path, threads=threads)
        assert source is not None
        block, read = memoryview(bytearray(1000)), b""
        async with source.reading(SMALL_PART) as reader:
            path.unlink()
            while count := await reader.readinto(block):
                read += block[:count]
    assert read == content[SMALL_PART.offset : SMALL_PART.end]


def change(path: Path) -> None:
    """Other bytes, with the same size and modification time."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(SMALL_PART.offset)
        file.write(b"changed")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def truncate(path: Path) -> None:
    os.truncate(path, SMALL_PART.offset + 1)


def replace(path: Path) -> None:
    path.rename(path.with_name("b.mp4"))
    path.write_bytes(bytes(SIZE_BYTES))


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (change, "its contents differ"),
        (truncate, f"it had {SIZE_BYTES:,} bytes and has"),
        (replace, "it was replaced by another file"),
        (Path.unlink, "can no longer be read: No such file"),
    ],
)
async def test_a_small_part_of_a_changed_file_is_refused(
    alter: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    """The second attempt reads it again."""
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(SIZE_BYTES))
    with ThreadPoolExecutor(2) as threads:
        source = await FileSource.open(path, threads=threads)
        assert source is not None
        async with source.reading(SMALL_PART):
            pass
        alter(path)
        with pytest.raises(SourceError, match=message):
            async with source.reading(SMALL_PART):
                pass
