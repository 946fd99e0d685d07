"""Joining moves parts if there is no space for a copy, and survives a kill at every step."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from async_uploader.emulator._rules import PartRange
from async_uploader.emulator._storage.disk_space import DiskSpace
from async_uploader.emulator._storage.source_file import BLOCK_BYTES, JoiningStopped, SourceFile, part_file_name

from .conftest import MIB, content
from .test_full_disk import raise_disk_full

pytest_anyio = pytest.mark.anyio


SIZES = {1: 1000, 2: 2 * BLOCK_BYTES + 17, 3: BLOCK_BYTES, 4: 1}


def _video(directory: Path, sizes: dict[int, int]) -> bytes:
    """Create a video's directory with received parts of these sizes; returns their bytes."""
    directory.mkdir()
    for number, size in sizes.items():
        (directory / part_file_name(PartRange(number, None))).write_bytes(content(size, number))
    return b"".join(content(size, number) for number, size in sorted(sizes.items()))


def _join(source: SourceFile) -> str:
    upload = source.recover()
    while part := upload.next_to_join():
        source.append(part, upload.joined_bytes)
        upload.mark_joined(part)
    source.hash_up_to(upload.joined_bytes)
    return source.sha256()


def test_copies_leave_space_for_parts(make_disk: Callable[[int], Path], tmp_path: Path) -> None:
    """On a small disk, parts are moved even if a copy fits, because other parts may need the space."""
    disks = {tmp_path / "v": True, make_disk(20 * MIB) / "v": False}
    for directory, is_copied in disks.items():
        _video(directory, SIZES)
        (directory / "source").write_bytes(b"")
        source = SourceFile(directory, Event(), None if is_copied else DiskSpace())
        assert source._copy(directory / part_file_name(PartRange(2, None)), 0) is is_copied
        assert (directory / "source").stat().st_size == (SIZES[2] if is_copied else 0)


def test_parts_are_moved_without_space_for_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most one block exists twice."""
    monkeypatch.setattr(SourceFile, "_copy", raise_disk_full)
    directory = tmp_path / "v"
    whole = _video(directory, SIZES)
    used: list[int] = []
    pwrite = os.pwrite

    def watched_pwrite(descriptor: int, block: Any, offset: int) -> int:
        written = pwrite(descriptor, block, offset)
        used.append(sum(file.stat().st_blocks * 512 for file in directory.iterdir()))
        return written

    monkeypatch.setattr(os, "pwrite", watched_pwrite)
    before = sum(file.stat().st_blocks * 512 for file in directory.iterdir())
    assert _join(SourceFile(directory, Event())) == hashlib.sha256(whole).hexdigest()
    assert (directory / "source").read_bytes() == whole
    assert {file.name for file in directory.iterdir()} == {"source", "merged"}
    assert max(used) <= before + BLOCK_BYTES + 64 * 1024


@pytest.mark.parametrize("steps", range(12))
def test_a_kill_while_moving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """After a kill between any two steps, and another one, the source is joined correctly."""
    directory = tmp_path / "v"
    whole = _video(directory, SIZES)
    remaining = [steps]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if not remaining[0]:
                raise JoiningStopped
            remaining[0] -= 1
            return function(*arguments)

        return call

    for _ in range(2):
        remaining[0] = steps
        with monkeypatch.context() as patch:
            patch.setattr(SourceFile, "_copy", raise_disk_full)
            for name in ("pwrite", "ftruncate", "preadv"):
                patch.setattr(os, name, counted(getattr(os, name)))
            with suppress(JoiningStopped):
                _join(SourceFile(directory, Event()))
    assert _join(SourceFile(directory, Event())) == hashlib.sha256(whole).hexdigest()
    assert (directory / "source").read_bytes() == whole


def test_a_failed_join_can_be_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After failed writes in the same process, the log has each part once, and the digest is correct."""
    directory = tmp_path / "v"
    whole = _video(directory, SIZES)
    source = SourceFile(directory, Event())
    upload = source.recover()
    pwrite, calls = os.pwrite, [0]

    def fail_every_other(descriptor: int, block: Any, offset: int) -> int:
        calls[0] += 1
        if calls[0] % 2:
            pwrite(descriptor, bytes(block)[: len(block) // 2], offset)
            raise_disk_full()
        return pwrite(descriptor, block, offset)

    monkeypatch.setattr(os, "pwrite", fail_every_other)
    monkeypatch.setattr(SourceFile, "_copy", raise_disk_full)
    while part := upload.next_to_join():
        with suppress(OSError):
            source.append(part, upload.joined_bytes)
            upload.mark_joined(part)
    source.hash_up_to(len(whole))
    assert source.sha256() == hashlib.sha256(whole).hexdigest()
    assert len((directory / "merged").read_text().splitlines()) == len(SIZES)
    assert _join(SourceFile(directory, Event())) == hashlib.sha256(whole).hexdigest()
