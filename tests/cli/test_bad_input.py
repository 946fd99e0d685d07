"""Invalid arguments: one message, exit code 2, and no request."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal

from async_uploader._limits import MAX_VIDEO_BYTES
from harness.forking import Forks
from harness.service import KEY, running_service

from .conftest import Cli


@dataclass(frozen=True)
class Case:
    """The arguments of a command, and a part of its error message."""

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
    Case("FIFO to verify", "upload pipe --local", "pipe is a FIFO, which --local cannot verify"),
    Case(
        "part size of an import",
        "upload http://localhost/x.mp4 --part-size 5MiB",
        "a URL that the service downloads",
    ),
    Case("standard input is empty", "upload -", "stdin is empty"),
    Case("standard input and others", "upload - good.mp4", "Standard input (-) cannot be used with other sources"),
    Case("directory without files", "upload folder --recursive", "folder has no files to upload"),
    Case("directory without matching files", "upload more --include *.mov", "more has no files to upload"),
    Case("an empty file in a directory", "upload more -r", "more/empty.mp4 is empty"),
    Case("twice", "upload good.mp4 ./good.mp4", "./good.mp4 is listed twice"),
    Case(
        "missing manifest", "upload --manifest missing.csv", "Cannot read the manifest missing.csv: no such file"
    ),
    Case("empty manifest", "upload --manifest empty.mp4", "lists no sources"),
    Case("manifest is not text", "upload --manifest binary.csv", "the manifest binary.csv: it is not UTF-8 text"),
    Case("manifest with an unknown column", "upload --manifest unknown.csv", "'titel'; did you mean 'title'?"),
    Case("results file has other lines", "upload good.mp4 --results good.mp4", "good.mp4, line 1 is not a result"),
    Case(
        "results cannot be written",
        "upload good.mp4 --results folder",
        "Cannot write the results to folder: it is a dir",
    ),
    Case("import of an invalid source", "import x/y", "an http(s) URL or a videoId"),
    Case("over the limit", "upload huge.mp4", "huge.mp4 has 48.83 GiB"),
    Case("one bad of three", "upload good.mp4 missing.mp4 binary.csv", "missing.mp4 does not exist"),
]
OPTIONS = [
    Case("part size below", "upload good.mp4 --part-size 5242879", "--part-size must be"),
    Case("part size above", "upload good.mp4 --part-size 201MiB", "--part-size must be"),
    Case("part size is not a size", "upload good.mp4 --part-size many", "'many' is not a size"),
    Case("concurrency", "upload good.mp4 --concurrency 0", "--concurrency must be"),
    Case("concurrency is not a number", "upload good.mp4 --concurrency x", "--concurrency"),
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
    Case("title of a directory", "upload more --include good* --title x", "--title cannot be used with several"),
    Case("globs without a directory", "upload good.mp4 --include *", "require a directory as a source"),
    Case("manifest and sources", "upload good.mp4 --manifest x", "SOURCE cannot be used with --manifest"),
    Case("results without a journal", "upload good.mp4 --results x --no-resume", "--no-resume cannot be used"),
    Case("latency of a file", "upload good.mp4 --max-latency 2", "--max-latency applies only to streams"),
    Case("latency", "upload - --max-latency 0", "--max-latency must be"),
    Case("resume a stream", "upload - --resume", "cannot be resumed"),
    Case("byte ranges of a stream", "upload pipe --ranges bytes", "is not known"),
    Case("buffer", "upload - --buffer -1", "'-1' is not a size"),
    Case("timeout without wait", "upload good.mp4 --wait-timeout 1", "--wait-timeout requires --wait"),
    Case("timeout", "import vi1 --wait --wait-timeout 0", "--wait-timeout must be"),
    Case("data without local", "upload good.mp4 --data x", "--data requires --local"),
    Case("local and sandbox", "upload good.mp4 --local --sandbox", "--sandbox cannot be used with --local"),
    Case("two services", "upload good.mp4 --sandbox --base-url x", "--sandbox and --base-url"),
    Case("data is a file", "upload good.mp4 --local --data good.mp4", "The data directory"),
    Case("resume a local upload", "upload good.mp4 --local --resume", "--resume cannot be used with --local"),
    Case("wait with a token", "upload good.mp4 --upload-token to1 --wait", "--wait requires an API key"),
    Case("quiet and verbose", "upload good.mp4 -q -v", "--quiet and --verbose"),
    Case("unknown option", "upload good.mp4 --titel x", "No such option '--titel'"),
    Case("unknown command", "uplaod good.mp4", "'upload'"),
    Case("no source", "upload", "Missing argument 'SOURCE'"),
    Case("token lifetime", "tokens create --ttl -1", "--ttl"),
    Case("fault", "emulator --fault nonsense", "nonsense"),
    Case("port", "emulator --port 70000", "--port"),
    Case("rate", "emulator --connection-rate 0", "connection rate must be above 0"),
]
CREDENTIALS = [
    Case("no credentials", "upload good.mp4", "APIVIDEO_API_KEY", {"APIVIDEO_API_KEY": ""}),
    Case("no credentials for status", "status vi1", "APIVIDEO_API_KEY", {"APIVIDEO_API_KEY": ""}),
    Case(
        "wait with the token of the environment",
        "upload good.mp4 --wait",
        "--wait requires an API key",
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
class Outcome:
    """The outcome of one command."""

    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of all cases, and the number of requests that they sent."""

    of: dict[str, Outcome]
    requests: int


def outcome_of(forks: Forks, case: Case, directory: Path, environment: dict[str, str]) -> Outcome:
    process = forks.command(
        case.arguments.split(),
        directory,
        environment | case.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    return Outcome(process.returncode, out, err)


@pytest.fixture(scope="module")
def outcomes(forks: Forks, portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    directory = tmp_path_factory.mktemp("sources")
    (directory / "good.mp4").write_bytes(b"x" * 1000)
    (directory / "empty.mp4").touch()
    (directory / "folder").mkdir()
    (directory / "more").mkdir()
    (directory / "more" / "empty.mp4").touch()
    (directory / "more" / "good.mp4").write_bytes(b"x")
    (directory / "binary.csv").write_bytes(b"\xff\xfe")
    (directory / "unknown.csv").write_text("source,titel\n")
    (directory / "loop.mp4").symlink_to("loop.mp4")
    os.mkfifo(directory / "pipe")
    with (directory / "huge.mp4").open("wb") as file:
        file.truncate(MAX_VIDEO_BYTES + 1)

    with running_service(portal) as service, ThreadPoolExecutor(os.cpu_count()) as pool:
        environment = {"APIVIDEO_API_KEY": KEY, "APIVIDEO_BASE_URL": service.emulator.url}
        done = pool.map(lambda case: outcome_of(forks, case, directory, environment), CASES)
        of = dict(zip((case.name for case in CASES), done, strict=True))
        return Outcomes(of, len(service.emulator.requests) + len(service.emulator.videos))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_invalid_input_is_refused_with_one_message(case: Case, outcomes: Outcomes) -> None:
    """Exit code 2, one message, no standard output, no secret, no request."""
    done = outcomes.of[case.name]
    assert done.returncode == 2
    assert done.stdout == ""
    error, *hint = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert case.message in error
    assert not hint or (len(hint) == 1 and hint[0].startswith("Try '"))
    assert KEY not in done.stderr
    assert outcomes.requests == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file")
def test_an_unreadable_file_is_refused(online: Cli, tmp_path: Path) -> None:
    """The message names the permission."""
    path = tmp_path / "secret.mp4"
    path.write_bytes(b"x")
    path.chmod(0)
    done = online("upload", path)
    assert done.returncode == 2
    assert "secret.mp4 cannot be read: Permission denied" in done.stderr


def test_plain_http_can_be_allowed(cli: Cli, tmp_path: Path) -> None:
    """With --allow-plain-http, the next error is that of the source."""
    done = cli("upload", "x.mp4", "--base-url", "http://192.0.2.1", "--allow-plain-http", APIVIDEO_API_KEY=KEY)
    assert "x.mp4 does not exist" in done.stderr
