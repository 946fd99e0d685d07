"""The public functions that list and forget unfinished uploads."""

# No `from __future__ import annotations`: see `_public`.

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import anyio.to_thread

from async_uploader._errors import ConfigurationError, UploaderError
from async_uploader._public import public

from .entry import Entry
from .journal import Journal, reason_of

T = TypeVar("T")


@public
@dataclass(frozen=True, slots=True, kw_only=True)
class UnfinishedUpload:
    """An upload in the journal of this machine: interrupted, or finished and kept by ``keep_finished``.

    The counts are those of the journal; the service may have received more.

    :ivar video_id: id of its container
    :ivar path: absolute path of its source
    :ivar base_url: URL of the service
    :ivar started_at: time of its start, in UTC
    :ivar parts_done: number of acknowledged parts
    :ivar parts_total: number of all parts
    :ivar acknowledged_bytes: size of the acknowledged parts in bytes
    :ivar total_bytes: size of the source in bytes
    :ivar finished: whether the video is finished; its entry is kept until :func:`forget_unfinished`
    """

    video_id: str
    path: Path
    base_url: str
    started_at: datetime
    parts_done: int
    parts_total: int
    acknowledged_bytes: int
    total_bytes: int
    finished: bool = False


async def list_unfinished(*, finished: bool = False) -> list[UnfinishedUpload]:
    """List the interrupted uploads of this machine, oldest first.

    :param finished: also list finished uploads that are still in the journal (``keep_finished``). Default False
    :returns: the uploads
    :raises UploaderError: the journal cannot be read
    """
    return [_describe(entry) for entry in await _run(Journal.unfinished) if finished or entry.video is None]


async def forget_unfinished(video_id: str) -> UnfinishedUpload:
    """Remove an upload from the journal of this machine, so that it is not resumed.

    Its container stays: delete it with :meth:`Client.delete_video`.

    :param video_id: id of its container
    :returns: the upload that was removed
    :raises ConfigurationError: the journal has no upload with this id
    :raises UploaderError: the journal cannot be written
    """

    def forget(journal: Journal) -> Entry | None:
        found = [entry for entry in journal.unfinished() if entry.video_id == video_id]
        for entry in found:
            journal.forget(entry.id)
        return found[0] if found else None

    entry = await _run(forget)
    if entry is None:
        raise ConfigurationError(f"There is no unfinished upload to video {video_id!r}.")
    return _describe(entry)


async def forget_all(video_ids: Iterable[str]) -> None:
    """Remove many uploads from the journal in one transaction. Unknown ids are ignored.

    :raises UploaderError: the journal cannot be written
    """
    wanted = list(video_ids)
    await _run(lambda journal: journal.forget_videos(wanted))


async def finished_among(video_ids: Iterable[str]) -> frozenset[str]:
    """Those of these videos whose finished uploads are still in the journal (``keep_finished``).

    :raises UploaderError: the journal cannot be read
    """
    finished = {entry.video_id for entry in await _run(Journal.unfinished) if entry.video is not None}
    return frozenset(finished.intersection(video_ids))


async def _run(call: Callable[[Journal], T]) -> T:
    def run() -> T:
        journal = Journal()
        try:
            return call(journal)
        except (sqlite3.Error, OSError) as exc:
            raise UploaderError(f"{journal.display_name} cannot be used: {reason_of(exc)}.") from exc
        finally:
            journal.close()

    return await anyio.to_thread.run_sync(run)


def _describe(entry: Entry) -> UnfinishedUpload:
    missing = entry.missing if entry.video is None else []
    parts_total, total_bytes = sum(1 for _ in entry.plan.parts()), entry.fingerprint.identity.size_bytes
    return UnfinishedUpload(
        video_id=entry.video_id,
        path=entry.path,
        base_url=entry.account.base_url,
        started_at=datetime.fromtimestamp(entry.started_at, UTC),
        parts_done=parts_total - len(missing),
        parts_total=parts_total,
        acknowledged_bytes=total_bytes - sum(part.size_bytes for part in missing),
        total_bytes=total_bytes,
        finished=entry.video is not None,
    )
