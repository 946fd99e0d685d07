"""A journal that is damaged, missing or unusable does not stop an upload."""

from __future__ import annotations

import logging
import sqlite3
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from async_uploader._resume.journal import Journal
from harness.world import (
    KEY,
    Source,
    check_finished,
    run_upload,
    service,
)

from .conftest import Logged
from .leaks import join_threads
from .resuming import interrupted_upload

SourceOf = Callable[[int], Source]


# Outdated, missing or unusable journals


def _not_a_database(state: Path) -> Path:
    path = state / "async_uploader" / "journal.sqlite3"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"this is not a database, and never was one " * 100)
    return path


def _truncated(state: Path) -> Path:
    path = _not_a_database(state)
    path.write_bytes(b"SQLite format 3\0" + bytes(50))
    return path


def _newer_version(state: Path) -> Path:
    path = state / "async_uploader" / "journal.sqlite3"
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    return path


def _file_instead_of_directory(state: Path) -> Path:
    state.mkdir()
    (state / "async_uploader").write_bytes(b"")
    return state / "async_uploader" / "journal.sqlite3"


def _directory_instead_of_file(state: Path) -> Path:
    path = state / "async_uploader" / "journal.sqlite3"
    path.mkdir(parents=True)
    return path


def _full_disk(state: Path) -> Path:
    """Every write fails with ENOSPC."""
    path = state / "async_uploader" / "journal.sqlite3"
    path.parent.mkdir(parents=True)
    path.symlink_to("/dev/full")
    return path


@pytest.mark.anyio
@pytest.mark.parametrize("resume", ["local", "anywhere"])
@pytest.mark.parametrize(
    "damage",
    [
        _not_a_database,
        _truncated,
        _newer_version,
        _file_instead_of_directory,
        _directory_instead_of_file,
        _full_disk,
    ],
)
async def test_upload_without_a_usable_journal(
    damage: Callable[[Path], Path],
    resume: str,
    movie: Source,
    state: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The upload succeeds, with one warning."""
    path = damage(state)
    async with service() as emulator:
        run = await run_upload(emulator, movie, resume=resume)
        assert run.video is not None, run.error
        await check_finished(emulator, movie, run.video.video_id)
        assert run.video.metadata == ()
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    (warning,) = warnings
    assert str(path.parent) in warning
    assert warning.endswith(". Uploads continue without it, and may not be resumable.")


@pytest.mark.anyio
async def test_journal_fails_during_the_upload(
    movie: Source, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    """The upload succeeds, with one warning."""
    from async_uploader._resume.journal import Journal

    def fail(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async with service() as emulator:
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "acknowledge", fail)
            run = await run_upload(emulator, movie, resume="local")
        assert run.video is not None, run.error
        await check_finished(emulator, movie, run.video.video_id)
        (warning,) = logged()
        assert (
            "cannot be used: database or disk is full. Uploads continue without it, and may not be resumable."
            in warning
        )


def test_concurrent_creation_of_the_journal(tmp_path: Path) -> None:
    """Without the retries in ``open_database``, about one in a hundred fails with "database is locked"."""

    def query(number: int) -> int:
        journal = Journal(tmp_path / f"{number // 8}.sqlite3")
        barrier.wait()
        try:
            return len(journal.unfinished())
        finally:
            journal.close()

    barrier = threading.Barrier(8)
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(query, range(320))) == {0}


@pytest.mark.anyio
async def test_journal_is_private_and_has_no_secrets(movie: Source, state: Path) -> None:
    async with service() as emulator:
        await interrupted_upload(emulator, movie, resume="anywhere")
        bearers = emulator._server.credentials.bearers
        secrets = [KEY, *bearers.expires_s, *bearers.refreshable_s]
        assert len(secrets) == 3
        await join_threads()
        _check_files(state, secrets)


def _check_files(state: Path, secrets: list[str]) -> None:
    files = [path for path in state.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"journal.sqlite3"}
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert [secret for secret in secrets if secret.encode() in path.read_bytes()] == []
    assert stat.S_IMODE((state / "async_uploader").stat().st_mode) == 0o700
