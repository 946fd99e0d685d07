"""`upload`: what arrives, what is shown where, and how it ends."""

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
from async_uploader.cli._output import _Line
from async_uploader.emulator import Fault

from .conftest import KEY, MIB, Cli, Service, StartCli, within

MakeFile = Callable[..., Path]
StartService = Callable[..., AbstractContextManager[Service]]


# What arrives


@pytest.mark.parametrize("size", [1, 5 * MIB, 30 * MIB], ids=["1 byte", "5 MiB", "30 MiB"])
def test_local_upload_is_compared_and_kept(cli: Cli, make_file: MakeFile, tmp_path: Path, size: int) -> None:
    """One JSON Video on standard output, the comparison on standard error, the copy in --data."""
    path = make_file("movie.mp4", size)
    done = cli("upload", path, "--local", "--data", tmp_path / "kept", "--part-size", "5MiB", "--json")
    assert done.returncode == 0
    video = json.loads(done.stdout)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert f"the local service's copy has the same SHA-256: {digest}" in done.stderr
    parts = -(-size // (5 * MIB))
    assert f"movie.mp4: uploaded {format_size(size)}, {parts} part" in done.stderr
    kept = [each for each in (tmp_path / "kept").rglob("*") if each.is_file() and each.stat().st_size == size]
    assert hashlib.sha256(kept[0].read_bytes()).hexdigest() == digest
    assert video["title"] == "movie.mp4"


def test_all_details_reach_the_service(online: Cli, service: Service, make_file: MakeFile) -> None:
    """Each option of the video is in the container."""
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


def test_transfer_options_are_obeyed(online: Cli, service: Service, make_file: MakeFile) -> None:
    """The part size, the kind of ranges and the container are what was asked for."""
    video_id = service.ask(lambda client: client.create_video(title="made before")).video_id
    options = (f"--video-id={video_id}", "--part-size=5MiB", "--ranges=bytes", "--no-resume")
    done = online("upload", make_file("b.mp4", 11 * MIB), *options)
    assert done.returncode == 0, done.stderr
    assert service.titles() == ["made before"]
    ranges = {record.content_range for record in service.emulator.requests if record.endpoint == "upload"}
    assert {f"bytes 0-{5 * MIB - 1}/{11 * MIB}", f"bytes {10 * MIB}-{11 * MIB - 1}/{11 * MIB}"} <= ranges


def test_a_file_name_is_a_title_and_nothing_else(online: Cli, service: Service, make_file: MakeFile) -> None:
    """Quotes, line ends, letters and a lone byte neither break the request nor the terminal."""
    name = 'it\'s "a"\r\nX-Evil: 1\t\x1b[31m été 映画.mp4'
    odd = os.fsdecode(b"latin-\xe9.mp4")
    done = online("upload", make_file(name, 10), make_file(odd, 10))
    assert done.returncode == 0, done.stderr
    assert set(service.titles()) == {name, "latin-\ufffd.mp4"}
    assert "\x1b" not in done.stderr + done.stdout
    assert len(done.stdout.splitlines()) == 2
    assert "\\r\\nX-Evil" in done.stdout


# What is shown


def test_one_line_for_people(online: Cli, service: Service, make_file: MakeFile) -> None:
    """The video's id and its player, on standard output."""
    done = online("upload", make_file("movie.mp4", 10), "--quiet")
    (video_id,) = service.emulator.videos
    assert done.stdout.split()[:2] == [video_id, f"{service.emulator.url}/embed/vod/{video_id}"]
    assert done.stderr == ""


def test_waiting_ends_with_a_playable_video(online: Cli, service: Service, make_file: MakeFile) -> None:
    """--wait asks for the status until it can be played."""
    done = online("upload", make_file("movie.mp4", 10), "--wait")
    assert done.returncode == 0
    assert [record.endpoint for record in service.emulator.requests].count("status") >= 2


def test_several_sources_are_one_array(online: Cli, service: Service, make_file: MakeFile) -> None:
    """One that the service refuses does not stop the others; exit code 1 in the end."""
    service.portal.call(service.emulator.add_fault, Fault.parse("create,times=1:problem=invalid-attribute"))
    paths = [make_file(name, 10) for name in ("a.mp4", "b.mp4", "c.mp4")]
    done = online("upload", *paths, "--json", "--concurrency=1")
    assert done.returncode == 1
    failed, *videos = json.loads(done.stdout)
    assert failed["source"] == str(paths[0])
    assert failed["error"].startswith("The service answered 400: ")
    assert [video["title"] for video in videos] == service.titles() == ["b.mp4", "c.mp4"]
    assert f"error: {paths[0]}: The service answered 400" in done.stderr


def test_parts_are_told_with_v(online: Cli, make_file: MakeFile) -> None:
    """A line for what has arrived, named after its file; and, as always, a last line."""
    paths = [make_file(f"{number}.mp4", 11 * MIB) for number in range(2)]
    told = online("upload", *paths, "--part-size=5MiB", "-v").stderr
    for path in paths:
        assert "stored (3 of 3)" in told
        assert f"{path}: uploaded 11 MiB, 3 parts, in " in told


SECRETS = {
    "key": ("", False),
    "refused key": ("auth:problem=authentication-invalid-user-credentials", False),
    "key on a broken line": ("upload:cut,when=middle", False),
    "token": ("", True),
    "refused token": ("upload:status=403", True),
    "token on a broken line": ("upload:cut,when=middle", True),
}


@pytest.mark.parametrize(("fault", "token"), SECRETS.values(), ids=SECRETS)
def test_no_secret_is_shown_with_vv(
    start_cli: StartCli, service: Service, make_file: MakeFile, fault: str, token: bool
) -> None:
    """Neither a key nor a token, in no message, log line or traceback."""
    if fault:
        service.portal.call(service.emulator.add_fault, Fault.parse(fault))
    secret = {"APIVIDEO_API_KEY": KEY}
    if token:
        secret = {"APIVIDEO_UPLOAD_TOKEN": service.make_token()}
    path = make_file("movie.mp4", 6 * MIB)
    arguments = ("upload", path, "-vv", "--max-attempts=2")
    process = start_cli(*arguments, APIVIDEO_BASE_URL=service.emulator.url, **secret)
    told = "".join(process.communicate(timeout=30))
    bearers = service.emulator._server.credentials.bearers
    for hidden in (*secret.values(), *bearers.expires_s, *bearers.refreshable_s):
        assert hidden not in told


def test_a_traceback_shows_no_token() -> None:
    """aiohttp names the URL, and with it the token, when a request's body cannot be written any more."""
    error = OSError("Can not write request body for http://127.0.0.1/upload?token=to1secret")
    wrapped = UploaderError("The connection was lost.")
    wrapped.__cause__ = error
    told = _Line(debug=True).formatException((UploaderError, wrapped, None))
    assert "Can not write request body for http://127.0.0.1/upload?token=(hidden)" in told
    assert "to1secret" not in told


# How it ends


def test_a_failure_is_one_message(online: Cli, service: Service, make_file: MakeFile) -> None:
    """Exit code 1, nothing on standard output; the part, the status, the service's own words."""
    service.portal.call(service.emulator.add_fault, Fault.parse("part=2:problem=uploaded-file-invalid-file"))
    done = online("upload", make_file("movie.mp4", 11 * MIB), "--part-size=5MiB", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "art 2 of 3: The service answered 400: " in line


def test_where_a_failure_came_from_is_told_with_vv(start_cli: StartCli, make_file: MakeFile) -> None:
    """Nobody listens there: the traceback is for those who ask."""
    arguments = ("upload", make_file("movie.mp4", 10), "--base-url=http://127.0.0.1:9", "--max-attempts=1")
    process = start_cli(*arguments, "-vv", APIVIDEO_API_KEY=KEY)
    told = process.communicate(timeout=30)[1]
    assert process.returncode == 1
    assert "Traceback" in told


def test_results_that_nobody_reads(start_cli: StartCli, make_file: MakeFile) -> None:
    """A closed standard output makes no traceback."""
    process = start_cli("upload", make_file("movie.mp4", 10), "--local", "--json", "--quiet")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(timeout=30) == 1


@pytest.mark.parametrize(("number", "times"), [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGTERM, 1)])
def test_an_interrupted_upload_ends_at_once(
    start_service: StartService, start_cli: StartCli, make_file: MakeFile, number: signal.Signals, times: int
) -> None:
    """Within a second, with exit code 130, saying what had arrived and how to go on."""
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
        *stopped, how_to_go_on = err.splitlines()
        assert how_to_go_on == "interrupted; run the same command again to go on"
        # A second signal may come before the first has been answered.
        assert times > 1 or stopped[0].startswith(f"{path}: stopped at ")


def test_results_so_far_are_shown_when_interrupted(
    start_service: StartService, start_cli: StartCli, make_file: MakeFile
) -> None:
    """The array holds what was done before."""
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
