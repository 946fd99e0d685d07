"""Reading a part: from memory at once, from the disk in a thread, with the same bytes either way."""

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

BLOCK_BYTES = 1000
PART = Part(number=2, offset=700, size_bytes=4321, last=False)

Preadv = Callable[[int, Sequence[memoryview], int, int], int]


def all_of_it(real: Preadv) -> Preadv:
    """Everything is in memory."""
    return real


def nothing(_: Preadv) -> Preadv:
    """Nothing is."""

    def preadv(*_: object) -> int:
        raise BlockingIOError(errno.EAGAIN, "not yet")

    return preadv


def the_start(real: Preadv) -> Preadv:
    """A block and a half are."""

    def preadv(file: int, buffers: Sequence[memoryview], offset: int, flags: int) -> int:
        end = PART.offset + BLOCK_BYTES * 3 // 2
        return real(file, [buffers[0][: max(0, end - offset)]], offset, flags)

    return preadv


def not_here(_: Preadv) -> Preadv:
    """A file system that cannot tell."""

    def preadv(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    return preadv


@pytest.mark.parametrize("in_memory", [all_of_it, nothing, the_start, not_here])
async def test_a_part_is_read_to_the_byte(
    in_memory: Callable[[Preadv], Preadv], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(9000)
    (tmp_path / "a.mp4").write_bytes(content)
    monkeypatch.setattr(os, "preadv", in_memory(os.preadv))
    with ThreadPoolExecutor(2) as threads:
        source = await FileSource.open(tmp_path / "a.mp4", threads=threads)
        block, read = memoryview(bytearray(BLOCK_BYTES)), b""
        async with source.reading(PART) as reader:
            while count := await reader.readinto(block):
                read += block[:count]
    assert read == content[PART.offset : PART.end]


async def test_a_disk_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").write_bytes(bytes(9000))

    def preadv(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", preadv)
    with ThreadPoolExecutor(2) as threads:
        source = await FileSource.open(tmp_path / "a.mp4", threads=threads)
        async with source.reading(PART) as reader:
            with pytest.raises(SourceError, match=r"a\.mp4 cannot be read: Input/output error"):
                await reader.readinto(memoryview(bytearray(BLOCK_BYTES)))
