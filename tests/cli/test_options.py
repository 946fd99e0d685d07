"""Options whose effect is visible only to the service or a clock."""

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


def test_details_that_the_response_does_not_have(online: Cli, service: Service, make_file: MakeFile) -> None:
    """The emulator has received them."""
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
    """It limits the parts in flight of all files together."""
    with start_service(connection_rate=20_000_000) as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        files = [make_file(name, 11 * MIB) for name in ("a.mp4", "b.mp4")]
        done = cli("upload", *files, "--concurrency=3", "--part-size=5MiB", **settings)
        assert done.returncode == 0, done.stderr
        assert service.emulator.statistics().peak_uploads_in_flight == 3


def test_max_attempts(online: Cli, service: Service, make_file: MakeFile) -> None:
    """A part that always fails is sent this often."""
    service.portal.call(service.emulator.add_fault, Fault.parse("upload:status=503"))
    done = online("upload", make_file("x.mp4", 10), "--max-attempts=2")
    assert done.returncode == 1
    assert [each.attempt for each in service.emulator.requests if each.endpoint == "upload"] == [1, 2]


def test_stall_timeout(online: Cli, service: Service, make_file: MakeFile) -> None:
    """A part that stalls is sent again."""
    service.portal.call(service.emulator.add_fault, Fault.parse("upload,attempt=1:stall=forever"))
    with within(10):
        done = online("upload", make_file("x.mp4", 10), "--stall-timeout=0.5")
    assert done.returncode == 0, done.stderr
    assert service.titles() == ["x.mp4"]


# The command `emulator`


@contextmanager
def emulator(start_cli: StartCli, *flags: str) -> Iterator[Callable[..., tuple[int, Message, Any]]]:
    """Run the command `emulator`; yields a function that sends a request to it."""
    process = start_cli("emulator", "--api-key", KEY, *flags)
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]

    def request(path: str, body: object = None, **headers: str) -> tuple[int, Message, Any]:
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        prepared = urllib.request.Request(f"{url}/{path}", data, headers)
        try:
            with urllib.request.urlopen(prepared, timeout=20) as response:
                return response.status, response.headers, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, json.load(error)

    yield request
    process.terminate()
    assert process.wait(10) == 0


def test_latency_and_token_ttl(start_cli: StartCli) -> None:
    """Each response is delayed; a token states its lifetime, and expires."""
    with emulator(start_cli, "--latency=0.3", "--token-ttl=1") as request:
        began = time.monotonic()
        _, _, tokens = request("auth/api-key", {"apiKey": KEY})
        assert time.monotonic() - began >= 0.3
        assert tokens["expires_in"] == 1
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        assert request("videos", **bearer)[0] == 200
        while request("videos", **bearer)[0] == 200:
            assert time.monotonic() - began < 10
        assert request("videos", **bearer)[0] == 401


def test_rate_limit_and_window(start_cli: StartCli) -> None:
    """Five reads for each upload; the response has the time until the next window."""
    with emulator(start_cli, "--rate-limit=1", "--rate-window=50") as request:
        _, _, tokens = request("auth/api-key", {"apiKey": KEY})
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        responses = [request("videos", **bearer)[:2] for _ in range(6)]
        assert [status for status, _ in responses] == [200] * 5 + [429]
        assert {headers["X-RateLimit-Limit"] for _, headers in responses} == {"5"}
        assert 45 <= int(responses[-1][1]["X-RateLimit-Retry-After"]) <= 50


def test_link_rate(start_cli: StartCli, cli: Cli, make_file: MakeFile) -> None:
    """It limits all connections together."""
    process = start_cli("emulator", "--api-key", KEY, "--link-rate", "8MB")
    assert process.stdout is not None
    settings = {"APIVIDEO_BASE_URL": process.stdout.readline().split()[-1], "APIVIDEO_API_KEY": KEY}
    path = make_file("x.mp4", 16_000_000)
    began = time.monotonic()
    done = cli("upload", path, "--part-size=5MiB", "--concurrency=4", **settings)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began >= 1.5
