"""A container and the state of its source."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from async_uploader.emulator._rules import ReceivedPart, Upload

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from .source_file import SourceFile

Origin = Literal["upload", "copy", "download"]

VIDEO_ID: Final = re.compile(r"vi[0-9A-Za-z]{1,40}")


@dataclass(slots=True)
class Container:
    """The content of `video.json`.

    `failed` is true for an import that failed. `captions` has the languages, each with whether it is the default;
    `chapters` the languages. `thumbnail` is the media type of an uploaded picture, `thumbnail_s` the position of
    the frame that was picked. `discarded_s` is when the video was discarded.
    """

    video_id: str
    created_s: float
    updated_s: float
    details: dict[str, object]
    origin: Origin = "upload"
    size_bytes: int | None = None
    sha256: str | None = None
    failed: bool = False
    captions: dict[str, bool] = field(default_factory=dict)
    chapters: list[str] = field(default_factory=list)
    thumbnail: str | None = None
    thumbnail_s: float | None = None
    discarded_s: float | None = None


@dataclass(slots=True, eq=False)
class Video:
    """A container, its source on disk, and its upload.

    `join_error` is why the last attempt to join the parts failed; the next part, a deletion or a restart starts
    another attempt. `completing` is the part that completed the upload, while its response waits for the join.
    """

    container: Container
    source: SourceFile
    upload: Upload = field(default_factory=Upload)
    is_deleted: bool = False
    join_task: asyncio.Task[None] | None = None
    join_error: OSError | None = None
    completing: ReceivedPart | None = None

    @property
    def thumbnail_path(self) -> Path:
        """Where an uploaded thumbnail is."""
        return self.source.directory / "thumbnail"

    def track_path(self, kind: str, language: str) -> Path:
        """Where the WebVTT file of a language is; `kind` is `captions` or `chapters`."""
        return self.source.directory / f"{kind}-{language}.vtt"

    @property
    def is_finished(self) -> bool:
        """Whether the source is one file with a known SHA-256."""
        return self.container.sha256 is not None

    @property
    def is_unjoinable(self) -> bool:
        """Whether all parts are stored, but joining them failed."""
        return self.join_error is not None and self.upload.is_complete

    @property
    def has_failed(self) -> bool:
        """Whether the import failed, or the parts cannot be joined."""
        return self.container.failed or self.is_unjoinable

    @property
    def state(self) -> str:
        """The state of the source in one word; `VideoView` lists them."""
        if self.is_finished:
            return "finished"
        if self.container.origin != "upload":
            return "failed" if self.has_failed else "importing"
        if self.upload.is_complete:
            return "failed" if self.has_failed else "uploaded"
        return "uploading" if self.upload.stored_count else "empty"

    @property
    def file_size_bytes(self) -> int | None:
        return self.upload.stored_bytes if self.upload.is_complete else self.container.size_bytes

    @property
    def ingest_status(self) -> str | None:
        if self.container.origin == "upload":
            return "uploaded" if self.upload.is_complete else "uploading"
        return "ingested" if self.is_finished else "ingesting"

    @property
    def encoding_status(self) -> str | None:
        if self.has_failed:
            return "failed"
        if self.is_finished:
            return "encoded"
        return "waiting" if self.upload.is_complete else None
