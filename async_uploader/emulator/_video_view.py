"""What `Emulator.videos` shows of a container."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._storage.video import Video


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoView:
    """A container at one moment.

    `state` is "empty", "uploading", "uploaded" (all parts are received and being joined), "finished" (the source
    is one file with a known SHA-256), "importing" or "failed" (the import failed, or the parts cannot be joined).
    `pieces` are the Content-Ranges of the received parts, in the order of the file. `source_path`, `sha256` and
    `size_bytes` are None until the video is finished.
    """

    video_id: str
    title: str
    state: str
    source_path: Path | None
    sha256: str | None
    size_bytes: int | None
    pieces: tuple[str, ...]
    received_bytes: int


class VideoViews(Mapping[str, VideoView]):
    """Creates each view on access: there may be ten thousand videos."""

    def __init__(self, videos: Mapping[str, Video]) -> None:
        self._videos = videos

    def __getitem__(self, video_id: str) -> VideoView:
        return _view(self._videos[video_id])

    def __iter__(self) -> Iterator[str]:
        return iter(self._videos)

    def __len__(self) -> int:
        return len(self._videos)


def _view(video: Video) -> VideoView:
    container = video.container
    return VideoView(
        video_id=container.video_id,
        title=str(container.details.get("title", "")),
        state=video.state,
        source_path=video.source.path if video.is_finished else None,
        sha256=container.sha256,
        size_bytes=container.size_bytes,
        pieces=tuple(str(part.range) for part in video.upload.stored_parts()),
        received_bytes=video.upload.stored_bytes,
    )
