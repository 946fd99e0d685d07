"""Makes a JPEG of a frame of a video, if there is an ffmpeg."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from .ffmpeg import FFmpeg

if TYPE_CHECKING:
    from pathlib import Path

    from async_uploader.emulator._storage.video import Video

TIMEOUT_SECONDS: Final = 10.0
MAX_CACHED: Final = 200
WIDTH: Final = 640
# Positions in seconds: a frame after one second shows more than the first, but a short video has only that.
_POSITIONS: Final = (1.0, 0.0)

#: The picture without a frame: a strip of film, on the neutral grey of the page.
PLACEHOLDER: Final = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 36"><path fill="#5b636b" d="M0 0h64v36H0z"/>'
    b'<path fill="#6d767f" d="M0 0h64v5H0zM0 31h64v5H0z"/>'
    b'<path stroke="#5b636b" stroke-width="3" stroke-dasharray="4 4" d="M2 2.5h64M2 33.5h64"/>'
    b'<circle cx="32" cy="18" r="7.5" fill="none" stroke="#c3cad1" stroke-width="1.5"/>'
    b'<path fill="#c3cad1" d="M30 14.5v7l5.5-3.5z"/></svg>'
)


class Thumbnails:
    """Makes thumbnails and caches the latest ones."""

    def __init__(self) -> None:
        self._ffmpeg = FFmpeg("emulator-thumbnail")
        self._cache: OrderedDict[tuple[str, float | None], bytes | None] = OrderedDict()

    async def of(self, video: Video, at_seconds: float | None = None) -> bytes | None:
        """The JPEG of a frame of a finished video; None without ffmpeg, or if it finds no frame.

        :param at_seconds: the position of the frame; None for one near the start. Beyond the end of the video, the
            first frame is used
        """
        return await self._ffmpeg.run(self._get, video.container.video_id, video.source.path, at_seconds)

    async def close(self) -> None:
        """Stop the running ffmpeg. No thumbnail is made afterwards."""
        await self._ffmpeg.close()

    def _get(self, video_id: str, path: Path, at_seconds: float | None) -> bytes | None:
        key = video_id, at_seconds
        if key not in self._cache:
            positions = _POSITIONS if at_seconds is None else (at_seconds, 0.0)
            self._cache[key] = next((frame for at in positions if (frame := self._frame(path, at))), None)
            if len(self._cache) > MAX_CACHED:
                self._cache.popitem(last=False)
        return self._cache[key]

    def _frame(self, path: Path, position: float) -> bytes | None:
        scale = ["-frames:v", "1", "-vf", f"scale='min({WIDTH},iw)':-2", "-q:v", "4"]
        output = ["-f", "image2pipe", "-c:v", "mjpeg", "-"]
        return self._ffmpeg.convert(path, ["-ss", f"{position:g}"], scale + output, seconds=TIMEOUT_SECONDS)
