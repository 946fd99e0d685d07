"""The examples in docs/sources.md that read from a store."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from harness.forking import Forks
from harness.world import KEY, service

from .conftest import RunCommand
from .counterparts import Bucket

pytestmark = pytest.mark.anyio

_PAGE: Final = Path(__file__).parents[2] / "docs" / "sources.md"


def _block(language: str, bucket: Bucket) -> str:
    """The block after the comment that names this module; its bucket is replaced."""
    _, _, text = _PAGE.read_text().partition(f"test_{'commands' if language == 'console' else 'program'} -->")
    text = text.partition(f"```{language}\n")[2].partition("```\n")[0]
    assert text
    return text.replace("films", bucket.name)


async def test_commands(bucket: Bucket, run_upload: RunCommand) -> None:
    bucket.put("2026/movie.mp4", b"content")
    async with service() as emulator:
        for line in _block("console", bucket).splitlines():
            dollar, program, command, *arguments = shlex.split(line)
            assert (dollar, program, command) == ("$", "async-uploader", "upload")
            ended = await run_upload(emulator, *arguments)
            assert ended.code == 0, ended.err
        assert len(emulator.videos) == 2


async def test_program(bucket: Bucket, forks: Forks, tmp_path: Path) -> None:
    bucket.put("2026/movie.mp4", b"content")
    async with service() as emulator:
        env = {**os.environ, "APIVIDEO_API_KEY": KEY, "APIVIDEO_BASE_URL": emulator.url}
        run: Callable[..., Any] = forks.run
        ended = await asyncio.to_thread(run, "-c", _block("python", bucket), cwd=tmp_path, env=env)
        assert ended.returncode == 0, ended.stderr
        assert len(emulator.videos) == 2
