"""Going on with an upload that was interrupted: who may, from where, and with what.

The journal (or, on another machine, a mark in the container's own metadata) tells which container a source was
going into and how it was cut. What has arrived, the service tells. One process at a time goes on: a file lock,
which dies with its process, keeps others off.

What was created but not recorded is found, too: before a container is created, the journal records an *intent*, a
random id that the container carries in its metadata until it is finished. With marks there is no need for one.

Nothing here may keep an upload from happening: where the journal cannot be used, the upload goes ahead without
it, and says so once.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar

import filelock
from anyio import move_on_after

from async_uploader._api.service import Service
from async_uploader._errors import ApiError, SourceError, UploaderError
from async_uploader._flow.rate_limit import RequestKind
from async_uploader._flow.retries import RetryRunner
from async_uploader._models import MARK_INTENT, MARK_PLAN, MARK_SOURCE, Metadata, Video, VideoStatus
from async_uploader._options import TransferOptions
from async_uploader._outcome import is_empty, is_gone, is_whole, received_parts
from async_uploader._plan import Plan
from async_uploader._sources.file import FileSource
from async_uploader._sources.identity import ContentsChanged
from async_uploader._units import format_size

from .journal import Account, Entry, Fingerprint, Journal, reason_of, state_directory

T = TypeVar("T")

#: What is said here is meant for the user who runs the upload, INFO included.
log: Final = logging.getLogger("async_uploader.resume")

# Cancellation must stop within a second, also where the disk hangs.
_LAST_WRITE_SECONDS: Final = 0.5
# Enough to be unique in an account.
_INTENT_BYTES: Final = 16
# Entries of a container's metadata that are ours.
_MARKS: Final = (MARK_SOURCE, MARK_PLAN, MARK_INTENT)

Ranges = Literal["part", "bytes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePoint:
    """An upload to go on with: the container, how the source was cut, which parts the service has.

    :ivar video: the finished Video, where it is known without asking
    """

    video_id: str
    ranges: Ranges
    part_bytes: int
    received: frozenset[int]
    whole: bool
    video: Video | None = None


class JournalWorker:
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
        return await self._run(partial(_locked, name))

    async def unlock(self, *locks: filelock.FileLock) -> None:
        """Let go of locks; done when this returns, so that the next upload of the same source can begin."""
        with move_on_after(_LAST_WRITE_SECONDS, shield=True):
            # wait() and not the future itself: that would be cancelled when it takes too long, and not happen.
            await asyncio.wait([asyncio.wrap_future(self._thread.submit(_unlocked, locks))])

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
                    *(self._journal.shown, reason_of(exc)),
                )
            self._is_broken = True
            return None


def _locked(name: str) -> filelock.FileLock:
    path = state_directory() / "locks" / f"{name}.lock"
    for folder in (path.parent.parent, path.parent):  # a mode holds for the last one that mkdir() makes
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = filelock.FileLock(path, mode=0o600, thread_local=False)
    lock.acquire(blocking=False)
    return lock


def _unlocked(locks: Iterable[filelock.FileLock]) -> None:
    for lock in locks:
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
        keeper: JournalWorker,
        service: Service,
        retries: RetryRunner,
    ) -> None:
        self._source = source
        self._options = options
        self._account = account
        self._keeper = keeper
        self._service = service
        self._retries = retries
        self._is_marked = options.resume is True and not service.delegated
        self._path = source.real_path
        self._locks: list[filelock.FileLock] = []
        self._entry: Entry | None = None
        self._given_up: set[str] = set()
        # What upload.video of the entry holds.
        self._noted: Mapping[str, Any] | None = None
        # The intent that the container carries, or is about to carry; committed.
        self._intent: str | None = None
        # Intents whose containers are looked for once more at the end: a request of a dead process, or one whose
        # response was lost, may still have been on its way when they were looked for.
        self._open_intents: list[str] = []

    @property
    def is_marked(self) -> bool:
        """Whether a container that is created now carries marks, which tell the plan, too."""
        return self._is_marked

    @property
    def can_resume(self) -> bool:
        """Whether a later run finds the container: by the journal, or by what its metadata carries."""
        is_marked = self._is_marked and self._options.video_id is None
        return is_marked or self._entry is not None or self._intent is not None

    @property
    def is_recorded(self) -> bool:
        """Whether the journal knows the container."""
        return self._entry is not None

    async def __aenter__(self) -> Self:
        try:
            # Two locks: a file that is replaced meanwhile keeps its path, and one with two names its inode.
            identity = self._source.identity
            for name in (bytes(self._path), f"{identity.device}:{identity.inode}".encode()):
                whose = hashlib.blake2b(name + self._account.fingerprint.encode(), digest_size=16).hexdigest()
                if (lock := await self._keeper.lock(whose)) is not None:
                    self._locks.append(lock)
            sample = await self._source.sample()
        except filelock.Timeout as exc:
            await self.__aexit__()
            raise SourceError(f"{self._source.shown} is being uploaded by another process already.") from exc
        except BaseException:
            await self.__aexit__()
            raise
        self._fingerprint = Fingerprint(identity=self._source.identity, sample=sample)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._locks:
            # Both at once: a disk that hangs holds up a cancellation only once.
            locks, self._locks = self._locks, []
            await self._keeper.unlock(*locks)

    async def begun(self) -> ResumePoint | None:
        """What to go on with, if there is something; the reasons against it are said."""
        begun = await self._from_journal()
        if begun is None:
            begun = await self.marked()
        if begun is not None:
            self._say(begun)
        return begun

    def _say(self, begun: ResumePoint) -> None:
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

    async def _from_journal(self) -> ResumePoint | None:
        entries, self._open_intents = await self._keeper.journal(self._remembered) or ([], [])
        mine = [entry for entry in entries if entry.account == self._account]
        if entries and not mine:
            log.info(
                "%s: an upload to another account or host is unfinished; this is a new one.", self._source.name
            )
        wanted = [entry for entry in mine if self._options.video_id in (None, entry.video_id)]
        same = [entry for entry in wanted if entry.fingerprint == self._fingerprint]
        for entry in wanted:
            # Another file, found by its inode alone, has nothing to do with this one.
            if entry not in same and entry.path == self._path:
                await self._give_up(entry)
        for entry in sorted(same, key=lambda entry: entry.path != self._path):
            self._entry = entry
            if (begun := await self._reconciled(entry)) is not None:
                return begun
        return None

    def _remembered(self, journal: Journal) -> tuple[list[Entry], list[str]]:
        return journal.find(self._path, self._source.identity), journal.intents(self._path, self._account)

    async def _reconciled(self, entry: Entry) -> ResumePoint | None:
        self._noted = entry.video
        video = _untouched(entry)
        if self._service.delegated:
            done = _as_journaled(entry, video)
            return done if await self._is_unchanged(entry, done) else None
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
            return None
        if not await self._is_unchanged(entry, begun):
            return None
        return replace(begun, video=video) if begun.whole else begun

    async def _is_unchanged(self, entry: Entry, begun: ResumePoint) -> bool:
        """Whether the parts that the service has are those of the file as it is now; if not, give them up."""
        parts = [part for part in entry.plan.parts() if begun.whole or part.number in begun.received]
        try:
            await self._source.remember(
                parts, entry.checksums, ctime_ns=entry.ctime_ns, read_others=entry.ctime_ns is not None
            )
        except SourceError as exc:
            if not isinstance(exc.__cause__, ContentsChanged):
                raise  # unreadable now, or being written to: what has arrived may still be of use
            log.debug("%s", exc)
            self._source.forget()
            await self._give_up(entry)
            return False
        return True

    async def _give_up(self, entry: Entry) -> None:
        """Another file lies at the path: the half of the old one is of no use to anybody; a finished video is."""
        self._entry = entry
        self._given_up.add(entry.video_id)
        if entry.video is not None:
            log.info("%s has changed since it was uploaded; this is a new upload.", self._source.name)
            await self.forget()
            return
        log.warning("%s has changed since its upload began; starting anew.", self._source.name)
        await self.forget()
        if not self._service.delegated and self._options.video_id is None:
            status = await self._status(entry.video_id)
            if status is not None and _is_half(status, entry):
                await self._ask(RequestKind.WRITE, "delete", lambda: self._service.delete_video(entry.video_id))

    async def marked(self) -> ResumePoint | None:
        """What the marks of the account's containers tell about this source."""
        if not self._is_marked or self._options.video_id is not None:
            return None
        query: dict[str, str | list[str]] = {f"metadata[{MARK_SOURCE}]": self._fingerprint.sample}
        videos, _ = await self._ask(
            RequestKind.READ, "look for its mark", lambda: self._service.list_videos(query)
        )
        for video in videos:
            plan = {entry.key: entry.value for entry in video.metadata}.get(MARK_PLAN)
            match = re.fullmatch(r"(part|bytes)-(\d{7,9})", plan or "")
            is_open = match and video.video_id not in self._given_up
            status = await self._status(video.video_id) if is_open else None
            if match and status:
                ranges: Ranges = "part" if match[1] == "part" else "bytes"
                begun = _arrived(status, video.video_id, ranges, int(match[2]), self._source.size_bytes)
                if begun is not None:
                    await self._remember_as_sent(begun)
                    return begun
        return None

    async def _remember_as_sent(self, begun: ResumePoint) -> None:
        """Another machine sent these parts, of a copy: there are no checksums, and reading all would take long."""
        plan = Plan(total_bytes=self._source.size_bytes, part_bytes=begun.part_bytes, concurrency=1)
        parts = [part for part in plan.parts() if part.number in begun.received]
        await self._source.remember(parts, {}, ctime_ns=None, read_others=False)

    async def _status(self, video_id: str) -> VideoStatus | None:
        try:
            return await self._ask(RequestKind.READ, "status", lambda: self._service.get_status(video_id))
        except ApiError as exc:
            if is_gone(exc):
                return None
            raise

    async def _ask(self, kind: RequestKind, what: str, request: Callable[[], Awaitable[T]]) -> T:
        return await self._retries.run(kind, request, what=what)

    async def adopt(self) -> str | None:
        """An empty container that an earlier process has created for this source, and not recorded."""
        # A container without marks could not be resumed from elsewhere.
        for intent in () if self._is_marked else self._open_intents:
            for video in await self._with(intent):
                status = await self._status(video.video_id)
                if status is not None and is_empty(status):
                    log.info("%s: using video %s of an earlier run.", self._source.name, video.video_id)
                    self._intent = intent
                    return video.video_id
        return None

    async def announce(self, plan: Plan) -> list[dict[str, str]]:
        """Metadata entries by which the container that is created next can be found, whatever happens then."""
        if self._is_marked:
            return [
                {"key": MARK_SOURCE, "value": self._fingerprint.sample},
                {"key": MARK_PLAN, "value": f"{self._options.ranges}-{plan.part_bytes}"},
            ]
        intent = secrets.token_hex(_INTENT_BYTES)

        def intend(journal: Journal) -> None:
            journal.intend(intent, path=self._path, account=self._account)
            self._intent = intent

        await self._keeper.journal(intend)
        return [{"key": MARK_INTENT, "value": intent}] if self._intent else []

    async def made(self) -> str | None:
        """The container of a request whose response was lost, if the service knows it by now."""
        if self._is_marked:
            marked = await self.marked()
            return marked.video_id if marked else None
        if self._intent is None:
            return None
        if self._intent not in self._open_intents:
            self._open_intents.append(self._intent)
        videos = await self._with(self._intent)
        return videos[0].video_id if videos else None

    async def withdraw(self) -> None:
        """No container carries the intent: none was made, or it is deleted."""
        if (intent := self._intent) is not None:
            self._intent = None
            await self._keeper.journal_always(lambda journal: journal.withdraw([intent]))

    async def _with(self, intent: str) -> list[Video]:
        query: dict[str, str | list[str]] = {f"metadata[{MARK_INTENT}]": intent}
        videos, _ = await self._ask(
            RequestKind.READ, "look for its container", lambda: self._service.list_videos(query)
        )
        # Should a service not know this filter, all of its videos would come back.
        return [video for video in videos if (MARK_INTENT, intent) in _pairs(video.metadata)]

    async def finished(self, video: Video) -> Video:
        """Tidy up after a finished upload, and make sure that its Video is in the journal.

        :returns: the Video without our entries in its metadata
        """
        video = await self._unmarked(video)
        await self._delete_strays(video.video_id)
        is_wanted = self._noted is None or (self._options.keep_finished and self._noted != video.raw)
        if (entry := self._entry) is not None and is_wanted:
            await self._keeper.journal_always(lambda journal: journal.finish(entry.id, video.raw))
        return video

    async def _unmarked(self, video: Video) -> Video:
        """Take the marks off a finished video; one that keeps them is no less finished."""
        kept = [entry for entry in video.metadata if entry.key not in _MARKS]
        if self._service.delegated or len(kept) == len(video.metadata):
            return video
        metadata = [{"key": entry.key, "value": entry.value} for entry in kept]
        try:
            return await self._ask(
                RequestKind.WRITE,
                "unmark",
                lambda: self._service.update_video(video.video_id, {"metadata": metadata}),
            )
        except UploaderError as exc:
            log.warning(
                "%s: its mark could not be removed from video %s: %s", self._source.name, video.video_id, exc
            )
            return video

    async def _delete_strays(self, video_id: str) -> None:
        """Delete the empty containers of earlier attempts, but not the one that is the result."""
        if not (intents := self._open_intents):
            return
        try:
            for intent in intents:
                for video in await self._with(intent):
                    if video.video_id != video_id:
                        await self._delete_stray(video.video_id)
        except UploaderError as exc:
            log.warning("%s: an earlier run may have left an empty video: %s", self._source.name, exc)
            return
        await self._keeper.journal(lambda journal: journal.withdraw(intents))

    async def _delete_stray(self, video_id: str) -> None:
        status = await self._status(video_id)
        if status is None:
            return
        if is_empty(status):
            await self._ask(RequestKind.WRITE, "delete", lambda: self._service.delete_video(video_id))
        else:
            log.warning(
                "%s: an earlier run has begun video %s too, and cannot resume it; delete it, or let the service "
                "remove it after 7 days.",
                *(self._source.name, video_id),
            )

    async def record(
        self,
        video_id: str,
        *,
        ranges: Ranges,
        part_bytes: int,
        received: frozenset[int],
        video: Video | None = None,
    ) -> None:
        """Remember what goes into which container, and how. Not to be interrupted: the container exists.

        :param video: the finished Video, if the first part was all
        """
        intent = None if self._intent in self._open_intents else self._intent
        replaces = self._entry.id if self._entry else None
        found = {number: self._source.checksum(number) for number in received}
        checksums = {number: checksum for number, checksum in found.items() if checksum is not None}
        ctime_ns = self._source.ctime_ns

        def begin(journal: Journal) -> None:
            # Set here, where it is true: nobody may be waiting any more when the disk is slow.
            self._entry = journal.begin(
                path=self._path,
                account=self._account,
                video_id=video_id,
                fingerprint=self._fingerprint,
                ranges=ranges,
                part_bytes=part_bytes,
                parts_done=received,
                video=video.raw if video else None,
                intent=intent,
                checksums=checksums,
                ctime_ns=ctime_ns,
                replaces=replaces,
            )

        await self._keeper.journal_always(begin)
        # Parts follow now. By the intent alone nobody could tell later how they were cut.
        self._intent = None
        self._noted = video.raw if video else None

    async def acknowledged(self, part_number: int, video: Video | None) -> None:
        """Remember that the service has a part.

        :param video: the finished Video, if this part has completed it
        """
        raw = video.raw if video else None
        if (entry := self._entry) is not None:
            known = self._source.checksum(part_number), self._source.ctime_ns
            await self._keeper.journal(lambda journal: journal.acknowledge(entry.id, part_number, raw, *known))
            self._noted = raw or self._noted

    async def doubt(self) -> None:
        """Remember that not every part can have arrived that was acknowledged."""
        if (entry := self._entry) is not None:
            await self._keeper.journal(lambda journal: journal.doubt(entry.id))

    async def delivered(self) -> None:
        """The caller has the Video."""
        if not self._options.keep_finished:
            await self.forget()

    async def forget(self) -> None:
        """There is nothing to go on with any more."""
        if (entry := self._entry) is not None:
            self._entry = None
            await self._keeper.journal_always(lambda journal: journal.forget(entry.id))


def _pairs(metadata: tuple[Metadata, ...]) -> set[tuple[str | None, str | None]]:
    return {(entry.key, entry.value) for entry in metadata}


def _untouched(entry: Entry) -> Video | None:
    """The Video of a finished entry; None if it still has our marks, which only a fresh one can lose safely."""
    if entry.video is None:
        return None
    video = Video.from_answer(entry.video)
    return None if any(one.key in _MARKS for one in video.metadata) else video


def _as_journaled(entry: Entry, video: Video | None) -> ResumePoint:
    """What is known without asking, as with an upload token: what was acknowledged, and only that."""
    numbers = frozenset(part.number for part in entry.plan.parts())
    done = entry.parts_done & numbers
    if video is None and done == numbers:
        # The response to the last part tells that all of it has arrived; it was not recorded, so it is asked for
        # again.
        done -= {max(numbers)}
    begun = _begun(entry.video_id, entry.ranges, entry.part_bytes, done, whole=video is not None)
    return replace(begun, video=video)


def _is_half(status: VideoStatus, entry: Entry) -> bool:
    """Whether parts of an entry's upload are missing, so that it cannot be about to become a video."""
    begun = _arrived(status, entry.video_id, entry.ranges, entry.part_bytes, entry.fingerprint.identity.size_bytes)
    return begun is not None and not begun.whole and len(begun.received) < (entry.plan.parts_total or 0)


def _arrived(
    status: VideoStatus, video_id: str, ranges: Ranges, part_bytes: int, total_bytes: int
) -> ResumePoint | None:
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
) -> ResumePoint:
    return ResumePoint(video_id=video_id, ranges=ranges, part_bytes=part_bytes, received=received, whole=whole)
