"""An outage of the connection is one line, and its end another one."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from async_uploader import ApiError, TransportError, events
from async_uploader.cli._outage import OutageReporter
from harness.service import KEY

from .conftest import MIB, StartCli, finish

LOST = TransportError("it closed the connection", maybe_received=True)


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("verbose", [False, True])
def test_an_outage_of_many_parts(
    start_cli: StartCli, make_file: Callable[..., Path], free_port: int, tmp_path: Path, verbose: bool
) -> None:
    """The service is killed in the middle, and started again."""

    def start_service() -> subprocess.Popen[str]:
        options = ("--port", free_port, "--data", tmp_path / "data", "--api-key", KEY, "--connection-rate=2MiB")
        service = start_cli("emulator", *options)
        assert service.stdout is not None
        service.stdout.readline()
        return service

    service = start_service()
    settings = {"APIVIDEO_BASE_URL": f"http://127.0.0.1:{free_port}", "APIVIDEO_API_KEY": KEY}
    flags = ("--part-size=5MiB", "--concurrency=6", "--max-attempts=30", *(["-v"] if verbose else []))
    process = start_cli("upload", make_file("a.mp4", 60 * MIB), *flags, **settings)
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if " of 12 parts" in line:
            service.kill()
            service.wait()
        if "lost; retrying" in line:
            break
    service = start_service()
    done = finish(process)
    service.kill()
    assert done.returncode == 0, done.stderr
    lines += done.stderr.splitlines(keepends=True)
    lost = [line for line in lines if line.startswith("Connection to ")]
    assert len(lost) == 1
    assert re.fullmatch(rf"Connection to 127\.0\.0\.1:{free_port} lost; retrying [2-6] parts…\n", lost[0])
    assert len([line for line in lines if re.fullmatch(r"Connection restored after \d+ s\.\n", line)]) == 1
    assert any(line.startswith("warning:") for line in lines) == verbose
    assert not re.search(r"[A-Z][a-z]+[A-Z][a-z]\w*(Error|Exception)|Traceback", "".join(lines)), (
        "names of classes"
    )


def _retry(error: Exception = LOST, part_number: int | None = 1) -> events.RetryScheduled:
    operation = events.Operation.CREATE if part_number is None else events.Operation.PART
    return events.RetryScheduled(
        upload=1, operation=operation, part_number=part_number, error=error, wait_seconds=0.1
    )


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
async def outage(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> OutageReporter:
    monkeypatch.setattr("async_uploader.cli._outage._MIN_REPORTED_SECONDS", 0)
    return OutageReporter(lines.append)


async def _next_iteration() -> None:
    """Wait for timers that are due."""
    await anyio.sleep(0.01)


async def test_one_connection_of_many(outage: OutageReporter, lines: list[str]) -> None:
    """Bytes of other parts still arrive: there is no outage."""
    outage.on_event(_retry())
    outage.on_delivered(1000)
    await _next_iteration()
    assert lines == []


async def test_bytes_of_failed_attempts_are_no_progress(outage: OutageReporter, lines: list[str]) -> None:
    outage.on_delivered(1000)
    outage.on_event(_retry())
    outage.on_delivered(500)
    await _next_iteration()
    assert lines == ["Connection to the service lost; retrying 1 part…"]
    outage.on_event(_retry(part_number=2))
    outage.on_delivered(500)
    assert len(lines) == 1
    outage.on_delivered(501)
    assert lines[1:] == ["Connection restored after 1 s."]


async def test_before_the_first_part(outage: OutageReporter, lines: list[str]) -> None:
    outage.on_event(_retry(part_number=None))
    await _next_iteration()
    outage.on_event(
        events.ContainerReady(video_id="vi1", parts_total=1, part_bytes=1, parts_done=0, acknowledged_bytes=0)
    )
    assert lines == ["Connection to the service lost; retrying…", "Connection restored after 1 s."]


async def test_refusals_are_no_outage(outage: OutageReporter, lines: list[str]) -> None:
    outage.on_event(_retry(ApiError(status=503, title="Busy")))
    await _next_iteration()
    assert lines == []
