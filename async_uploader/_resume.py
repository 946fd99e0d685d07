"""Going on with an upload that was interrupted: who may, from where, and with what.

The journal (or, on another machine, a mark in the container's own metadata) tells which container a source was
going into and how it was cut. What has arrived, the service tells. One process at a time goes on: a file lock,
which dies with its process, keeps others off.

Nothing here may keep an upload from happening: where the journal cannot be used, the upload goes ahead without
it, and says so once.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import sqlite3
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal, Self, TypeVar

import filelock
from anyio import move_on_after

from ._errors import ApiError, SourceError
from ._journal import Account, Entry, Fingerprint, Journal, state_directory
from ._models import MARK_PLAN, MARK_SOURCE, Video, VideoStatus
from ._options import TransferOptions
from ._outcome import is_whole, received_parts
from ._pacing import Pacing
from ._plan import Plan
from ._ratelimit import Kind
from ._service import Service
from ._source import FileSource
from ._units import format_size

T = TypeVar("T")

#: What is said here is meant for the user who runs the upload, INFO included.
log: Final = logging.getLogger("async_uploader.resume")

# Cancellation must stop within a second, also where the disk hangs.
_LAST_WRITE_SECONDS: Final = 0.5

Ranges = Literal["part", "bytes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """An upload to go on with: the container, how the source was cut, which parts the service has."""

    video_id: str
    ranges: Ranges
    part_bytes: int
    received: frozenset[int]
    whole: bool


class Keeper:
    """The journal and the locks, on a thread of their own; broken once, they are left alone."""

    def __init__(self) -> None:
        self._journal = Journal()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="async_uploader-journal")
        self._is_broken = False

    async def journal(self, call: Callable[[Journal], T]) -> T | None:
        """Do something with the journal; None when it cannot be used."""
        return await self._run(partial(call, self._journal))

    async def journal_always(self, call: Callable[[Journal], T]) -> T | None:
        """The same, also when cancelled meanwhile; but then a disk that hangs is not waited for."""
        doing = asyncio.ensure_future(self.journal(call))
        try:
            return await asyncio.shield(doing)
        except asyncio.CancelledError:
            with move_on_after(_LAST_WRITE_SECONDS, shield=True):
                await asyncio.wait([doing])
            doing.cancel()
            raise

    async def lock(self, name: str) -> filelock.FileLock | None:
        """A lock that dies with this process; None when there can be none.

        :raises filelock.Timeout: another process holds it
        """
        return await self._run(partial(_locked, state_directory() / "locks" / f"{name}.lock"))

    async def unlock(self, lock: filelock.FileLock) -> None:
        """Let go of a lock; done when this returns, so that the next upload of the same source can begin."""
        with move_on_after(_LAST_WRITE_SECONDS, shield=True):
            # wait() and not the future itself: that would be cancelled when it takes too long, and not happen.
            await asyncio.wait([asyncio.wrap_future(self._thread.submit(_unlocked, lock))])

    def close(self) -> None:
        """Close the file and end the thread, once it has done what it still has to do."""
        self._thread.submit(self._journal.close)
        self._thread.shutdown(wait=False)

    async def _run(self, call: Callable[[], T]) -> T | None:
        if self._is_broken:
            return None
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except filelock.Timeout:
            raise
        except (sqlite3.Error, OSError) as exc:
            if not self._is_broken:  # once, however many writes were waiting
                log.warning(
                    "%s cannot be used (%s): this upload goes on, but could not be resumed.",
                    *(self._journal.path, exc),
                )
            self._is_broken = True
            return None


def _locked(path: Path) -> filelock.FileLock:
    for folder in (path.parent.parent, path.parent):  # a mode holds for the last one that mkdir() makes
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = filelock.FileLock(path, mode=0o600, thread_local=False)
    lock.acquire(blocking=False)
    return lock


def _unlocked(lock: filelock.FileLock) -> None:
    # Unlinked while it is held, so that no lock files pile up: who has it open already finds it gone.
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()


def account_of(secret: str, base_url: str) -> Account:
    """What the journal knows a credential by."""
    digest = hashlib.blake2b(f"{base_url}\0{secret}".encode(), digest_size=16, person=b"async_uploader")
    return Account(fingerprint=digest.hexdigest(), base_url=base_url)


class Resume:
    """One source's chance to go on. Use as an async context manager: it holds the source's lock.

    With ``resume=True`` the container is also marked, and found by its mark; with ``"local"`` there is only the
    journal.

    :raises SourceError: on entering, when another process uploads this source to this account
    """

    def __init__(
        self,
        source: FileSource,
        *,
        options: TransferOptions,
        account: Account,
        keeper: Keeper,
        service: Service,
        pacing: Pacing,
    ) -> None:
        self._source = source
        self._options = options
        self._account = account
        self._keeper = keeper
        self._service = service
        self._pacing = pacing
        self._is_marked = options.resume is True and not service.delegated
        self._path = source.path.absolute()
        self._lock: filelock.FileLock | None = None
        self._entry: Entry | None = None

    async def __aenter__(self) -> Self:
        whose = bytes(self._path) + self._account.fingerprint.encode()
        try:
            self._lock = await self._keeper.lock(hashlib.blake2b(whose, digest_size=16).hexdigest())
            sample = await self._source.sample()
        except filelock.Timeout as exc:
            raise SourceError(f"{self._source.shown} is being uploaded by another process already.") from exc
        except BaseException:
            await self.__aexit__()
            raise
        self._fingerprint = Fingerprint(identity=self._source.identity, sample=sample)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._lock is not None:
            await self._keeper.unlock(self._lock)

    async def begun(self) -> Begun | None:
        """What to go on with, if there is something; the reasons against it are said."""
        begun = await self._from_journal()
        if begun is None:
            begun = await self.marked()
        if begun is not None:
            self._say(begun)
        return begun

    def _say(self, begun: Begun) -> None:
        name = self._source.name
        if begun.whole:
            log.info("%s: video %s is complete already.", name, begun.video_id)
            return
        plan = Plan(total_bytes=self._source.size_bytes, part_bytes=begun.part_bytes, concurrency=1)
        log.info(
            "%s: going on with video %s, where %d of %s parts have arrived.",
            *(name, begun.video_id, len(begun.received), plan.parts_total),
        )
        if self._options.part_size not in (None, begun.part_bytes) or self._options.ranges != begun.ranges:
            log.warning(
                "%s: the upload was begun in %s of %s, and goes on so.",
                *(name, "parts" if begun.ranges == "part" else "byte ranges", format_size(begun.part_bytes)),
            )

    async def _from_journal(self) -> Begun | None:
        entries = await self._keeper.journal(lambda journal: journal.find(self._path)) or []
        mine = [entry for entry in entries if entry.account == self._account]
        if entries and not mine:
            log.info(
                "%s: an upload to another account or host is unfinished; this is a new one.", self._source.name
            )
        for entry in mine:
            if self._options.video_id in (None, entry.video_id):
                self._entry = entry
                if entry.fingerprint == self._fingerprint:
                    return await self._reconciled(entry)
                await self._give_up(entry)
        return None

    async def _reconciled(self, entry: Entry) -> Begun | None:
        if self._service.delegated:
            # An upload token cannot ask; what was acknowledged is all that is known.
            return _begun(entry.video_id, entry.ranges, entry.part_bytes, entry.parts_done)
        status = await self._status(entry.video_id)
        if status is None:
            log.warning("%s: video %s is gone; starting anew.", self._source.name, entry.video_id)
            await self.forget()
            return None
        begun = _arrived(status, entry.video_id, entry.ranges, entry.part_bytes, self._source.size_bytes)
        if begun is None:
            log.warning(
                "%s: video %s holds something else by now; starting anew.", self._source.name, entry.video_id
            )
            await self.forget()
        return begun

    async def _give_up(self, entry: Entry) -> None:
        """Another file lies at the path: the half of the old one is of no use to anybody."""
        log.warning("%s has changed since its upload began; starting anew.", self._source.name)
        await self.forget()
        if not self._service.delegated and self._options.video_id is None:
            status = await self._status(entry.video_id)
            if status is not None and is_whole(status, total_bytes=entry.plan.total_bytes) is None:
                await self._ask(Kind.WRITE, "delete", lambda: self._service.delete_video(entry.video_id))

    async def marked(self) -> Begun | None:
        """What the marks of the account's containers tell about this source."""
        if not self._is_marked or self._options.video_id is not None:
            return None
        query: dict[str, str | list[str]] = {f"metadata[{MARK_SOURCE}]": self._fingerprint.sample}
        videos, _ = await self._ask(Kind.READ, "look for its mark", lambda: self._service.list_videos(query))
        for video in videos:
            plan = {entry.key: entry.value for entry in video.metadata}.get(MARK_PLAN)
            match = re.fullmatch(r"(part|bytes)-(\d{7,9})", plan or "")
            status = await self._status(video.video_id) if match else None
            if match and status:
                ranges: Ranges = "part" if match[1] == "part" else "bytes"
                begun = _arrived(status, video.video_id, ranges, int(match[2]), self._source.size_bytes)
                if begun is not None:
                    return begun
        return None

    async def _status(self, video_id: str) -> VideoStatus | None:
        try:
            return await self._ask(Kind.READ, "status", lambda: self._service.get_status(video_id))
        except ApiError as exc:
            if exc.status == 404:
                return None
            raise

    async def _ask(self, kind: Kind, what: str, request: Callable[[], Awaitable[T]]) -> T:
        return await self._pacing.run(kind, request, what=what)

    def marks(self, plan: Plan) -> list[dict[str, str]]:
        """Metadata entries by which a new container can be found from anywhere."""
        if not self._is_marked:
            return []
        return [
            {"key": MARK_SOURCE, "value": self._fingerprint.sample},
            {"key": MARK_PLAN, "value": f"{self._options.ranges}-{plan.part_bytes}"},
        ]

    async def unmark(self, video: Video) -> Video:
        """Take the marks off a finished video; one that keeps them is no less finished."""
        kept = [entry for entry in video.metadata if entry.key not in (MARK_SOURCE, MARK_PLAN)]
        if not self._is_marked or len(kept) == len(video.metadata):
            return video
        metadata = [{"key": entry.key, "value": entry.value} for entry in kept]
        try:
            return await self._ask(
                Kind.WRITE, "unmark", lambda: self._service.update_video(video.video_id, {"metadata": metadata})
            )
        except ApiError as exc:
            log.warning(
                "%s: its mark could not be removed from video %s: %s", self._source.name, video.video_id, exc
            )
            return video

    async def record(self, video_id: str, *, ranges: Ranges, part_bytes: int, received: frozenset[int]) -> None:
        """Remember what goes into which container, and how. Not to be interrupted: the container exists."""
        begin = partial(
            Journal.begin,
            path=self._path,
            account=self._account,
            video_id=video_id,
            fingerprint=self._fingerprint,
            ranges=ranges,
            part_bytes=part_bytes,
            parts_done=received,
        )
        self._entry = await self._keeper.journal_always(begin)

    async def acknowledged(self, part_number: int) -> None:
        """Remember that the service has a part."""
        if (entry := self._entry) is not None:
            await self._keeper.journal(lambda journal: journal.acknowledge(entry.id, part_number))

    async def forget(self) -> None:
        """There is nothing to go on with any more."""
        if (entry := self._entry) is not None:
            self._entry = None
            await self._keeper.journal_always(lambda journal: journal.forget(entry.id))


def _arrived(
    status: VideoStatus, video_id: str, ranges: Ranges, part_bytes: int, total_bytes: int
) -> Begun | None:
    """What the service has of a source that was cut so; None if it has something else."""
    whole = is_whole(status, total_bytes=total_bytes)
    if whole is False:
        return None
    plan = Plan(total_bytes=total_bytes, part_bytes=part_bytes, concurrency=1)
    received = received_parts(status, plan.parts(), ranges=ranges)
    listed = status.ingest.received_parts
    if ranges == "part" and listed and len(received) != len(listed.parts):
        return None
    return _begun(video_id, ranges, part_bytes, received, whole=whole is True)


def _begun(
    video_id: str, ranges: Ranges, part_bytes: int, received: frozenset[int], *, whole: bool = False
) -> Begun:
    return Begun(video_id=video_id, ranges=ranges, part_bytes=part_bytes, received=received, whole=whole)
