"""Runs the programs of the pages about frameworks, each in a process with its framework."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from async_uploader._limits import MIB
from async_uploader.pytest_plugin import RunningEmulator
from harness.forking import Forks
from tests.conftest import check_only_video

from .blocks import BLOCKS

Run = Callable[..., str]
SIZE_BYTES = 6 * MIB


@pytest.fixture
def movie(make_file: Callable[..., Path]) -> Path:
    return make_file(SIZE_BYTES)


def block_of(test: str, language: str) -> str:
    """The code block that names a test."""
    blocks = [block for block in BLOCKS if (block.run_by or "").endswith(f"test_frameworks.py::{test}")]
    (text,) = (block.text for block in blocks if block.language.startswith(language))
    return text


@pytest.fixture
def run(forks: Forks, tmp_path: Path, apivideo_env: dict[str, str], request: pytest.FixtureRequest) -> Run:
    """Save the program of a page as a module, and run another program that uses it."""
    program = block_of(request.node.name, "py")
    (tmp_path / "page.py").write_text(program, encoding="utf-8")

    def run(code: str) -> str:
        done = forks.run("-c", code, cwd=tmp_path, env={**os.environ, **apivideo_env}, timeout=50)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_fastapi(run: Run, apivideo_emulator: RunningEmulator, apivideo_env: dict[str, str], movie: Path) -> None:
    """docs/fastapi.md, with its curl command."""
    del run  # it has saved the program
    command = [sys.executable, "-m", "uvicorn", "page:app", "--port=0", "--no-access-log"]
    env = {**os.environ, **apivideo_env}
    with subprocess.Popen(command, cwd=movie.parent, env=env, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            address = next(found[1] for line in process.stderr if (found := re.search(r"http://([\d.:]+)", line)))
            curl = block_of("test_fastapi", "sh").replace("127.0.0.1:8000", address)
            video = json.loads(subprocess.check_output(["bash", "-c", curl], cwd=movie.parent, timeout=30))
            check_only_video(apivideo_emulator, video["videoId"], movie, title="Holidays")
            with closing(http.client.HTTPConnection(address, timeout=20)) as connection:
                connection.request("PUT", "/videos", b"")
                assert connection.getresponse().status == 400
        finally:
            process.terminate()
            process.communicate(timeout=20)


DJANGO = """
import asyncio, json
from django.conf import settings
settings.configure(ROOT_URLCONF="urls", SECRET_KEY="x", ALLOWED_HOSTS=["*"], FILE_UPLOAD_MAX_MEMORY_SIZE=1)
import django, sys, types
django.setup()
import page
from django.urls import path
sys.modules["urls"] = types.ModuleType("urls")
sys.modules["urls"].urlpatterns = [path("videos", page.create_video)]
from django.test import AsyncClient

async def main():
    with open("movie.mp4", "rb") as movie:
        done = await AsyncClient().post("/videos", {"movie": movie, "title": "Holidays"})
    missing = await AsyncClient().post("/videos", {})
    print(done.status_code, json.loads(done.content)["videoId"], missing.status_code)

asyncio.run(main())
"""


def test_django(run: Run, apivideo_emulator: RunningEmulator, movie: Path) -> None:
    """docs/django.md, with Django's own client."""
    created, video_id, missing = run(DJANGO).split()
    assert (created, missing) == ("201", "400")
    check_only_video(apivideo_emulator, video_id, movie, title="Holidays")


NOTEBOOK = """
import ast, asyncio, inspect, pathlib
async def main():
    code = compile(pathlib.Path("page.py").read_text(), "cell", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    await eval(code, {"__name__": "__main__"})
asyncio.run(main())
"""


def test_notebook(run: Run, apivideo_emulator: RunningEmulator, movie: Path) -> None:
    """docs/notebooks.md, as a cell with top-level await."""
    output = run(NOTEBOOK)
    assert "100% of 2 parts\n" in output
    check_only_video(apivideo_emulator, output.split()[-1], movie, title="From a notebook")


CELERY = """
import page
from celery.contrib.testing.worker import start_worker
page.app.conf.update(broker_url="memory://", result_backend="cache+memory://")
with start_worker(page.app, perform_ping_check=False, loglevel="ERROR"):
    for _ in range(2):  # delivered twice
        print(page.upload_video.delay("movie.mp4", "catalogue-42").get(timeout=30))
"""


def test_celery(run: Run, apivideo_emulator: RunningEmulator, movie: Path) -> None:
    """docs/workers.md, with a worker of Celery and a broker in memory."""
    first, second = run(CELERY).split()
    assert first == second
    check_only_video(apivideo_emulator, first, movie, title="movie.mp4")


TASKIQ = """
import asyncio, page
async def main():
    await page.broker.startup()
    for _ in range(2):  # delivered twice
        task = await page.upload_video.kiq("movie.mp4", "catalogue-42")
        result = await task.wait_result(timeout=30)
        result.raise_for_error()
        print(result.return_value)
    await page.broker.shutdown()
asyncio.run(main())
"""


def test_taskiq(run: Run, apivideo_emulator: RunningEmulator, movie: Path) -> None:
    first, second = run(TASKIQ).split()
    assert first == second
    check_only_video(apivideo_emulator, first, movie, title="movie.mp4")
