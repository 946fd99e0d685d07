"""What the journal of this machine still remembers: to be looked at, and to be forgotten."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import anyio.to_thread

from async_uploader._errors import ConfigurationError, UploaderError

from .journal import Entry, Journal, reason_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfinishedUpload:
    """An upload that was begun on this machine with ``resume``, and has not ended.

    The counts are the journal's; the service may have more. ``started_at`` is in seconds since the epoch. A
    ``finished`` one is remembered until its result was delivered (``keep_finished``).
    """

    video_id: str
    path: Path
    base_url: str
    started_at: float
    parts_done: int
    parts_total: int
    acknowledged_bytes: int
    total_bytes: int
    finished: bool = False


async def list_unfinished(*, finished: bool = False) -> list[UnfinishedUpload]:
    """The uploads that can be resumed, oldest first.

    :param finished: list finished uploads that the journal still remembers (``keep_finished``), too. Default False
    :raises UploaderError: the journal cannot be read
    """
    return [_shown(entry) for entry in await _read(Journal.unfinished) if finished or entry.video is None]


async def forget_unfinished(video_id: str) -> UnfinishedUpload:
    """Forget one, by its container, finished or not.

    The container itself stays; :meth:`Client.delete_video` deletes it.

    :returns: what was known of it
    :raises ConfigurationError: there is none of this id
    :raises UploaderError: the journal cannot be written
    """

    def forget(journal: Journal) -> Entry | None:
        found = [entry for entry in journal.unfinished() if entry.video_id == video_id]
        for entry in found:
            journal.forget(entry.id)
        return found[0] if found else None

    entry = await _read(forget)
    if entry is None:
        raise ConfigurationError(f"There is no unfinished upload into video {video_id!r}.")
    return _shown(entry)


async def forget_all(video_ids: Iterable[str]) -> None:
    """Forget many at once, in one transaction; those that the journal does not know are skipped.

    :raises UploaderError: the journal cannot be written
    """
    wanted = list(video_ids)
    await _read(lambda journal: journal.forget_videos(wanted))


async def finished_among(video_ids: Iterable[str]) -> frozenset[str]:
    """Those of these containers whose finished uploads the journal still remembers (``keep_finished``).

    :raises UploaderError: the journal cannot be read
    """
    finished = {entry.video_id for entry in await _read(Journal.unfinished) if entry.video is not None}
    return frozenset(finished.intersection(video_ids))


async def _read(call: Callable[[Journal], T]) -> T:
    def work() -> T:
        journal = Journal()
        try:
            return call(journal)
        except (sqlite3.Error, OSError) as exc:
            where = "" if journal.shown == "The journal" else f" {journal.shown}"
            raise UploaderError(f"The journal{where} cannot be used: {reason_of(exc)}.") from exc
        finally:
            journal.close()

    return await anyio.to_thread.run_sync(work)


def _shown(entry: Entry) -> UnfinishedUpload:
    missing = entry.missing if entry.video is None else []
    parts_total, total_bytes = sum(1 for _ in entry.plan.parts()), entry.fingerprint.identity.size_bytes
    return UnfinishedUpload(
        video_id=entry.video_id,
        path=entry.path,
        base_url=entry.account.base_url,
        started_at=entry.started_at,
        parts_done=parts_total - len(missing),
        parts_total=parts_total,
        acknowledged_bytes=total_bytes - sum(part.size_bytes for part in missing),
        total_bytes=total_bytes,
        finished=entry.video is not None,
    )
