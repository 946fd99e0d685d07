"""Runs the examples as processes, with an emulator."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from async_uploader._limits import MIB
from async_uploader.pytest_plugin import RunningEmulator
from harness.forking import Forks
from tests.conftest import check_only_video

EXAMPLES = Path(__file__).parents[2] / "examples"
SIZE_BYTES = 12 * MIB + 1


@pytest.fixture
def movie(make_file: Callable[..., Path]) -> Path:
    return make_file(SIZE_BYTES)


class Example(Protocol):
    def __call__(self, *arguments: object, env: dict[str, str]) -> str: ...


@pytest.fixture
def example(forks: Forks) -> Example:
    """Run an example, and return its output."""

    def run(*arguments: object, env: dict[str, str]) -> str:
        done = forks.run(*map(str, arguments), cwd=EXAMPLES, env={**os.environ, **env}, timeout=50)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run


def test_plain_script(
    apivideo_emulator: RunningEmulator, apivideo_env: dict[str, str], movie: Path, example: Example, forks: Forks
) -> None:
    """It prints the video. An error is one sentence."""
    video_id, player = example("plain_script.py", movie, env=apivideo_env).split()
    check_only_video(apivideo_emulator, video_id, movie, title="Holidays")
    assert player.endswith(video_id)
    done = forks.run("plain_script.py", "missing.mp4", cwd=EXAMPLES, env=os.environ)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "missing.mp4" in done.stderr


def test_taskiq_task(
    apivideo_emulator: RunningEmulator, apivideo_env: dict[str, str], movie: Path, example: Example
) -> None:
    """The result of the task is the video."""
    *_, video_id = example("taskiq_task.py", movie, env=apivideo_env).splitlines()
    check_only_video(apivideo_emulator, video_id, movie, title="From a queue")


@pytest.mark.apivideo(link_rate=20 * MIB)
def test_progress_of_a_task(
    apivideo_emulator: RunningEmulator, apivideo_env: dict[str, str], movie: Path, example: Example
) -> None:
    """The progress of a task can be read while it runs."""
    *progress, _ = example("taskiq_task.py", movie, env=apivideo_env).splitlines()
    assert progress
    assert all(re.fullmatch(rf"{{'acknowledged': \d+, 'total': {SIZE_BYTES}}}", line) for line in progress)


@pytest.mark.apivideo(faults=["upload,part=1:status=400"])
def test_a_task_that_fails(apivideo_env: dict[str, str], movie: Path, forks: Forks) -> None:
    """The error of the task is that of the upload."""
    done = forks.run("taskiq_task.py", str(movie), cwd=EXAMPLES, env=os.environ)
    assert done.returncode == 1
    assert "UploadFailed: Part 1 of 3: The service responded with 400" in done.stderr


# Runs a file like a notebook: cell by cell in one namespace, with top-level await.
NOTEBOOK = """
import ast, asyncio, inspect, pathlib, re, sys
async def run(cells):
    names = {"__name__": "__main__"}
    for cell in cells:
        done = eval(compile(cell, "cell", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        if inspect.isawaitable(done):
            await done
asyncio.run(run(re.split("(?m)^# %%", pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))))
"""
DISPLAY = """
class Handle:
    def update(self, text): print("in place:", text)
def display(text, display_id): return Handle()
"""


@pytest.mark.parametrize("has_ipython", [False, True], ids=["plain", "IPython"])
def test_notebook_progress(
    has_ipython: bool,
    apivideo_emulator: RunningEmulator,
    apivideo_env: dict[str, str],
    movie: Path,
    tmp_path: Path,
    example: Example,
) -> None:
    """The progress goes from 0 to 100 %. It is updated in place if possible."""
    if has_ipython:
        (tmp_path / "lib" / "IPython").mkdir(parents=True)
        (tmp_path / "lib" / "IPython" / "__init__.py").touch()
        (tmp_path / "lib" / "IPython" / "display.py").write_text(DISPLAY, encoding="utf-8")
    else:
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / "IPython.py").write_text("raise ImportError", encoding="utf-8")
    env = {**apivideo_env, "MOVIE": str(movie), "PYTHONPATH": str(tmp_path / "lib"), "PYTHONIOENCODING": "utf-8"}
    output = example("-c", NOTEBOOK, "notebook_progress.py", env=env)
    lines = re.findall(r"[█░]{10}  \d+%, \d of 3 parts", output)
    assert lines[0] == "░░░░░░░░░░  0%, 0 of 3 parts"
    assert lines[-1] == "██████████  100%, 3 of 3 parts"
    assert output.count("in place:") == (len(lines) if has_ipython else 0)
    video_id, _ = output.rpartition("parts")[2].split()
    check_only_video(apivideo_emulator, video_id, movie, title="From a notebook")


@contextmanager
def web_application(env: dict[str, str]) -> Iterator[str]:
    """Run the FastAPI example with uvicorn.

    :returns: ``HOST:PORT``
    """
    command = [sys.executable, "-m", "uvicorn", "fastapi_progress:app", "--port=0", "--no-access-log"]
    with subprocess.Popen(
        command, cwd=EXAMPLES, env={**os.environ, **env}, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            yield next(found[1] for line in process.stderr if (found := re.search(r"http://([\d.:]+)", line)))
        finally:
            process.terminate()
            process.communicate(timeout=20)


def next_event(stream: http.client.HTTPResponse) -> tuple[str, dict[str, object]]:
    """Read one server-sent event."""
    name, data, end = (stream.readline().decode().strip() for _ in range(3))
    assert end == ""
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_fastapi_progress(apivideo_emulator: RunningEmulator, apivideo_env: dict[str, str], movie: Path) -> None:
    """Events report the upload while the file is still being received, and then the video or the error."""
    data = movie.read_bytes()
    with (
        web_application(apivideo_env) as address,
        closing(http.client.HTTPConnection(address, timeout=20)) as listening,
        closing(http.client.HTTPConnection(address, timeout=20)) as sending,
    ):
        listening.request("GET", "/uploads/1/events")
        stream = listening.getresponse()
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        assert next_event(stream) == ("waiting", {})

        sending.putrequest("PUT", "/uploads/1?title=Holidays")
        sending.putheader("Content-Length", str(SIZE_BYTES))
        sending.endheaders(data[: 11 * MIB])
        name, progress = next_event(stream)
        while not progress["acknowledged"]:
            assert (name, progress["total"]) == ("progress", SIZE_BYTES)
            name, progress = next_event(stream)

        sending.send(data[11 * MIB :])
        response = sending.getresponse()
        video = json.load(response)
        assert response.status == 201
        while name == "progress":
            name, progress = next_event(stream)
        assert (name, progress, stream.read()) == ("video", video, b"")
        check_only_video(apivideo_emulator, str(video["videoId"]), movie, title="Holidays")

        listening.request("GET", "/uploads/2/events")
        stream = listening.getresponse()
        assert next_event(stream) == ("waiting", {})
        sending.request("PUT", "/uploads/2", b"")
        refused = sending.getresponse()
        assert refused.status == 400
        error = json.load(refused)["detail"]
        assert next_event(stream) == ("error", {"error": error})
