"""`upload -`: uploads of standard input and FIFOs."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from async_uploader._units import format_size
from harness.service import KEY, Service

from .conftest import MIB, Cli, StartCli, within

MakeFile = Callable[..., Path]


def feed(process: subprocess.Popen[str], data: bytes) -> None:
    """Write to the standard input of a command, and leave it open."""
    assert process.stdin is not None
    with open(process.stdin.fileno(), "wb", closefd=False) as pipe:
        pipe.write(data)


STREAMS = {
    "1 byte": (1, True),
    "5 MiB": (5 * MIB, True),
    "12 MiB and 1 byte": (12 * MIB + 1, True),
    "12 MiB from a file": (12 * MIB, False),
}


@pytest.mark.parametrize(("size", "is_pipe"), STREAMS.values(), ids=STREAMS)
def test_standard_input(start_cli: StartCli, make_file: MakeFile, size: int, is_pipe: bool) -> None:
    """A pipe or a file: the SHA-256 of what was read is that of the copy. The title is stdin."""
    path = make_file("movie.mp4", size)
    with path.open("rb") as file:
        arguments = ("upload", "-", "--local", "--part-size=5MiB", "--json")
        process = start_cli(*arguments, stdin=subprocess.PIPE if is_pipe else file)
        if is_pipe:
            feed(process, path.read_bytes())
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert json.loads(out)["title"] == "stdin"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert f"the emulator's copy has the same SHA-256: {digest}" in err
    assert f"stdin: uploaded {format_size(size)}, " in err


def test_a_named_pipe(start_online: StartCli, service: Service, tmp_path: Path) -> None:
    """A FIFO is uploaded as a stream, with the title that was given."""
    os.mkfifo(tmp_path / "pipe")
    process = start_online("upload", tmp_path / "pipe", "--title=Live", "--json")
    (tmp_path / "pipe").write_bytes(b"x" * 1000)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    video = service.finished(json.loads(out)["videoId"])
    assert (video.title, video.size_bytes) == ("Live", 1000)


def test_interrupted_while_waiting_for_input(start_online: StartCli, service: Service) -> None:
    """The command ends within a second, deletes the video, and says that the input must be sent again."""
    process = start_online("upload", "-", "--part-size=5MiB", stdin=subprocess.PIPE)
    feed(process, bytes(6 * MIB))
    service.wait_for(lambda emulator: any(video.pieces for video in emulator.videos.values()))
    with within(1.5):
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 130
    assert process.stderr is not None
    *stopped, advice = process.stderr.read().splitlines()
    assert stopped[0].startswith("stdin: stopped after ")
    assert " of ? parts, " in stopped[0]
    assert advice == "Interrupted. Standard input cannot be resumed; send it again."
    assert service.titles() == []


def test_max_latency(start_online: StartCli, service: Service) -> None:
    """A part is sent before it has its planned size, and before the end of the input."""
    process = start_online("upload", "-", "--max-latency=0.1", "--part-size=50MiB", stdin=subprocess.PIPE)
    while not any(video.pieces for video in service.emulator.videos.values()):
        feed(process, bytes(MIB))
        assert sum(video.received_bytes for video in service.emulator.videos.values()) < 40 * MIB
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert len(service.finished(out.split()[0]).pieces) >= 2


def test_parts_beyond_the_buffer_go_to_disk(start_online: StartCli, service: Service) -> None:
    """Without a buffer, waiting parts are temporary files."""
    process = start_online("upload", "-", "--buffer=0", "--max-latency=1", "-v", stdin=subprocess.PIPE)
    feed(process, bytes(6 * MIB))
    service.wait_for(lambda emulator: len(emulator.videos) == 1)
    opened = [os.readlink(link) for link in Path(f"/proc/{process.pid}/fd").iterdir()]
    assert any(target.endswith("(deleted)") for target in opened)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert service.finished(out.split()[0]).size_bytes == 6 * MIB


def test_a_terminal_is_refused(cli: Cli, tmp_path: Path) -> None:
    """A video cannot be typed."""
    ours, theirs = os.openpty()
    done = cli("upload", "-", stdin=theirs, APIVIDEO_API_KEY=KEY)
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 2
    assert done.stderr.startswith("error: Standard input is a terminal.")


def test_standard_input_that_is_closed() -> None:
    """The error is one message, with exit code 2."""
    command = ["sh", "-c", 'exec "$0" -m async_uploader upload - --local <&-', sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: Standard input is closed.")
