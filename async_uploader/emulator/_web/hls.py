"""Makes the HLS playlist and segments of a finished video with ffmpeg, when they are first requested.

Nothing is encoded: the streams are copied into fragmented MP4. So the only quality is that of the source.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from async_uploader.emulator._storage.data_directory import remove_tree

from .ffmpeg import FFmpeg

if TYPE_CHECKING:
    from pathlib import Path

    from async_uploader.emulator._storage.video import Video

MANIFEST: Final = "manifest.m3u8"
#: The names of the files that `HlsPackager` makes, and their media types.
MEDIA_TYPES: Final = {".m3u8": "application/vnd.apple.mpegurl", ".mp4": "video/mp4", ".m4s": "video/iso.segment"}
FILE_NAME: Final = re.compile(r"manifest\.m3u8|init\.mp4|segment-[0-9]{1,6}\.m4s")
TIMEOUT_SECONDS: Final = 600.0
SEGMENT_SECONDS: Final = 4
#: How long a request for the playlist waits before it gets 202. Short videos are ready by then.
WAIT_SECONDS: Final = 1.0
MAX_REMEMBERED: Final = 10_000


class HlsState(Enum):
    READY = auto()
    PREPARING = auto()
    UNAVAILABLE = auto()  # there is no ffmpeg, or it cannot copy the streams


class HlsPackager:
    """Makes the files of one video at a time, in the directory `hls` beside its source."""

    def __init__(self) -> None:
        self._ffmpeg = FFmpeg("emulator-hls")
        self._tasks: OrderedDict[str, asyncio.Task[bool]] = OrderedDict()

    async def prepare(self, video: Video) -> HlsState:
        """Make the files of a finished video, unless they exist. Waits for at most `WAIT_SECONDS`."""
        video_id = video.container.video_id
        task = self._tasks.get(video_id)
        if task is None:
            work = self._ffmpeg.run(self._make, video.source.path, directory(video))
            task = self._tasks[video_id] = asyncio.get_running_loop().create_task(work)
            if len(self._tasks) > MAX_REMEMBERED and next(iter(self._tasks.values())).done():
                self._tasks.popitem(last=False)
        done, _ = await asyncio.wait([task], timeout=WAIT_SECONDS)
        if not done:
            return HlsState.PREPARING
        return HlsState.READY if task.result() else HlsState.UNAVAILABLE

    async def close(self) -> None:
        """Stop the running ffmpeg."""
        await self._ffmpeg.close()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def _make(self, source: Path, target: Path) -> bool:
        if (target / MANIFEST).exists():
            return True
        temporary = target.with_suffix(".new")  # complete once it is renamed
        try:
            remove_tree(temporary)
            temporary.mkdir()
            streams = ["-map", "0:v:0?", "-map", "0:a:0?", "-c", "copy", "-f", "hls"]
            playlist = [
                "-hls_time",
                str(SEGMENT_SECONDS),
                "-hls_playlist_type",
                "vod",
                "-hls_segment_type",
                "fmp4",
            ]
            names = ["-hls_fmp4_init_filename", "init.mp4", "-hls_segment_filename", f"{temporary}/segment-%d.m4s"]
            output = [*streams, *playlist, *names, str(temporary / MANIFEST)]
            if self._ffmpeg.convert(source, [], output, seconds=TIMEOUT_SECONDS) is None:
                remove_tree(temporary)
                return False
            temporary.rename(target)
        except OSError:  # the video was deleted, or the disk is full
            remove_tree(temporary)
            return False
        return True


def directory(video: Video) -> Path:
    """Where the files of a video are."""
    return video.source.directory / "hls"
