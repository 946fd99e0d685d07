"""The data directory: its layout, its lock, and its small files.

    emulator.lock          locked while an emulator uses the directory
    bearers.json           access and refresh tokens
    ca.pem                 the certificate authority, with TLS
    upload-tokens/to….json
    webhooks/webhook_….json, watermarks/watermark_….json
    videos/vi…/video.json  a container's details, and the size and SHA-256 of its finished source
    videos/vi…/…           parts and the source, see `source_file`; captions, chapters, thumbnail, HLS
    tmp/                   bodies that are being received, videos that are being deleted

The directory is the only persistent state; there is no database. The received parts are files anyway, and a second
record of them could contradict them after a kill. Everything else is small. One file per entity, replaced
atomically, keeps the cost of a change independent of the number of entities.

All of this blocks, and runs in threads.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from typing import TYPE_CHECKING

import msgspec

from async_uploader.emulator._credentials import Bearers, UploadToken

from .disk_space import DiskSpace
from .source_file import SourceFile
from .temporary_directory import TemporaryDirectory, remove_stale
from .video import Container, Video

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from threading import Event


class DataDirectory:
    """The directory of one emulator.

    :param root: the directory, which is kept; None creates a temporary one, which is removed
    :param stop: set to interrupt work on the sources
    """

    def __init__(self, root: Path | None, stop: Event) -> None:
        self._temporary = TemporaryDirectory() if root is None else None
        self._root = root
        self._stop = stop
        self._lock = -1
        self.space = DiskSpace()

    @property
    def root(self) -> Path:
        assert self._root is not None
        return self._root

    @property
    def is_temporary(self) -> bool:
        return self._temporary is not None

    @property
    def incoming(self) -> Path:
        """Where the files of incomplete bodies are."""
        return self.root / "tmp"

    @property
    def bearers_path(self) -> Path:
        return self.root / "bearers.json"

    def video_directory(self, video_id: str) -> Path:
        return self.root / "videos" / video_id

    def upload_token_path(self, token: UploadToken) -> Path:
        return self.root / "upload-tokens" / f"{token.token}.json"

    def source_file(self, video_id: str) -> SourceFile:
        return SourceFile(self.video_directory(video_id), self._stop, self.space)

    # Opening and closing

    def open(self) -> None:
        """Lock the directory and prepare its layout.

        :raises ValueError: the directory belongs to another program or emulator, or cannot be used
        """
        if self._temporary is not None:
            remove_stale()
            self._root = self._temporary.create()
        try:
            self._lock_root()
            remove_tree(self.incoming)
            for name in ("tmp", "videos", "upload-tokens"):
                (self.root / name).mkdir(exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    def load(self) -> tuple[Bearers, list[UploadToken], list[Video]]:
        """Read the state.

        :raises ValueError: it cannot be read
        """
        try:
            return self._read_bearers(), list(self._read_upload_tokens()), list(self._read_videos())
        except (OSError, msgspec.MsgspecError) as error:
            raise self._unusable(error) from error

    def close(self) -> None:
        """Release the lock, and remove a temporary directory."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        self.remove_temporary()

    def remove_temporary(self) -> None:
        """Remove a temporary directory now, even if threads still write to it. Does nothing after `close`."""
        if self._temporary is not None:
            self._temporary.remove()

    def _lock_root(self) -> None:
        """Lock the directory. One with unknown files is refused, because the emulator deletes files in it."""
        if self._temporary is None:  # a temporary directory exists, or was removed and must not be created again
            self.root.mkdir(parents=True, exist_ok=True)
        lock = self.root / "emulator.lock"
        if not lock.exists() and any(self.root.iterdir()):
            raise ValueError(f"The data directory {self.root} is not empty and was not created by an emulator.")
        self._lock = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"Another emulator uses the data directory {self.root}.") from error

    def _unusable(self, error: Exception) -> ValueError:
        reason = error.strerror if isinstance(error, OSError) else error
        return ValueError(f"The data directory {self.root} cannot be used: {reason}.")

    # Reading

    def _read_bearers(self) -> Bearers:
        if not self.bearers_path.exists():
            return Bearers()
        return msgspec.json.decode(self.bearers_path.read_bytes(), type=Bearers)

    def _read_upload_tokens(self) -> Iterator[UploadToken]:
        for path in (self.root / "upload-tokens").glob("*.json"):
            yield msgspec.json.decode(path.read_bytes(), type=UploadToken)

    def _read_videos(self) -> Iterator[Video]:
        for directory in (self.root / "videos").iterdir():
            try:
                container = msgspec.json.decode((directory / "video.json").read_bytes(), type=Container)
            except FileNotFoundError:  # the process was killed while it created this video
                remove_tree(directory)
                continue
            source = self.source_file(container.video_id)
            yield Video(container, source, source.recover())


def replace_file(path: Path, content: bytes) -> None:
    """Replace a small file atomically: a reader finds the old or the new content, also after a kill.

    :raises OSError: the file cannot be written; the old content is kept
    """
    temporary = path.with_suffix(".new")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def link_or_copy(source: Path, target: Path) -> None:
    """Clone a finished source. Finished sources never change, so a hard link is enough."""
    try:
        target.hardlink_to(source)
    except OSError:  # not every file system has hard links
        shutil.copyfile(source, target)


def remove_tree(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
