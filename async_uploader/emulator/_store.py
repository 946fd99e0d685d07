"""Containers, their sources and the tokens: in memory for answering, in the data directory for good.

    emulator.lock          held while an emulator uses the directory
    bearers.json           access and refresh tokens
    upload-tokens/to….json
    videos/vi…/video.json  a container's details, and its finished source's size and SHA-256
    videos/vi…/…           pieces and the source, see `_source`
    tmp/                   bodies on their way in, deleted videos on their way out

The directory is the truth, read once at the start; there is no database. The received pieces are files anyway,
and a second record of them could disagree with them after a kill; what else there is is small, and one file for
each entity, replaced atomically, keeps the cost of a change independent of how many there are.

Three executors keep the event loop free: one thread for the small files, so that two writes of the same file
keep their order; several for bodies; and a nice one for joining and hashing, so that these never hold up bodies.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import re
import secrets
import shutil
import string
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import msgspec

from ._credentials import Bearers, UploadToken
from ._problems import Problem
from ._room import Room, Shortage, shortage_of
from ._rules import Piece, Range, Upload, Whole, check_range, check_size
from ._scratch import Scratch, sweep
from ._source import SourceFile, Stopped, piece_name
from ._spool import Spool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from ._reader import Reader

T = TypeVar("T")
Origin = Literal["upload", "copy", "download"]

VIDEO_ID: Final = re.compile(r"vi[0-9A-Za-z]{1,40}")
# How long a completing answer waits for a source to become one file; joining continues after that.
JOINING_PATIENCE_SECONDS: Final = 5.0
# How long closing waits for that, if the directory is kept: the next start does the rest. Shorter than the command
# line's patience with a command that was interrupted.
CLOSING_PATIENCE_SECONDS: Final = 0.5
_ALPHABET: Final = string.ascii_letters + string.digits
logger = logging.getLogger("async_uploader.emulator")


@dataclass(slots=True)
class Container:
    """What is written to `video.json`."""

    video_id: str
    created_s: float
    updated_s: float
    details: dict[str, object]
    origin: Origin = "upload"
    size_bytes: int | None = None
    sha256: str | None = None
    failed: bool = False


@dataclass(slots=True, eq=False)
class Video:
    container: Container
    source: SourceFile
    upload: Upload = field(default_factory=Upload)
    deleted: bool = False
    joining: asyncio.Task[None] | None = None
    # Why the last attempt to join has failed; another one follows the next piece, a deletion, or a restart.
    join_error: OSError | None = None
    # The piece that completed the upload, while its answer waits for the source to become one file.
    completing: Piece | None = None

    @property
    def is_finished(self) -> bool:
        """One file with a known SHA-256."""
        return self.container.sha256 is not None

    @property
    def filesize(self) -> int | None:
        return self.upload.landed_bytes if self.upload.is_complete else self.container.size_bytes

    @property
    def ingest_status(self) -> str | None:
        if self.container.origin == "upload":
            return "uploaded" if self.upload.is_complete else "uploading"
        return "ingested" if self.is_finished else "ingesting"

    @property
    def state(self) -> str:
        """Everything about the source in one word, as `VideoView` explains."""
        if self.is_finished:
            return "finished"
        if self.container.origin != "upload":
            return "failed" if self.has_failed else "importing"
        if self.upload.is_complete:
            return "failed" if self.has_failed else "uploaded"
        return "uploading" if self.upload.landed_pieces else "empty"

    @property
    def cannot_be_joined(self) -> bool:
        """All of the source is there, but joining it has failed."""
        return self.join_error is not None and self.upload.is_complete

    @property
    def has_failed(self) -> bool:
        """Nothing will come of it: an import that has failed, or a source that cannot be joined."""
        return self.container.failed or self.cannot_be_joined

    @property
    def encoding_status(self) -> str | None:
        if self.has_failed:
            return "failed"
        if self.is_finished:
            return "encoded"
        return "waiting" if self.upload.is_complete else None


class Store:
    """All state. Changes are made on the event loop, between two awaits; only files are touched in threads."""

    def __init__(self, root: Path | None, on_change: Callable[[], None]) -> None:
        self._scratch = Scratch() if root is None else None
        self._root = root
        self._room = Room()
        self._is_short = False
        self.shortage: Shortage | None = None
        self.videos: dict[str, Video] = {}
        self.upload_tokens: dict[str, UploadToken] = {}
        self.bearers = Bearers()
        self._on_change = on_change
        self._stop = threading.Event()
        self._small = ThreadPoolExecutor(1, "emulator-small")
        self._bodies = ThreadPoolExecutor(4, "emulator-body")
        self._joining = ThreadPoolExecutor(1, "emulator-join", _be_nice)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._background: set[asyncio.Task[Any]] = set()
        self._lock = -1

    # Opening and closing

    async def open(self) -> None:
        """Take the directory and read it."""
        await self._run(self._small, self._load)
        for video in self.videos.values():
            self._join(video)

    async def close(self) -> None:
        """Let what has begun to land finish, stop joining what takes long, release the directory."""
        almost = [video.joining for video in self.videos.values() if video.joining and video.upload.is_complete]
        if almost and self._scratch is None:
            await asyncio.wait(almost, timeout=CLOSING_PATIENCE_SECONDS)
        self._stop.set()
        for task in self._background:
            task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._run(self._small, self._leave)
        self._small.shutdown()  # its thread has nothing left to do

    def abandon(self) -> None:
        """Remove a temporary directory now, whatever still works in it; harmless after `close`."""
        self._stop.set()
        if self._scratch is not None:
            self._scratch.remove()

    @property
    def root(self) -> Path:
        assert self._root is not None
        return self._root

    # Containers

    def video(self, video_id: str) -> Video:
        video = self.videos.get(video_id)
        if video is None:
            raise Problem("resource-not-found", name="videoId")
        return video

    async def create(self, details: dict[str, object], origin: Origin = "upload") -> Video:
        """A new container; a caller that is cancelled does not leave half of one."""
        return await asyncio.shield(self._task(self._create(details, origin)))

    async def _create(self, details: dict[str, object], origin: Origin) -> Video:
        now = time.time()
        container = Container(_new_id("vi"), now, now, details, origin)
        directory = self.root / "videos" / container.video_id
        video = Video(container, SourceFile(directory, self._stop, self._room))
        await self._run(self._small, directory.mkdir)
        try:
            await self._save(video)
        except OSError:
            await self._run(self._small, _remove, directory)
            raise
        self.videos[container.video_id] = video
        self._on_change()
        return video

    async def update(self, video: Video, details: dict[str, object]) -> None:
        container = video.container
        before = container.details, container.updated_s
        container.details, container.updated_s = {**container.details, **details}, time.time()
        try:
            await self._save(video)
        except OSError:
            container.details, container.updated_s = before
            raise
        self._on_change()

    async def delete(self, video: Video) -> None:
        """Gone at once; the files follow when nobody works on them any more."""
        video.deleted = True
        del self.videos[video.container.video_id]
        self._on_change()
        await asyncio.shield(self._task(self._delete(video)))

    async def _delete(self, video: Video) -> None:
        if video.joining is not None:
            await asyncio.wait([video.joining])
        # Moved first, so that whoever still comes with a file finds no directory to put it in.
        grave = self.root / "tmp" / video.container.video_id
        await self._run(self._small, video.source.directory.rename, grave)
        await self._run(self._bodies, _remove, grave)
        for other in self.videos.values():
            if other.join_error is not None:  # there is more room now
                self._join(other)

    # Reading files

    async def ask(self, question: Callable[[], T]) -> T:
        """What a function finds out from the system."""
        return await self._run(self._small, question)

    async def read(self, reader: Reader, offset: int, count: int) -> bytes:
        return await self._run(self._bodies, reader.read, offset, count)

    async def read_text(self, path: Path) -> str:
        return await self._run(self._bodies, path.read_text, "utf-8")

    def release(self, reader: Reader) -> None:
        self._bodies.submit(reader.close)

    # Pieces

    def spool(self, expected_bytes: int | None = None) -> Spool:
        """Takes a body of at most so many bytes; None if that is not known."""
        return Spool(self.root / "tmp", self._room, expected_bytes)

    async def write(self, spool: Spool, buffers: list[bytes | memoryview]) -> None:
        await self._run(self._bodies, spool.write, buffers)

    def discard(self, spool: Spool) -> None:
        self._bodies.submit(spool.discard)

    def land(
        self, video: Video, wanted: Range, spool: Spool, size_bytes: int, *, will_wait: bool = False
    ) -> Awaitable[bool]:
        """Keep a body as a piece of the video; the result tells whether this completed the upload.

        With `will_wait`, the caller calls `joined` if it has; the piece is not kept if joining fails by then.

        Others may have landed while the body came in, so it is judged again, and reserved in the same step.
        From here on the spool is the store's, and a caller that is cancelled stops nothing: half a landing
        would be neither received nor refused.
        """
        check_range(video.upload, wanted)
        check_size(video.upload, wanted, size_bytes)
        return self.keep(video, wanted, spool, size_bytes, will_wait=will_wait)

    def keep(
        self, video: Video, wanted: Range, spool: Spool, size_bytes: int, *, will_wait: bool = False
    ) -> Awaitable[bool]:
        """`land` without a judgement, for sources that the service fetched itself."""
        if video.deleted:
            raise Problem("resource-not-found", name="videoId")
        piece = Piece(wanted, size_bytes)
        video.upload.reserve(piece)
        landing = self._task(self._land(video, piece, spool, will_wait=will_wait))
        # Its caller may be gone by the time that it fails.
        landing.add_done_callback(lambda done: done.cancelled() or done.exception())
        return asyncio.shield(landing)

    async def _land(self, video: Video, piece: Piece, spool: Spool, *, will_wait: bool) -> bool:
        try:
            await self._run(self._bodies, spool.keep, video.source.directory / piece_name(piece.range))
        except OSError as error:
            video.upload.release(piece)
            self.discard(spool)
            if not isinstance(error, FileNotFoundError):
                raise
            raise Problem("resource-not-found", name="videoId") from error
        if video.deleted:
            raise Problem("resource-not-found", name="videoId")
        video.upload.land(piece)
        self._is_short &= video.upload.is_complete  # then joining tells
        if will_wait and video.upload.is_complete:
            video.completing = piece
        self._join(video)
        self._on_change()
        return video.upload.is_complete

    async def copy_source(self, origin: Video, video: Video) -> None:
        """Clone a finished source. A hard link will do: finished sources never change."""
        target = video.source.directory / piece_name(Whole())
        try:
            await self._run(self._bodies, _link, origin.source.path, target)
        except OSError:  # the original was deleted meanwhile
            await self.fail(video)
            return
        piece = Piece(Whole(), origin.container.size_bytes or 0)
        video.upload.reserve(piece)
        video.upload.land(piece)
        self._join(video)

    async def fail(self, video: Video) -> None:
        """Note that an import has failed."""
        video.container.failed = True
        self._on_change()
        try:
            await self._save(video)
        except OSError as error:
            logger.warning("The failed import of video %s is not saved: %s", video.container.video_id, error)

    # A full disk

    async def short(self, error: OSError) -> Shortage | None:
        """What an error says about the disk, said once in the log until something lands again; else None."""
        shortage = await self._run(self._small, shortage_of, error, self.root)
        if shortage is not None:
            self.shortage = shortage
            if not self._is_short:
                logger.warning("%s", shortage)
            self._is_short = True
            self._on_change()
        return shortage

    # Joining

    async def joined(self, video: Video) -> None:
        """Return once the source is one file, or shortly: an answer must not outlast its client's patience.

        :raises OSError: it cannot be joined; if possible, the completing piece is taken back, so that it can be
            sent again
        """
        try:
            if video.joining is not None:
                await asyncio.wait([video.joining], timeout=JOINING_PATIENCE_SECONDS)
            if video.join_error is not None:
                raise video.join_error
        finally:
            video.completing = None

    def retry_joining(self, video: Video) -> None:
        """Join again, if the last attempt has failed: somebody asks for this video."""
        if video.join_error is not None:
            self._join(video)

    def _join(self, video: Video) -> None:
        """Join this video's pieces as far as they are there, unless that is being done."""
        if not video.is_finished and (video.joining is None or video.joining.done()):
            video.join_error = None
            video.joining = self._task(self._join_pieces(video))

    async def _join_pieces(self, video: Video) -> None:
        try:
            await self._join_all(video)
        except Stopped:
            pass
        except OSError as error:
            if not video.deleted:
                await self._fail_to_join(video, error)

    async def _join_all(self, video: Video) -> None:
        upload = video.upload
        while not video.deleted and (piece := upload.next_to_merge()):
            await self._run(self._joining, video.source.append, piece, upload.merged_bytes)
            upload.merge(piece)
        if not upload.is_complete or video.deleted:
            return
        await self._run(self._joining, video.source.hash_prefix, upload.merged_bytes)
        video.container.size_bytes = upload.merged_bytes
        video.container.sha256 = video.source.sha256()
        self._is_short = False
        self._on_change()
        try:
            await self._save(video)
        except OSError as error:  # the pieces are saved; the next start hashes them again
            logger.warning("The end of video %s is not saved: %s", video.container.video_id, error)

    async def _fail_to_join(self, video: Video, error: OSError) -> None:
        """Note why, once the completing piece is taken back: until then nothing else can be sent to this video."""
        upload, piece = video.upload, video.completing
        if upload.is_complete:
            if await self.short(error) is None:
                logger.warning("Video %s cannot be joined: %s", video.container.video_id, error)
            if piece is not None:
                with suppress(OSError):
                    taken = await self._run(self._joining, video.source.take_back, piece, upload.merged_bytes)
                    if taken:
                        upload.take_back(piece)
        video.join_error = error
        self._on_change()

    # Tokens

    async def save_bearers(self) -> None:
        await self._replace(self.root / "bearers.json", self.bearers)

    async def create_upload_token(self, ttl_s: int) -> UploadToken:
        token = UploadToken(_new_id("to"), ttl_s, time.time())
        await self._replace(self._token_path(token), token)
        self.upload_tokens[token.token] = token
        return token

    async def delete_upload_token(self, token: UploadToken) -> None:
        del self.upload_tokens[token.token]
        await self._run(self._small, self._token_path(token).unlink)

    def live_upload_token(self, value: str) -> UploadToken | None:
        token = self.upload_tokens.get(value)
        return token if token is not None and token.is_live(time.time()) else None

    def _token_path(self, token: UploadToken) -> Path:
        return self.root / "upload-tokens" / f"{token.token}.json"

    # Files

    async def _save(self, video: Video) -> None:
        try:
            await self._replace(video.source.directory / "video.json", video.container)
        except FileNotFoundError:
            if not video.deleted:
                raise

    async def _replace(self, path: Path, content: object) -> None:
        """Write a small file so that a reader finds the old or the new one, also after a kill."""
        await self._run(self._small, _write_atomically, path, msgspec.json.encode(content))

    def _load(self) -> None:
        if self._scratch is not None:
            sweep()
            self._root = self._scratch.make()
        try:
            self._take()
            self._read()
        except (OSError, msgspec.MsgspecError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ValueError(f"The data directory {self.root} cannot be used: {reason}.") from error

    def _take(self) -> None:
        """Make the directory ours; one that holds anything else is left alone, for files are deleted in it."""
        if self._scratch is None:  # a temporary one is there, or it is removed and must not come back
            self.root.mkdir(parents=True, exist_ok=True)
        lock = self.root / "emulator.lock"
        if not lock.exists() and any(self.root.iterdir()):
            raise ValueError(f"The data directory {self.root} is not empty, and not an emulator's.")
        self._lock = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"Another emulator uses the data directory {self.root}.") from error

    def _read(self) -> None:
        _remove(self.root / "tmp")
        for name in ("tmp", "videos", "upload-tokens"):
            (self.root / name).mkdir(exist_ok=True)
        if (self.root / "bearers.json").exists():
            self.bearers = msgspec.json.decode((self.root / "bearers.json").read_bytes(), type=Bearers)
        for path in (self.root / "upload-tokens").glob("*.json"):
            token = msgspec.json.decode(path.read_bytes(), type=UploadToken)
            self.upload_tokens[token.token] = token
        for directory in (self.root / "videos").iterdir():
            self._read_video(directory)

    def _read_video(self, directory: Path) -> None:
        try:
            container = msgspec.json.decode((directory / "video.json").read_bytes(), type=Container)
        except FileNotFoundError:  # killed while it was being created
            _remove(directory)
            return
        source = SourceFile(directory, self._stop, self._room)
        self.videos[container.video_id] = Video(container, source, source.recover())

    def _leave(self) -> None:
        self._bodies.shutdown()
        self._joining.shutdown()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        if self._scratch is not None:
            self._scratch.remove()

    async def _run(self, executor: ThreadPoolExecutor, function: Callable[..., T], *arguments: object) -> T:
        """Work in a thread; a caller that is cancelled leaves it to be done, and to fail."""
        work = asyncio.get_running_loop().run_in_executor(executor, function, *arguments)
        work.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(work)

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Let work run that no request waits for; it is broken off when the store closes."""
        task = self._task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".new")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _be_nice() -> None:
    """Leave the processor to the requests; Linux gives every thread a niceness of its own."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # not every file system has them
        shutil.copyfile(source, target)


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)


def _new_id(prefix: str) -> str:
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(24))
