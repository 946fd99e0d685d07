"""Runs the programs in `examples/`."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from imageio_ffmpeg import get_ffmpeg_exe

from harness.service import KEY, Service

from .conftest import MIB

EXAMPLES = Path(__file__).parents[2] / "examples"


@contextmanager
def example(*arguments: str, service: Service) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "APIVIDEO_API_KEY": KEY, "APIVIDEO_BASE_URL": service.emulator.url}
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=EXAMPLES,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def test_demo(tmp_path: Path) -> None:
    """It renders, uploads and verifies a video, and ends with the command by which it can be watched."""
    command = [sys.executable, "demo.py", "--directory", str(tmp_path / "demo"), "--seconds", "2"]
    done = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "part 1: stored" in done.stderr
    assert re.search(r"The copy has the same SHA-256 \(\w+\) and decodes without error\.\n", done.stdout)
    watch = shlex.split(done.stdout.splitlines()[-1].partition("$ ")[2])
    with subprocess.Popen(watch, stdout=subprocess.PIPE, text=True) as emulator:
        try:
            assert emulator.stdout is not None
            page = emulator.stdout.readline().removeprefix("listening on ").strip()
            with urllib.request.urlopen(f"{page}/_emulator/videos") as response:
                (video,) = json.load(response)
        finally:
            emulator.terminate()
    assert video["state"] == "finished"


def test_live_pipe(service: Service) -> None:
    """The first part is stored while ffmpeg still renders, and the copy can be decoded."""
    with example("live_pipe.py", "--seconds", "5", service=service) as process:
        service.wait_for(lambda emulator: any(video.pieces for video in emulator.videos.values()))
        children = psutil.Process(process.pid).children()
        (ffmpeg,) = (child for child in children if "ffmpeg" in child.name())
        assert ffmpeg.status() != psutil.STATUS_ZOMBIE
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
    video = json.loads(out)
    assert video["title"] == "Live"
    copy = service.finished(video["videoId"]).source_path
    assert copy is not None
    assert copy.stat().st_size > 5 * MIB
    decode = [get_ffmpeg_exe(), "-v", "error", "-i", str(copy), "-f", "null", "-"]
    done = subprocess.run(decode, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_asgi_upload(service: Service) -> None:
    """The body of a request is streamed to the service; an empty body is a client error."""
    data = os.urandom(12 * MIB + 1)
    with example("-m", "uvicorn", "asgi_upload:app", "--port=0", "--no-access-log", service=service) as process:
        assert process.stderr is not None
        url = next(found[0] for line in process.stderr if (found := re.search(r"http://[\d.]+:\d+", line)))
        with urllib.request.urlopen(f"{url}/videos?title=Holidays", data) as response:
            assert response.status == 201
            video = service.finished(json.load(response)["videoId"])
        with pytest.raises(urllib.error.HTTPError, match="400") as refused:
            urllib.request.urlopen(urllib.request.Request(f"{url}/videos", b"", method="POST"))
        refused.value.close()
        process.terminate()
        process.communicate(timeout=10)
    assert (video.title, video.sha256) == ("Holidays", hashlib.sha256(data).hexdigest())
    assert service.titles() == ["Holidays"]


def test_record_session(service: Service) -> None:
    """All pieces arrive in order, joined to parts."""
    with example("record_session.py", "--pieces=13", service=service) as process:
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
    video_id, digest = out.split()
    video = service.finished(video_id)
    assert (video.sha256, len(video.pieces)) == (digest, 3)
