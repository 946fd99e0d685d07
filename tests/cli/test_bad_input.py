"""What cannot be meant: one plain sentence, exit code 2, and the network is not touched."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal

from async_uploader._limits import MAX_VIDEO_BYTES

from .conftest import KEY, Cli, finish, running_service, started


@dataclass(frozen=True)
class Case:
    """``arguments`` of a command, and a piece of what it answers."""

    name: str
    arguments: str
    message: str
    environment: dict[str, str] = field(default_factory=dict)


SOURCES = [
    Case("missing", "upload missing.mp4", "missing.mp4 does not exist"),
    Case("directory", "upload folder", "folder is a directory"),
    Case("empty", "upload empty.mp4", "empty.mp4 is empty"),
    Case("under a file", "upload good.mp4/x.mp4", "good.mp4/x.mp4 cannot be read: Not a directory"),
    Case("loop of links", "upload loop.mp4", "loop.mp4 cannot be read: Too many levels"),
    Case("pipe", "upload pipe", "pipe is not a regular file"),
    Case("over the limit", "upload huge.mp4", "huge.mp4 has 48.83 GiB"),
    Case("one bad of three", "upload good.mp4 missing.mp4 good.mp4", "missing.mp4 does not exist"),
]
OPTIONS = [
    Case("part size below", "upload good.mp4 --part-size 5242879", "--part-size must be"),
    Case("part size above", "upload good.mp4 --part-size 201MiB", "--part-size must be"),
    Case("part size nonsense", "upload good.mp4 --part-size many", "'many' is not a size"),
    Case("concurrency", "upload good.mp4 --concurrency 0", "--concurrency must be"),
    Case("concurrency nonsense", "upload good.mp4 --concurrency x", "--concurrency"),
    Case("max attempts", "upload good.mp4 --max-attempts 0", "--max-attempts must be"),
    Case("stall timeout", "upload good.mp4 --stall-timeout nan", "--stall-timeout must be"),
    Case("ranges", "upload good.mp4 --ranges bits", "--ranges must be 'part' or 'bytes'"),
    Case("video id", "upload good.mp4 --video-id ../x", "--video-id must be"),
    Case("title", "upload good.mp4 --title=", "--title must be text that is not empty"),
    Case("metadata without value", "upload good.mp4 --metadata nonsense", "--metadata must be KEY=VALUE"),
    Case("metadata without key", "upload good.mp4 --metadata =x", "--metadata must be KEY=VALUE"),
    Case("metadata twice", "upload good.mp4 --metadata a=1 --metadata a=2", "--metadata has the key 'a' twice"),
    Case("title of several", "upload good.mp4 good.mp4 --title x", "--title cannot be used with several sources"),
    Case(
        "container of several", "upload good.mp4 good.mp4 --video-id vi1", "--video-id cannot be used with several"
    ),
    Case("data without local", "upload good.mp4 --data x", "--data goes with --local"),
    Case("local elsewhere", "upload good.mp4 --local --sandbox", "--sandbox cannot be used with --local"),
    Case("two services", "upload good.mp4 --sandbox --base-url x", "--sandbox and --base-url"),
    Case("data is a file", "upload good.mp4 --local --data good.mp4", "The data directory"),
    Case("resuming locally", "upload good.mp4 --local --resume", "--resume cannot be used with --local"),
    Case("waiting with a token", "upload good.mp4 --upload-token to1 --wait", "--wait needs an API key"),
    Case("quiet and verbose", "upload good.mp4 -q -v", "--quiet and --verbose"),
    Case("unknown option", "upload good.mp4 --titel x", "No such option: --titel"),
    Case("unknown command", "uplaod good.mp4", "Did you mean 'upload'?"),
    Case("no source", "upload", "Missing argument 'SOURCE'"),
    Case("token's life", "tokens create --ttl -1", "--ttl"),
    Case("fault", "emulator --fault nonsense", "nonsense"),
    Case("port", "emulator --port 70000", "--port"),
    Case("rate", "emulator --connection-rate 0", "connection rate must be above 0"),
]
CREDENTIALS = [
    Case("no credentials", "upload good.mp4", "APIVIDEO_API_KEY", {"APIVIDEO_API_KEY": ""}),
    Case("no credentials for status", "status vi1", "APIVIDEO_API_KEY", {"APIVIDEO_API_KEY": ""}),
    Case(
        "waiting with the environment's token",
        "upload good.mp4 --wait",
        "--wait needs an API key",
        {"APIVIDEO_API_KEY": "", "APIVIDEO_UPLOAD_TOKEN": "to1"},
    ),
    Case("malformed URL", "upload good.mp4 --base-url nonsense", "'nonsense' is malformed"),
    Case("empty URL", "upload good.mp4 --base-url=", "--base-url is empty"),
    Case("malformed port", "upload good.mp4 --base-url http://localhost:x", "is malformed"),
    Case("malformed in the environment", "upload good.mp4", "is malformed", {"APIVIDEO_BASE_URL": "ftp://x"}),
    Case("plain http", "upload good.mp4 --base-url http://192.0.2.1", "--allow-plain-http"),
    Case("key in the URL", f"upload good.mp4 --base-url https://{KEY}@localhost", "must not contain credentials"),
]


CASES = SOURCES + OPTIONS + CREDENTIALS


@dataclass(frozen=True)
class Outcomes:
    """Of all cases; they run side by side, since most of their time is Python's own start."""

    of: dict[str, subprocess.CompletedProcess[str]]
    requests: int


@pytest.fixture(scope="module")
def outcomes(portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    directory = tmp_path_factory.mktemp("sources")
    (directory / "good.mp4").write_bytes(b"x" * 1000)
    (directory / "empty.mp4").touch()
    (directory / "folder").mkdir()
    (directory / "loop.mp4").symlink_to("loop.mp4")
    os.mkfifo(directory / "pipe")
    with (directory / "huge.mp4").open("wb") as file:
        file.truncate(MAX_VIDEO_BYTES + 1)

    with running_service(portal) as service, ThreadPoolExecutor(os.cpu_count()) as pool:
        common = {"APIVIDEO_API_KEY": KEY, "APIVIDEO_BASE_URL": service.emulator.url}

        def run(case: Case) -> subprocess.CompletedProcess[str]:
            with started(case.arguments.split(), directory, common | case.environment) as process:
                return finish(process)

        done = dict(zip((case.name for case in CASES), pool.map(run, CASES), strict=True))
        return Outcomes(done, len(service.emulator.requests) + len(service.emulator.videos))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_refused_in_one_sentence(case: Case, outcomes: Outcomes) -> None:
    """Exit code 2, one message, nothing on standard output, no secret, and not one request."""
    done = outcomes.of[case.name]
    assert done.returncode == 2
    assert done.stdout == ""
    error, *hint = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert case.message in error
    assert not hint or (len(hint) == 1 and hint[0].startswith("Try '"))
    assert KEY not in done.stderr
    assert outcomes.requests == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused(online: Cli, tmp_path: Path) -> None:
    """Its permissions are the reason that is given."""
    path = tmp_path / "secret.mp4"
    path.write_bytes(b"x")
    path.chmod(0)
    done = online("upload", path)
    assert done.returncode == 2
    assert "secret.mp4 cannot be read: Permission denied" in done.stderr


def test_plain_http_can_be_insisted_on(cli: Cli, tmp_path: Path) -> None:
    """With --allow-plain-http it gets as far as the source."""
    done = cli("upload", "x.mp4", "--base-url", "http://192.0.2.1", "--allow-plain-http", APIVIDEO_API_KEY=KEY)
    assert "x.mp4 does not exist" in done.stderr
