"""`upload -`: what flows into the command, arrives."""

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
    """Write to a command's standard input, which stays open."""
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
    """By a pipe or from a file: its SHA-256, taken as it passes, is that of the copy. It is called stdin."""
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
    assert f"the local service's copy has the same SHA-256: {digest}" in err
    assert f"stdin: uploaded {format_size(size)}, " in err


def test_a_named_pipe(start_online: StartCli, service: Service, tmp_path: Path) -> None:
    """A path that leads to a pipe is read as it flows; the title is what is asked for."""
    os.mkfifo(tmp_path / "pipe")
    process = start_online("upload", tmp_path / "pipe", "--title=Live", "--json")
    (tmp_path / "pipe").write_bytes(b"x" * 1000)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    video = service.finished(json.loads(out)["videoId"])
    assert (video.title, video.size_bytes) == ("Live", 1000)


def test_waiting_for_input_can_be_interrupted(start_online: StartCli, service: Service) -> None:
    """Within a second, before and after something has come; nothing stays behind, and nothing else is promised."""
    process = start_online("upload", "-", "--part-size=5MiB", stdin=subprocess.PIPE)
    feed(process, bytes(6 * MIB))
    service.wait_for(lambda emulator: any(video.pieces for video in emulator.videos.values()))
    with within(1.5):
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 130
    assert process.stderr is not None
    *stopped, how_to_go_on = process.stderr.read().splitlines()
    assert stopped[0].startswith("stdin: stopped at ")
    assert " of ? parts, " in stopped[0]
    assert how_to_go_on == "interrupted; what came from standard input has to be sent anew"
    assert service.titles() == []


def test_a_part_leaves_early_with_max_latency(start_online: StartCli, service: Service) -> None:
    """It waits neither for the planned size nor for the end."""
    process = start_online("upload", "-", "--max-latency=0.1", "--part-size=50MiB", stdin=subprocess.PIPE)
    while not any(video.pieces for video in service.emulator.videos.values()):
        feed(process, bytes(MIB))
        assert sum(video.received_bytes for video in service.emulator.videos.values()) < 40 * MIB
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert len(service.finished(out.split()[0]).pieces) >= 2


def test_what_exceeds_the_buffer_goes_to_disk(start_online: StartCli, service: Service) -> None:
    """With no buffer at all, parts that wait are temporary files, and it arrives all the same."""
    process = start_online("upload", "-", "--buffer=0", "--max-latency=1", "-v", stdin=subprocess.PIPE)
    feed(process, bytes(6 * MIB))
    service.wait_for(lambda emulator: len(emulator.videos) == 1)
    opened = [os.readlink(link) for link in Path(f"/proc/{process.pid}/fd").iterdir()]
    assert any(target.endswith("(deleted)") for target in opened)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert service.finished(out.split()[0]).size_bytes == 6 * MIB


def test_a_terminal_is_refused(cli: Cli, tmp_path: Path) -> None:
    """Nobody types a video."""
    ours, theirs = os.openpty()
    done = cli("upload", "-", stdin=theirs, APIVIDEO_API_KEY=KEY)
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 2
    assert done.stderr.startswith("error: Standard input is a terminal;")


def test_standard_input_that_is_closed() -> None:
    """One sentence, as everything that cannot be meant."""
    command = ["sh", "-c", 'exec "$0" -m async_uploader upload - --local <&-', sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: Standard input is closed.")
