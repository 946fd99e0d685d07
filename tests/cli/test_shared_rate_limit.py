"""Several commands at once, with one rate limit for all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from harness.service import KEY, Service

from .conftest import StartCli, finish

FILES = 8


def test_three_processes_send_no_part_over_the_limit(
    start_cli: StartCli,
    start_service: Callable[..., AbstractContextManager[Service]],
    make_file: Callable[..., Path],
) -> None:
    with start_service(rate_limit=10, rate_window=2.0) as service:
        commands = [
            start_cli(
                "upload",
                *(make_file(f"{name}{number}.mp4", 100_000) for number in range(FILES)),
                "--no-resume",
                APIVIDEO_BASE_URL=service.emulator.url,
                APIVIDEO_API_KEY=KEY,
            )
            for name in "abc"
        ]
        results = [finish(command) for command in commands]
        assert [result.returncode for result in results] == [0, 0, 0], results
        assert len(service.emulator.videos) == 3 * FILES
        statuses = [record.status for record in service.emulator.requests if record.endpoint == "upload"]
        assert statuses == [201] * (3 * FILES)
