"""Messages that name the cause and the next step: the wrong host, key, port or file."""

from __future__ import annotations

import re
import signal
import socket
import time
import urllib.request
from pathlib import Path

import pytest

from async_uploader import AuthenticationError
from async_uploader.cli import _hints
from async_uploader.cli._format import format_retries
from harness.service import KEY, Service

from .conftest import Cli, StartCli, finish
from .test_upload import MakeFile


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_nothing_listens_at_the_base_url(cli: Cli, make_file: MakeFile, free_port: int) -> None:
    """The command gives up after a few seconds, with a hint."""
    url = f"http://127.0.0.1:{free_port}"
    began = time.monotonic()
    done = cli("upload", make_file("a.mp4", 10), APIVIDEO_BASE_URL=url, APIVIDEO_API_KEY=KEY)
    assert time.monotonic() - began < 12
    assert done.returncode == 1
    *_, last = done.stderr.splitlines()
    reason = f"error: No response from the service: no connection to 127.0.0.1:{free_port} (Connection refused)."
    assert last == f"{reason} Check the base URL {url}/ and whether the service is running."


def test_a_service_that_restarts_is_waited_for(
    online: Cli, start_online: StartCli, start_cli: StartCli, make_file: MakeFile, free_port: int, tmp_path: Path
) -> None:
    """It has responded before, so the URL is right."""
    emulator = ("emulator", "--port", free_port, "--data", tmp_path / "data", "--api-key", KEY)
    first = start_cli(*emulator, "--fault", "part=1,attempt=1:stall=60")
    assert first.stdout is not None
    first.stdout.readline()
    url = f"http://127.0.0.1:{free_port}"
    settings = {"APIVIDEO_BASE_URL": url, "APIVIDEO_API_KEY": KEY}
    process = start_cli("upload", make_file("a.mp4", 10), "--max-attempts=30", "-v", **settings)
    assert process.stderr is not None
    first_line = process.stderr.readline()
    first.kill()
    first.wait()
    refused = 0
    for line in process.stderr:
        refused += "Connection refused" in line
        if refused == 5:
            break
    assert refused == 5, first_line
    second = start_cli(*emulator)
    done = finish(process)
    assert done.returncode == 0, done.stderr
    second.kill()


def test_a_wrong_key_names_the_service(cli: Cli, service: Service, make_file: MakeFile) -> None:
    settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": "wrong"}
    host = service.emulator.url.removeprefix("http://")
    for command in (("upload", make_file("a.mp4", 10)), ("status", "vi1")):
        (line,) = cli(*command, **settings).stderr.splitlines()
        assert line.endswith(f"The request was sent to {host}; each environment has its own keys.")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://ws.api.video/", "ws.api.video (production)"),
        ("https://sandbox.api.video/", "sandbox.api.video (sandbox)"),
    ],
)
def test_environments_have_names(monkeypatch: pytest.MonkeyPatch, url: str, name: str) -> None:
    monkeypatch.setattr(_hints, "_base_url", url)
    error = AuthenticationError(status=401, title="No")
    assert _hints.hint_for(error) == f"The request was sent to {name}; each environment has its own keys."


def test_options_have_their_names(cli: Cli, make_file: MakeFile) -> None:
    """Messages name options, and not parameters; the hint to the help names the command."""
    path = make_file("a.mp4", 10)
    plain = cli("upload", path, APIVIDEO_BASE_URL="http://example.com", APIVIDEO_API_KEY="key").stderr
    assert plain.endswith("would send credentials unencrypted; use https://, or add --allow-plain-http.\n")
    missing = cli("upload", path, "--title", APIVIDEO_API_KEY="key").stderr
    assert missing == "error: Option '--title' requires an argument.\nTry 'async-uploader upload --help'.\n"


def test_a_pending_retry_has_words() -> None:
    """The names of operations are for programs."""
    text = format_retries({"find": 10.0}, 8.0)
    assert text == "search for the unfinished video failed; retrying in 2 s"
    assert format_retries({"part 3": 10.0}, 8.0) == "part 3 failed; retrying in 2 s"


def test_a_port_in_use(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = cli("emulator", "--port", port)
    assert done.returncode == 1
    assert done.stderr == (
        f"error: Port {port} of 127.0.0.1 is in use by another program. Select another one with --port, or any "
        "free one with --port 0.\n"
    )


def test_a_missing_file_comes_before_a_missing_key(cli: Cli, make_file: MakeFile) -> None:
    """Without a key, missing files are named first; the key is next."""
    make_file("there.mp4", 10)
    done = cli("upload", "there.mp4", "no.mp4", "nor.mp4")
    assert done.returncode == 2
    assert done.stderr == "error: no.mp4 does not exist.\nerror: nor.mp4 does not exist.\n"
    done = cli("upload", "there.mp4")
    assert done.returncode == 2
    assert done.stderr == (
        "error: No credentials: set APIVIDEO_API_KEY (or APIVIDEO_UPLOAD_TOKEN), or use --upload-token.\n"
    )


def test_no_interrupted_uploads(cli: Cli) -> None:
    """Standard output stays empty for scripts."""
    done = cli("uploads")
    assert (done.stdout, done.returncode) == ("", 0)
    assert done.stderr == "There are no interrupted uploads on this machine.\n"
    done = cli("uploads", "--json")
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_local_prints_no_dead_link(cli: Cli, make_file: MakeFile) -> None:
    """The emulator has ended when the command does; the message says where the copy was compared."""
    done = cli("upload", make_file("a.mp4", 10), "--local")
    assert done.returncode == 0
    assert re.fullmatch(r"vi\w+  -  \S*a\.mp4\n", done.stdout)
    assert "a.mp4: the emulator's copy has the same SHA-256: " in done.stderr


def test_keep_open(start_cli: StartCli, make_file: MakeFile) -> None:
    """The page and the player are served until Ctrl-C."""
    process = start_cli("upload", make_file("a.mp4", 10), "--local", "--keep-open")
    assert process.stdout is not None
    assert process.stderr is not None
    player = process.stdout.readline().split()[1]
    url = next(line for line in process.stderr if "can be watched at" in line).split()[-3]
    for address in (player, url):
        with urllib.request.urlopen(address) as response:
            assert response.status == 200
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.returncode == 130
    assert done.stderr == "Interrupted. The emulator has stopped.\n"


def test_keep_open_requires_local(online: Cli, make_file: MakeFile) -> None:
    done = online("upload", make_file("a.mp4", 10), "--keep-open")
    assert done.returncode == 2
    assert "--keep-open requires --local." in done.stderr
