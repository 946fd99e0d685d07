"""What Ctrl-C prints, and what it leaves at the service."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from async_uploader.emulator import Emulator, Fault
from harness.service import KEY, Service

from .conftest import MIB, Cli, StartCli, finish, within

MakeFile = Callable[..., Path]
StartService = Callable[..., AbstractContextManager[Service]]

IDS = re.compile(r"\bvi[0-9A-Za-z]{20,}")


# What Ctrl-C prints


def has_stalled(emulator: Emulator) -> bool:
    """Whether a fault has stalled a request."""
    return any(count for _, count in emulator._server.faults.counts())


MAY_REMAIN = "Interrupted. The unfinished video may remain; the service removes it after 7 days."
DELETED = "Interrupted. The unfinished video was deleted."


NOT_DELETED = "Interrupted. The unfinished video could not be deleted; the service removes it after 7 days."


def assert_deleted(advice: str, service: Service) -> None:
    """The video is deleted if the advice says so. On a busy machine there may be no time to delete it."""
    assert advice in (DELETED, NOT_DELETED, MAY_REMAIN)
    assert advice != DELETED or not service.emulator.videos


def interrupt(process: subprocess.Popen[str], times: int = 1) -> list[str]:
    with within(3):
        for _ in range(times):
            process.send_signal(signal.SIGINT)
        done = finish(process)
    assert done.returncode == 130
    return done.stderr.splitlines()


def test_interrupted_without_resume(start_service: StartService, start_cli: StartCli, make_file: MakeFile) -> None:
    """The video is deleted; after a second signal it may remain."""
    path = make_file("movie.mp4", 200 * MIB, sparse=True)
    with start_service(connection_rate=10_000_000) as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        for flags in (("--no-resume",), ("--no-resume", "--json")):
            process = start_cli("upload", path, "--part-size=5MiB", *flags, **settings)
            service.wait_for(lambda emulator: any(video.received_bytes for video in emulator.videos.values()))
            assert_deleted(interrupt(process)[-1], service)
        process = start_cli("upload", path, "--part-size=5MiB", "--no-resume", **settings)
        service.wait_for(lambda emulator: any(video.received_bytes for video in emulator.videos.values()))
        assert interrupt(process, times=2)[-1] in (DELETED, MAY_REMAIN)


def test_interrupted_and_not_deleted(
    start_service: StartService, start_cli: StartCli, make_file: MakeFile
) -> None:
    """The service does not delete the video; the message says so."""
    path = make_file("movie.mp4", 200 * MIB, sparse=True)
    with start_service(connection_rate=10_000_000, faults=[Fault.parse("delete:stall=forever")]) as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        process = start_cli("upload", path, "--part-size=5MiB", "--no-resume", **settings)
        service.wait_for(lambda emulator: any(video.received_bytes for video in emulator.videos.values()))
        assert interrupt(process)[-1] in (NOT_DELETED, MAY_REMAIN)


def test_interrupted_with_an_unusable_journal(
    start_service: StartService, start_cli: StartCli, make_file: MakeFile
) -> None:
    """The upload cannot be resumed, so the video is deleted."""
    path = make_file("movie.mp4", 200 * MIB, sparse=True)
    with start_service(connection_rate=10_000_000) as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        process = start_cli("upload", path, "--part-size=5MiB", XDG_STATE_HOME="/dev/null/state", **settings)
        service.wait_for(lambda emulator: any(video.received_bytes for video in emulator.videos.values()))
        assert_deleted(interrupt(process)[-1], service)


def test_interrupted_locally(start_cli: StartCli, make_file: MakeFile, tmp_path: Path) -> None:
    """The files of the emulator are removed."""
    path = make_file("movie.mp4", 2_000 * MIB, sparse=True)
    process = start_cli("upload", path, "--local", "--part-size=5MiB", "--concurrency=1", "-v", "--json")
    assert process.stderr is not None
    while ": stored (" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "Interrupted. The received files were deleted."


def test_interrupted_before_anything_was_created(
    start_service: StartService, start_cli: StartCli, make_file: MakeFile
) -> None:
    """There is nothing to resume. An upload says so."""
    path = make_file("movie.mp4", 10)
    for endpoint, command in (("auth", ("upload", path)), ("auth", ("upload", path, "--no-resume")),
                              ("status", ("status", "vi1")), ("tokens", ("tokens", "create"))):  # fmt: skip
        with start_service(faults=[Fault.parse(f"{endpoint}:stall=forever")]) as service:
            settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
            process = start_cli(*command, **settings)
            service.wait_for(has_stalled)
            expected = "Interrupted. Nothing was created yet." if command[0] == "upload" else "Interrupted."
            assert interrupt(process) == [expected]


def test_interrupted_before_the_first_request(start_online: StartCli, service: Service) -> None:
    """The manifest is still being read."""
    process = start_online("upload", "--manifest", "/dev/stdin", stdin=subprocess.PIPE)
    assert process.stdin is not None
    # More than the pipe holds, so that this returns when the command reads.
    process.stdin.write("source\n" + "x" * 200_000)
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert process.stderr is not None
    assert process.stderr.read() == "Interrupted. Nothing was created yet.\n"
    assert not service.emulator.requests


def test_interrupted_among_several(
    start_service: StartService, start_cli: StartCli, cli: Cli, make_file: MakeFile
) -> None:
    """The same command skips finished sources, if the advice says so."""
    make_file("small.mp4", 10)
    make_file("big.mp4", 20 * MIB, sparse=True)
    command = ("upload", "small.mp4", "big.mp4", "--part-size=5MiB", "--concurrency=2", "--json")

    def is_half_way(emulator: Emulator) -> bool:
        videos = {video.title: video for video in emulator.videos.values()}
        return len(videos) == 2 and videos["small.mp4"].state == "finished" and bool(videos["big.mp4"].pieces)

    with start_service(link_rate=5_000_000) as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        process = start_cli(*command, **settings)
        service.wait_for(is_half_way)
        assert interrupt(process)[-1] == "Interrupted. Run the same command again to resume."
        videos = set(service.emulator.videos)
        process = start_cli(*command, "--no-resume", **settings)
        assert process.stderr is not None
        assert "small.mp4: uploaded" in process.stderr.readline()
        service.wait_for(lambda emulator: len(emulator.videos) == 4)
        last = interrupt(process)[-1]
        # The container of the second one may not have been ready yet.
        assert "Run the same command again" not in last
        assert last.endswith("The same command would upload finished videos again.")
        done = cli(*command, **settings)
        assert done.returncode == 0, done.stderr
        assert {video["videoId"] for video in json.loads(done.stdout)} == videos


@pytest.mark.parametrize("flags", [(), ("--json",)], ids=["line", "JSON"])
def test_interrupted_while_waiting(
    start_service: StartService, start_cli: StartCli, cli: Cli, make_file: MakeFile, flags: tuple[str, ...]
) -> None:
    """The same command waits for the same video."""
    command = ("upload", make_file("movie.mp4", 10), "--wait", *flags)
    with start_service() as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        service.portal.call(service.emulator.add_fault, Fault.parse("status,attempt=1:stall=forever"))
        process = start_cli(*command, **settings)
        service.wait_for(has_stalled)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 130
        (video_id,) = service.emulator.videos
        assert video_id in out + err
        assert err.splitlines()[-1] == "Interrupted. Run the same command again to resume."
        service.portal.call(service.emulator.clear_faults)
        again = cli(*command, **settings)
        assert again.returncode == 0, again.stderr
        assert IDS.findall(again.stdout)[:1] == [video_id]
        assert len(service.emulator.videos) == 1


def test_an_import_that_is_interrupted(start_service: StartService, start_cli: StartCli, web: str) -> None:
    """The service continues it; the message has its id."""
    with start_service(faults=[Fault.parse("status:stall=forever")]) as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        process = start_cli("import", web, "--wait", **settings)
        service.wait_for(has_stalled)
        last = interrupt(process)[-1]
        (video_id,) = service.emulator.videos
        expected = f"The service continues to import video {video_id}; the same command would import it again."
        assert last == f"Interrupted. {expected}"


def test_interrupted_with_a_reader_that_does_not_read(
    start_service: StartService, start_cli: StartCli, make_file: MakeFile
) -> None:
    """Standard error has the ids that were not read, even without a journal."""
    names = [f"{number}.mp4" for number in range(60)]
    for name in names:
        make_file(name, 10)
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(reading, "rb") as stdout, start_service() as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        process = start_cli("upload", *names, "--no-resume", stdout=writing, **settings)
        os.close(writing)
        assert process.stderr is not None
        lines = [process.stderr.readline() for _ in range(40)]
        assert all(": uploaded " in line for line in lines)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130
        known = set(IDS.findall(stdout.read().decode() + err))
        finished = {video_id for video_id, video in service.emulator.videos.items() if video.state == "finished"}
        assert finished <= known
