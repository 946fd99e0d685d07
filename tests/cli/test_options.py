"""Options whose effect only the service, or a clock, can see."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from email.message import Message
from pathlib import Path
from typing import Any

from async_uploader.emulator import Fault
from harness.service import KEY, Service

from .conftest import MIB, Cli, StartCli, within

MakeFile = Callable[..., Path]
StartService = Callable[..., AbstractContextManager[Service]]


def test_details_that_do_not_come_back(online: Cli, service: Service, make_file: MakeFile) -> None:
    """What the Video does not show, has reached the service all the same."""
    flags = [
        "--transcript", "--transcript-summary", "--transcript-summary-attribute=abstract",
        "--transcript-summary-attribute=takeaways", "--watermark=id=watermark_1", "--watermark=top=5px",
        "--clip=startTimecode=00:00:01", "--clip=endTimecode=00:00:02",
    ]  # fmt: skip
    done = online("upload", make_file("x.mp4", 10), *flags)
    assert done.returncode == 0, done.stderr
    (video,) = service.emulator._store.videos.values()
    expected = {
        "transcript": True,
        "transcriptSummary": True,
        "transcriptSummaryAttributes": ["abstract", "takeaways"],
        "watermark": {"id": "watermark_1", "top": "5px"},
        "clip": {"startTimecode": "00:00:01", "endTimecode": "00:00:02"},
    }
    assert {name: video.container.details.get(name) for name in expected} == expected


def test_concurrency(start_service: StartService, cli: Cli, make_file: MakeFile) -> None:
    """So many parts are in flight, of one file or of several together."""
    with start_service(connection_rate=20_000_000) as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        files = [make_file(name, 11 * MIB) for name in ("a.mp4", "b.mp4")]
        done = cli("upload", *files, "--concurrency=3", "--part-size=5MiB", **settings)
        assert done.returncode == 0, done.stderr
        assert service.emulator.statistics().peak_uploads_in_flight == 3


def test_max_attempts(online: Cli, service: Service, make_file: MakeFile) -> None:
    """A part that is always refused is tried so often."""
    service.portal.call(service.emulator.add_fault, Fault.parse("upload:status=503"))
    done = online("upload", make_file("x.mp4", 10), "--max-attempts=2")
    assert done.returncode == 1
    assert [each.attempt for each in service.emulator.requests if each.endpoint == "upload"] == [1, 2]


def test_stall_timeout(online: Cli, service: Service, make_file: MakeFile) -> None:
    """A part that does not move for so long is tried again."""
    service.portal.call(service.emulator.add_fault, Fault.parse("upload,attempt=1:stall=forever"))
    with within(10):
        done = online("upload", make_file("x.mp4", 10), "--stall-timeout=0.5")
    assert done.returncode == 0, done.stderr
    assert service.titles() == ["x.mp4"]


# The command `emulator`


@contextmanager
def emulator(start_cli: StartCli, *flags: str) -> Iterator[Callable[..., tuple[int, Message, Any]]]:
    """Started by hand; gives what asks it for something."""
    process = start_cli("emulator", "--api-key", KEY, *flags)
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]

    def ask(path: str, body: object = None, **headers: str) -> tuple[int, Message, Any]:
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"{url}/{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.headers, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, json.load(error)

    yield ask
    process.terminate()
    assert process.wait(10) == 0


def test_latency_and_token_ttl(start_cli: StartCli) -> None:
    """Every answer takes so long; a token says, and sees to it, how long it is good for."""
    with emulator(start_cli, "--latency=0.3", "--token-ttl=1") as ask:
        began = time.monotonic()
        _, _, tokens = ask("auth/api-key", {"apiKey": KEY})
        assert time.monotonic() - began >= 0.3
        assert tokens["expires_in"] == 1
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        assert ask("videos", **bearer)[0] == 200
        while ask("videos", **bearer)[0] == 200:
            assert time.monotonic() - began < 10
        assert ask("videos", **bearer)[0] == 401


def test_rate_limit_and_window(start_cli: StartCli) -> None:
    """Five reads for each upload, and the time until there are more."""
    with emulator(start_cli, "--rate-limit=1", "--rate-window=50") as ask:
        _, _, tokens = ask("auth/api-key", {"apiKey": KEY})
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        answers = [ask("videos", **bearer)[:2] for _ in range(6)]
        assert [status for status, _ in answers] == [200] * 5 + [429]
        assert {headers["X-RateLimit-Limit"] for _, headers in answers} == {"5"}
        assert 45 <= int(answers[-1][1]["X-RateLimit-Retry-After"]) <= 50


def test_link_rate(start_cli: StartCli, cli: Cli, make_file: MakeFile) -> None:
    """All connections together bring in no more than that."""
    process = start_cli("emulator", "--api-key", KEY, "--link-rate", "8MB")
    assert process.stdout is not None
    settings = {"APIVIDEO_BASE_URL": process.stdout.readline().split()[-1], "APIVIDEO_API_KEY": KEY}
    path = make_file("x.mp4", 16_000_000)
    began = time.monotonic()
    done = cli("upload", path, "--part-size=5MiB", "--concurrency=4", **settings)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began >= 1.5
