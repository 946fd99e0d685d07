"""All commands but `upload`."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

import async_uploader
from async_uploader.emulator import Emulator
from harness.service import KEY, Service

from .conftest import Cli, StartCli


def test_status_as_columns_and_as_json(online: Cli, service: Service, make_file: Callable[..., Path]) -> None:
    """Columns for people; the service's response with --json."""
    path = make_file("movie.mp4", 10)
    video_id = service.request(lambda client: client.upload(path)).video_id
    service.request(lambda client: client.wait_until_playable(video_id))
    columns = online("status", video_id)
    assert columns.returncode == 0
    rows = dict(line.split(maxsplit=1) for line in columns.stdout.splitlines())
    assert rows["size"] == "10 bytes"
    assert rows["parts"] == "1 of 1"
    assert rows["playable"] == "yes"
    assert json.loads(online("status", video_id, "--json").stdout)["ingest"]["filesize"] == 10


def test_delete(online: Cli, service: Service) -> None:
    """Deleting a video twice is an error."""
    video_id = service.request(lambda client: client.create_video(title="x")).video_id
    assert online("delete", video_id).returncode == 0
    assert not service.emulator.videos
    again = online("delete", video_id)
    assert again.returncode == 1
    assert again.stderr.startswith("error: The service responded with 404: ")


def test_import_of_a_url(online: Cli, service: Service, web: str) -> None:
    """Details and output are the same as for `upload`."""
    done = online("import", web, "--title=Far", "--tag=a", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    video = json.loads(done.stdout)
    assert (video["title"], video["tags"]) == ("Far", ["a"])
    assert service.finished(video["videoId"]).size_bytes == 9
    assert done.stderr.splitlines()[-2:] == [f"{web}: hls 240p encoded", f"{web}: playable"]


def test_import_of_a_video(online: Cli, service: Service, make_file: Callable[..., Path]) -> None:
    """An import of a videoId clones the video."""
    path = make_file("movie.mp4", 10)
    original = service.request(lambda client: client.upload(path)).video_id
    done = online("import", service.finished(original).video_id, "--quiet")
    assert done.returncode == 0, done.stderr
    copy = service.finished(done.stdout.split()[0])
    assert copy.video_id != original
    assert (copy.sha256, done.stderr) == (service.finished(original).sha256, "")


FAILING_WAITS = {
    "failed": ((), "cannot be played"),
    # Shorter than the first response can take, however fast the import fails.
    "late": (("--wait-timeout=0.000001",), "was not playable within 1e-06 s"),
}


@pytest.mark.parametrize(("flags", "message"), FAILING_WAITS.values(), ids=FAILING_WAITS)
def test_import_that_fails(online: Cli, web: str, flags: tuple[str, ...], message: str) -> None:
    """A failed import and a timeout are errors."""
    done = online("import", f"{web}-missing", "--wait", *flags)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr.splitlines()[-1]


def has_bytes_of(title: str, emulator: Emulator) -> bool:
    return any(video.received_bytes for video in emulator.videos.values() if video.title == title)


def test_uploads_and_forget(
    start_service: Callable[..., AbstractContextManager[Service]],
    start_cli: StartCli,
    cli: Cli,
    make_file: Callable[..., Path],
) -> None:
    """Uploads that kill -9 interrupted are listed, and can be forgotten with or without their videos."""
    with start_service(connection_rate=5_000_000) as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        for name in ("a.mp4", "b.mp4"):
            process = start_cli("upload", make_file(name, 11 << 20), "--part-size=5MiB", **settings)
            service.wait_for(partial(has_bytes_of, name))
            process.kill()
            process.wait()
        a, b = service.emulator.videos
        lines = cli("uploads").stdout.splitlines()
        assert [line.split()[0] for line in lines] == [a, b]
        assert all(" of 3 parts, " in line and service.emulator.url in line for line in lines)
        entries = json.loads(cli("uploads", "--json").stdout)
        assert [(each["video_id"], each["parts_total"], each["total_bytes"]) for each in entries] == [
            (video_id, 3, 11 << 20) for video_id in (a, b)
        ]
        assert cli("forget", a, **settings).returncode == 0
        assert cli("forget", b, "--delete", **settings).returncode == 0
        assert cli("uploads").stdout == ""
        assert list(service.emulator.videos) == [a]
        again = cli("forget", a, **settings)
        assert again.returncode == 2
        assert again.stderr == f"error: There is no unfinished upload to video '{a}'.\n"


def test_tokens(online: Cli) -> None:
    """Tokens are created, listed and deleted."""
    token = online("tokens", "create", "--ttl=60").stdout.strip()
    other = json.loads(online("tokens", "create", "--json").stdout)
    assert other["ttl"] == 0
    assert {line.split()[0] for line in online("tokens", "list").stdout.splitlines()} == {token, other["token"]}
    assert online("tokens", "delete", other["token"]).returncode == 0
    assert [each["token"] for each in json.loads(online("tokens", "list", "--json").stdout)] == [token]


def test_a_token_uploads_without_a_key(cli: Cli, service: Service, make_file: Callable[..., Path]) -> None:
    """An upload needs no API key then."""
    service_flags = (f"--upload-token={service.make_token()}", f"--base-url={service.emulator.url}")
    done = cli("upload", make_file("movie.mp4", 11 << 20), "--part-size=5MiB", *service_flags)
    assert done.returncode == 0, done.stderr
    assert service.titles() == ["movie.mp4"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_emulator_prints_its_address_and_stops(start_cli: StartCli, number: signal.Signals) -> None:
    """The first line of standard output is the address; a signal ends it with exit code 0."""
    process = start_cli("emulator", "--api-key", KEY, "--rate-limit", "5", "--fault", "list:status=503")
    assert process.stdout is not None
    listening, _, url = process.stdout.readline().strip().rpartition(" ")
    assert listening == "listening on"
    request = urllib.request.Request(f"{url}/auth/api-key", json.dumps({"apiKey": KEY}).encode(), method="POST")
    with urllib.request.urlopen(request) as response:
        assert response.status in (200, 201)
    process.send_signal(number)
    assert process.communicate(timeout=10) == ("", "")
    assert process.returncode == 0


def test_emulator_on_a_port_in_use(cli: Cli) -> None:
    """The error is one message."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = cli("emulator", "--port", taken.getsockname()[1])
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "error: " in line
    assert "in use" in line


def test_help_and_version(cli: Cli) -> None:
    """Both print to standard output."""
    assert cli("--version").stdout == f"async-uploader {async_uploader.__version__}\n"
    assert "--part-size" in cli("upload", "--help").stdout


def test_nothing_heavy_is_imported_early() -> None:
    """Starting a command imports no module that it does not need."""
    program = (
        "import sys; from async_uploader.cli import _main; "
        "print({'aiohttp', 'rich', 'msgspec', 'async_uploader.emulator'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
