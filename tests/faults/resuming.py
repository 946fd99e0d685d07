"""Interrupted uploads, sources that change during an upload, and the contents of the journal."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio

from async_uploader import UploadFailed
from async_uploader.emulator import Emulator, Fault
from harness.world import FRAMING_BYTES, KEY, QuickClient, Run, Source, run_upload, uploads


async def interrupted_upload(emulator: Emulator, source: Source, **options: Any) -> UploadFailed:
    """An upload that fails at its last part, and can be resumed."""
    emulator.add_fault(Fault.parse("upload,part=last:status=503"))
    run = await run_upload(emulator, source, **{"resume": "local", "max_attempts": 1, "concurrency": 1, **options})
    emulator.clear_faults()
    assert isinstance(run.error, UploadFailed)
    assert run.error.resumable
    assert run.error.parts_total
    assert run.error.parts_done == run.error.parts_total - 1
    return run.error


async def interrupted_container(emulator: Emulator, source: Source, **options: Any) -> str:
    """The id of the container of such an upload."""
    video_id = (await interrupted_upload(emulator, source, **options)).video_id
    assert video_id is not None
    return video_id


async def upload_token(emulator: Emulator) -> str:
    """A new upload token."""
    async with QuickClient(api_key=KEY, base_url=emulator.url) as client:
        return (await client.create_upload_token()).token


def change_journal(state: Path, statement: str, *values: object) -> list[Any]:
    """Execute a statement on the journal; returns its rows."""
    with closing(sqlite3.connect(state / "async_uploader" / "journal.sqlite3")) as database, database:
        return database.execute(statement, values).fetchall()


async def check_sent_once(emulator: Emulator, source: Source, video_id: str) -> None:
    """The video has the bytes of the source, and of stored parts, at most the fields of the form were sent again.

    With an upload token, these fields contain the id of the video, by which the service refuses the part.
    """
    view = await emulator.finished(video_id)
    assert (view.sha256, view.size_bytes) == (source.sha256, source.size_bytes)
    refused = [one for one in uploads(emulator) if one.status == 400]
    assert emulator.statistics().bytes_again <= len(refused) * FRAMING_BYTES


async def upload_and_change(
    change: Callable[[], object], source: Source, *, after_bytes: int, emulator: Emulator, **options: Any
) -> Run:
    """Upload, and change the file once the service has received ``after_bytes``."""
    runs: list[Run] = []

    async def run() -> None:
        runs.append(await run_upload(emulator, source, **options))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await emulator.wait_for(lambda emulator: emulator.statistics().bytes_received > after_bytes)
        change()
    return runs[0]
