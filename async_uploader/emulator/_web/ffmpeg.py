"""Runs ffmpeg: one process at a time, in a thread, which ends with the emulator.

Only files that start like a video are passed to ffmpeg: an uploaded playlist must not make it open other files.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from .media import UNKNOWN_TYPE, media_type

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

T = TypeVar("T")


def find_ffmpeg() -> str | None:
    """The ffmpeg on the PATH, or the one of the package imageio-ffmpeg; None without either. Blocks."""
    if (program := shutil.which("ffmpeg")) is not None:
        return program
    with suppress(ImportError, RuntimeError):  # RuntimeError: the package has no binary for this system
        from imageio_ffmpeg import get_ffmpeg_exe  # noqa: PLC0415

        return str(get_ffmpeg_exe())
    return None


class FFmpeg:
    """Runs functions that call ffmpeg in a thread of its own.

    :param name: the name of the thread
    """

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, name)
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function in the thread."""
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments))

    async def close(self) -> None:
        """Stop the running ffmpeg. `convert` starts none afterwards."""
        self._is_closed = True
        if (process := self._process) is not None:
            process.kill()
        await asyncio.get_running_loop().run_in_executor(self._thread, lambda: None)  # waits for queued calls
        self._thread.shutdown()

    def convert(
        self, source: Path, before: Sequence[str], after: Sequence[str], *, seconds: float
    ) -> bytes | None:
        """Run ffmpeg with a video as its input. Blocks; call it in the thread.

        :param before: options before the input
        :param after: options after the input, and the output
        :param seconds: the most time that ffmpeg may take
        :returns: what ffmpeg wrote to standard output; None if there is no ffmpeg, or it failed
        """
        program = find_ffmpeg()
        if program is None or self._is_closed or not _is_video(source):
            return None
        options = ["-nostdin", "-v", "quiet", "-protocol_whitelist", "file", *before, "-i", str(source), *after]
        with subprocess.Popen(  # noqa: S603 - no shell, and the path is ours
            [program, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            self._process = process
            if self._is_closed:  # `close` was called between the two lines above
                process.kill()
            try:
                output = process.communicate(timeout=seconds)[0]
            except subprocess.TimeoutExpired:
                process.kill()
                return None
            finally:
                self._process = None
        return output if process.returncode == 0 else None


def _is_video(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return media_type(file.read(512)) != UNKNOWN_TYPE
    except OSError:  # deleted in the meantime
        return False
