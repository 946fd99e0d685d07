"""Checksums of the parts of a file, and a hash that identifies its content."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping
from io import FileIO
from pathlib import Path
from typing import Final

import xxhash

from async_uploader._limits import KIB, MIB
from async_uploader._plan import Part

from .opening import open_regular_file

#: 128 bits, 0.02 CPU s/GiB (CRC-32: 0.26, SHA-256: 0.6, BLAKE2b: 1.2). It detects changes, not deliberate forgery.
Checksum: Final = xxhash.xxh3_128
CHECKSUM_BYTES: Final = 16

_BLOCK_BYTES: Final = MIB
_SAMPLE_BLOCKS: Final = 256
_SAMPLE_BLOCK_BYTES: Final = 16 * KIB


def part_checksums(path: Path, parts: Iterable[Part], stop: threading.Event) -> Mapping[int, bytes]:
    """Compute the checksums of parts of a file. Blocks; call it in a thread.

    :param stop: ends the computation early
    :returns: checksums by part number; without the parts that ``stop`` prevented
    """
    found: dict[int, bytes] = {}
    block = memoryview(bytearray(_BLOCK_BYTES))
    with open_regular_file(path) as file:
        for part in parts:
            if stop.is_set():
                break
            found[part.number] = _part_checksum(file, part, block, stop)
    return found


def _part_checksum(file: FileIO, part: Part, block: memoryview, stop: threading.Event) -> bytes:
    checksum, remaining_bytes = Checksum(), part.size_bytes
    file.seek(part.offset)
    while remaining_bytes and not stop.is_set() and (count := file.readinto(block[:remaining_bytes])):
        checksum.update(block[:count])
        remaining_bytes -= count
    return checksum.digest()


def content_sample(path: Path, size_bytes: int) -> str:
    """Hash the size and 256 blocks spread over a file. Blocks; call it in a thread.

    The sample identifies the content on any machine. Hashing all of a large file would take minutes; on the same
    machine, the file's identity also detects changes between the blocks.
    """
    digest = hashlib.blake2b(str(size_bytes).encode(), digest_size=16)
    step_bytes = max(size_bytes // _SAMPLE_BLOCKS, _SAMPLE_BLOCK_BYTES)
    with open_regular_file(path) as file:
        for offset in (*range(0, size_bytes, step_bytes), max(0, size_bytes - _SAMPLE_BLOCK_BYTES)):
            file.seek(offset)
            digest.update(file.read(_SAMPLE_BLOCK_BYTES))
    return digest.hexdigest()
