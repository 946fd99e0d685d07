"""Makes a JPEG of a frame of a video, if ffmpeg is on the PATH.

One thread makes one thumbnail at a time, in a process that ends with the emulator. Only files that start like a
video are passed to ffmpeg: an uploaded playlist must not make it open other files.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from .media import UNKNOWN_TYPE, media_type

if TYPE_CHECKING:
    from pathlib import Path

    from async_uploader.emulator._storage.video import Video

TIMEOUT_SECONDS: Final = 10.0
MAX_CACHED: Final = 200
WIDTH: Final = 640
# Positions in seconds: a frame after one second shows more than the first, but a short video has only that.
_POSITIONS: Final = ("1", "0")

PLACEHOLDER: Final = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 9"><path fill="#79818a" d="M0 0h16v9H0z"/>'
    b'<path fill="#fff" fill-opacity=".75" d="M7 3.2v2.6l2.2-1.3z"/></svg>'
)


class Thumbnails:
    """Makes thumbnails and caches the latest ones."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "emulator-thumbnail")
        self._cache: OrderedDict[str, bytes | None] = OrderedDict()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    async def of(self, video: Video) -> bytes | None:
        """The JPEG of a finished video; None without ffmpeg, or if it finds no frame."""
        path, video_id = video.source.path, video.container.video_id
        return await asyncio.shield(
            asyncio.get_running_loop().run_in_executor(self._thread, self._get, video_id, path)
        )

    async def close(self) -> None:
        """Stop the running ffmpeg. No thumbnail is made afterwards."""
        self._is_closed = True
        if (process := self._process) is not None:
            process.kill()
        await asyncio.get_running_loop().run_in_executor(self._thread, lambda: None)  # waits for queued calls
        self._thread.shutdown()

    def _get(self, video_id: str, path: Path) -> bytes | None:
        if video_id not in self._cache:
            self._cache[video_id] = self._make(path)
            if len(self._cache) > MAX_CACHED:
                self._cache.popitem(last=False)
        return self._cache[video_id]

    def _make(self, path: Path) -> bytes | None:
        program = shutil.which("ffmpeg")
        if program is None or not _is_video(path):
            return None
        return next((frame for at in _POSITIONS if (frame := self._frame(program, path, at))), None)

    def _frame(self, program: str, path: Path, position: str) -> bytes:
        command = [
            program,
            "-nostdin",
            "-v",
            "quiet",
            "-protocol_whitelist",
            "file",
            "-ss",
            position,
            "-i",
            str(path),
        ]
        command += ["-frames:v", "1", "-vf", f"scale='min({WIDTH},iw)':-2", "-q:v", "4"]
        command += ["-f", "image2pipe", "-c:v", "mjpeg", "-"]
        if self._is_closed:
            return b""
        with subprocess.Popen(  # noqa: S603 - no shell, and the path is ours
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            self._process = process
            if self._is_closed:  # `close` was called between the two lines above
                process.kill()
            try:
                return process.communicate(timeout=TIMEOUT_SECONDS)[0]
            except subprocess.TimeoutExpired:
                process.kill()
                return b""
            finally:
                self._process = None


def _is_video(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return media_type(file.read(512)) != UNKNOWN_TYPE
    except OSError:  # deleted in the meantime
        return False
