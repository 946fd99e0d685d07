"""A frame of a video as a JPEG, where an ffmpeg is on the PATH.

One thread makes one thumbnail at a time, with a process that ends with the emulator. A file goes to ffmpeg only
if its first bytes are a video's: a playlist among the uploads must not make it open anything else.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from ._media import UNKNOWN_TYPE, media_type

if TYPE_CHECKING:
    from pathlib import Path

    from ._store import Video

PATIENCE_SECONDS: Final = 10.0
MAX_KEPT: Final = 200
WIDTH: Final = 640
# A frame a second into the video says more than the first; a shorter video has only that.
_MOMENTS: Final = ("1", "0")

PLACEHOLDER: Final = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 9"><path fill="#79818a" d="M0 0h16v9H0z"/>'
    b'<path fill="#fff" fill-opacity=".75" d="M7 3.2v2.6l2.2-1.3z"/></svg>'
)


class Thumbnails:
    """Makes thumbnails and keeps the latest ones."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "emulator-thumbnail")
        self._kept: OrderedDict[str, bytes | None] = OrderedDict()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    async def of(self, video: Video) -> bytes | None:
        """A finished video's JPEG; None without an ffmpeg, or if it finds no frame."""
        path, video_id = video.source.path, video.container.video_id
        return await asyncio.shield(
            asyncio.get_running_loop().run_in_executor(self._thread, self._get, video_id, path)
        )

    async def close(self) -> None:
        """Stop what is being made; nothing is made after this."""
        self._is_closed = True
        if (process := self._process) is not None:
            process.kill()
        await asyncio.get_running_loop().run_in_executor(self._thread, lambda: None)  # after all that waits
        self._thread.shutdown()

    def _get(self, video_id: str, path: Path) -> bytes | None:
        if video_id not in self._kept:
            self._kept[video_id] = self._make(path)
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return self._kept[video_id]

    def _make(self, path: Path) -> bytes | None:
        program = shutil.which("ffmpeg")
        if program is None or not _is_video(path):
            return None
        return next((frame for moment in _MOMENTS if (frame := self._frame(program, path, moment))), None)

    def _frame(self, program: str, path: Path, moment: str) -> bytes:
        command = [
            program,
            "-nostdin",
            "-v",
            "quiet",
            "-protocol_whitelist",
            "file",
            "-ss",
            moment,
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
            if self._is_closed:  # between the two lines above
                process.kill()
            try:
                return process.communicate(timeout=PATIENCE_SECONDS)[0]
            except subprocess.TimeoutExpired:
                process.kill()
                return b""
            finally:
                self._process = None


def _is_video(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return media_type(file.read(512)) != UNKNOWN_TYPE
    except OSError:  # deleted meanwhile
        return False
