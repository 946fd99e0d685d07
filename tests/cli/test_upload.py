"""`upload`: what the service receives, what is printed, and how the command ends."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from async_uploader import UploaderError
from async_uploader._units import format_size
from async_uploader.cli._log import LogFormatter
from async_uploader.emulator import Fault
from harness.service import KEY, Service

from .conftest import MIB, Cli, StartCli, within

MakeFile = Callable[..., Path]
StartService = Callable[..., AbstractContextManager[Service]]


# What the service receives


@pytest.mark.parametrize("size", [1, 5 * MIB, 30 * MIB], ids=["1 byte", "5 MiB", "30 MiB"])
def test_local_upload_is_verified_and_kept(cli: Cli, make_file: MakeFile, tmp_path: Path, size: int) -> None:
    """The video is on standard output, the SHA-256 on standard error, the copy in --data."""
    path = make_file("movie.mp4", size)
    done = cli("upload", path, "--local", "--data", tmp_path / "kept", "--part-size", "5MiB", "--json")
    assert done.returncode == 0
    video = json.loads(done.stdout)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert f"the emulator's copy has the same SHA-256: {digest}" in done.stderr
    parts = -(-size // (5 * MIB))
    assert f"movie.mp4: uploaded {format_size(size)}, {parts} part" in done.stderr
    kept = [each for each in (tmp_path / "kept").rglob("*") if each.is_file() and each.stat().st_size == size]
    assert hashlib.sha256(kept[0].read_bytes()).hexdigest() == digest
    assert video["title"] == "movie.mp4"


def test_all_details_reach_the_service(online: Cli, service: Service, make_file: MakeFile) -> None:
    """The container has the value of each option."""
    details = {
        "title": "A title", "description": "Words", "tags": ["a", "b"], "public": False, "panoramic": True,
        "mp4Support": False, "playerId": "pl1", "language": "en",
    }  # fmt: skip
    flags = [
        "--title=A title", "--description=Words", "--tag=a", "--tag=b", "--private", "--panoramic",
        "--no-mp4-support", "--player-id=pl1", "--language=en", "--metadata=key=va=lue",
    ]  # fmt: skip
    done = online("upload", make_file("x.mp4", 10), *flags, "--json")
    assert done.returncode == 0, done.stderr
    video = json.loads(done.stdout)
    assert {name: video[name] for name in details} == details
    assert video["metadata"] == [{"key": "key", "value": "va=lue"}]


def test_transfer_options(online: Cli, service: Service, make_file: MakeFile) -> None:
    """Part size, ranges and container are those of the options."""
    video_id = service.request(lambda client: client.create_video(title="made before")).video_id
    options = (f"--video-id={video_id}", "--part-size=5MiB", "--ranges=bytes", "--no-resume")
    done = online("upload", make_file("b.mp4", 11 * MIB), *options)
    assert done.returncode == 0, done.stderr
    assert service.titles() == ["made before"]
    ranges = {record.content_range for record in service.emulator.requests if record.endpoint == "upload"}
    assert {f"bytes 0-{5 * MIB - 1}/{11 * MIB}", f"bytes {10 * MIB}-{11 * MIB - 1}/{11 * MIB}"} <= ranges


def test_special_characters_in_file_names(online: Cli, service: Service, make_file: MakeFile) -> None:
    """Quotes, line ends, letters and invalid UTF-8 break neither the request nor the terminal."""
    name = 'it\'s "a"\r\nX-Evil: 1\t\x1b[31m été 映画.mp4'
    odd = os.fsdecode(b"latin-\xe9.mp4")
    done = online("upload", make_file(name, 10), make_file(odd, 10))
    assert done.returncode == 0, done.stderr
    assert set(service.titles()) == {name, "latin-\ufffd.mp4"}
    assert "\x1b" not in done.stderr + done.stdout
    assert len(done.stdout.splitlines()) == 2
    assert "\\r\\nX-Evil" in done.stdout


# What is printed


def test_one_line_on_standard_output(online: Cli, service: Service, make_file: MakeFile) -> None:
    """It has the videoId and the address of the player."""
    done = online("upload", make_file("movie.mp4", 10), "--quiet")
    (video_id,) = service.emulator.videos
    assert done.stdout.split()[:2] == [video_id, f"{service.emulator.url}/embed/vod/{video_id}"]
    assert done.stderr == ""


def test_wait(online: Cli, service: Service, make_file: MakeFile) -> None:
    """--wait requests the status until the video is playable."""
    done = online("upload", make_file("movie.mp4", 10), "--wait")
    assert done.returncode == 0
    assert [record.endpoint for record in service.emulator.requests].count("status") >= 1


def test_several_sources_are_one_array(online: Cli, service: Service, make_file: MakeFile) -> None:
    """A failure does not stop the others; the exit code is 1."""
    service.portal.call(service.emulator.add_fault, Fault.parse("create,times=1:problem=invalid-attribute"))
    paths = [make_file(name, 10) for name in ("a.mp4", "b.mp4", "c.mp4")]
    done = online("upload", *paths, "--json", "--concurrency=1")
    assert done.returncode == 1
    failed, *videos = json.loads(done.stdout)
    assert failed["source"] == str(paths[0])
    assert failed["error"].startswith("The service responded with 400: ")
    assert [video["title"] for video in videos] == service.titles() == ["b.mp4", "c.mp4"]
    assert f"error: {paths[0]}: The service responded with 400" in done.stderr


def test_parts_are_logged_with_v(online: Cli, make_file: MakeFile) -> None:
    """A line for each stored part, and a last line for each file."""
    paths = [make_file(f"{number}.mp4", 11 * MIB) for number in range(2)]
    log = online("upload", *paths, "--part-size=5MiB", "-v").stderr
    for path in paths:
        assert "stored (3 of 3)" in log
        assert f"{path}: uploaded 11 MiB, 3 parts, in " in log


SECRETS = {
    "key": ("", False),
    "refused key": ("auth:problem=authentication-invalid-user-credentials", False),
    "key, connection lost": ("upload:cut,when=middle", False),
    "token": ("", True),
    "refused token": ("upload:status=403", True),
    "token, connection lost": ("upload:cut,when=middle", True),
}


@pytest.mark.parametrize(("fault", "token"), SECRETS.values(), ids=SECRETS)
def test_no_secret_is_shown_with_vv(
    start_cli: StartCli, service: Service, make_file: MakeFile, fault: str, token: bool
) -> None:
    """No message, log line or traceback has a key or a token."""
    if fault:
        service.portal.call(service.emulator.add_fault, Fault.parse(fault))
    secret = {"APIVIDEO_API_KEY": KEY}
    if token:
        secret = {"APIVIDEO_UPLOAD_TOKEN": service.make_token()}
    path = make_file("movie.mp4", 6 * MIB)
    arguments = ("upload", path, "-vv", "--max-attempts=2")
    process = start_cli(*arguments, APIVIDEO_BASE_URL=service.emulator.url, **secret)
    output = "".join(process.communicate(timeout=30))
    bearers = service.emulator._server.credentials.bearers
    for hidden in (*secret.values(), *bearers.expires_s, *bearers.refreshable_s):
        assert hidden not in output


def test_a_traceback_shows_no_token() -> None:
    """Some errors of aiohttp have the URL, and thus the token."""
    error = OSError("Can not write request body for http://127.0.0.1/upload?token=to1secret")
    wrapped = UploaderError("The connection was lost.")
    wrapped.__cause__ = error
    text = LogFormatter(debug=True).formatException((UploaderError, wrapped, None))
    assert "Can not write request body for http://127.0.0.1/upload?token=(hidden)" in text
    assert "to1secret" not in text


# How the command ends


def test_a_failure_is_one_message(online: Cli, service: Service, make_file: MakeFile) -> None:
    """Exit code 1, no standard output; the message has the part, the status and the service's text."""
    service.portal.call(service.emulator.add_fault, Fault.parse("part=2:problem=uploaded-file-invalid-file"))
    done = online("upload", make_file("movie.mp4", 11 * MIB), "--part-size=5MiB", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "art 2 of 3: The service responded with 400: " in line


def test_vv_logs_the_traceback_of_a_failure(start_cli: StartCli, make_file: MakeFile) -> None:
    """A refused connection is logged with its traceback."""
    arguments = ("upload", make_file("movie.mp4", 10), "--base-url=http://127.0.0.1:9", "--max-attempts=1")
    process = start_cli(*arguments, "-vv", APIVIDEO_API_KEY=KEY)
    log = process.communicate(timeout=30)[1]
    assert process.returncode == 1
    assert "Traceback" in log


def test_standard_output_without_a_reader(start_cli: StartCli, make_file: MakeFile) -> None:
    """A closed pipe is exit code 1 without a message."""
    reader, writer = os.pipe()
    os.close(reader)
    process = start_cli("upload", make_file("movie.mp4", 10), "--local", "--json", "--quiet", stdout=writer)
    os.close(writer)
    assert process.communicate(timeout=30)[1] == ""
    assert process.returncode == 1


@pytest.mark.parametrize(("number", "times"), [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGTERM, 1)])
def test_an_interrupted_upload_ends_within_a_second(
    start_service: StartService, start_cli: StartCli, make_file: MakeFile, number: signal.Signals, times: int
) -> None:
    """Exit code 130; the last lines have the acknowledged parts and how to resume."""
    with start_service(connection_rate=10_000_000) as service:
        path = make_file("movie.mp4", 300 * MIB, sparse=True)
        process = start_cli(
            "upload", path, "--part-size=5MiB", APIVIDEO_BASE_URL=service.emulator.url, APIVIDEO_API_KEY=KEY
        )
        service.wait_for(lambda emulator: any(video.received_bytes for video in emulator.videos.values()))
        with within(1):
            for _ in range(times):
                process.send_signal(number)
            out, err = process.communicate(timeout=10)
        assert process.returncode == 130
        assert out == ""
        *stopped, advice = err.splitlines()
        assert advice == "Interrupted. Run the same command again to resume."
        # A second signal may arrive before the first is handled.
        assert times > 1 or stopped[0].startswith(f"{path}: stopped after ")


def test_results_so_far_are_printed_after_an_interruption(
    start_service: StartService, start_cli: StartCli, make_file: MakeFile
) -> None:
    """The array has the videos that were finished before."""
    with start_service(connection_rate=10_000_000) as service:
        paths = [make_file("small.mp4", 10), make_file("big.mp4", 300 * MIB, sparse=True)]
        process = start_cli(
            "upload", *paths, "--json", APIVIDEO_BASE_URL=service.emulator.url, APIVIDEO_API_KEY=KEY
        )
        assert process.stderr is not None
        assert process.stderr.readline().startswith(f"{paths[0]}: uploaded ")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=10)
        assert process.returncode == 130
        assert [video["title"] for video in json.loads(out)] == ["small.mp4"]
