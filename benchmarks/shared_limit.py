"""Three processes that share an account's rate limit: how long do they take, and how many bodies are refused?

    python -m benchmarks.shared_limit                three processes with 60 files each, 20 uploads per 6 s
    python -m benchmarks.shared_limit --separate     the same without the shared file, for comparison

The bound is the time that the rate limit imposes: one window fewer than the files need, because the first uploads
do not wait.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from anyio.from_thread import start_blocking_portal

from harness.forking import Forks
from harness.service import KEY, Service, running_service

_PROCESSES: Final = 3
_FILES: Final = 60
_UPLOADS: Final = 20
_WINDOW_SECONDS: Final = 6.0
_FILE_BYTES: Final = 50_000
_TOLERANCE: Final = 1.10


def main() -> int:
    """Measure uploads with and without ``--no-resume``.

    :returns: the exit code: 1 if a body was refused, or a measurement is more than 10 % over the bound
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--separate", action="store_true", help="each process has a state directory of its own")
    arguments = parser.parse_args()
    bound_seconds = (_PROCESSES * _FILES / _UPLOADS - 1) * _WINDOW_SECONDS
    is_good = True
    with Forks() as forks, start_blocking_portal() as portal:
        for name, flags in {"default": (), "--no-resume": ("--no-resume",)}.items():
            with running_service(portal, rate_limit=_UPLOADS, rate_window=_WINDOW_SECONDS) as service:
                seconds = _measure(forks, service, flags, is_separate=arguments.separate)
                statistics = service.emulator.statistics()
            videos = len(service.emulator.videos)
            refused = f"{statistics.bodies_into_429} bodies into a 429"
            print(f"{name:<12}{seconds:6.1f} s of {bound_seconds:.0f} s, {videos} videos, {refused}", flush=True)
            is_good &= seconds <= bound_seconds * _TOLERANCE and not statistics.bodies_into_429
            is_good &= videos == _PROCESSES * _FILES
    return 0 if is_good else 1


def _measure(forks: Forks, service: Service, flags: tuple[str, ...], *, is_separate: bool) -> float:
    """Run all processes at once, and return the seconds until the last one ends."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        commands = []
        for number in range(_PROCESSES):
            files = Path(folder) / str(number)
            files.mkdir()
            for name in range(_FILES):
                (files / f"{name}.mp4").write_bytes(os.urandom(_FILE_BYTES))
            state = {"XDG_STATE_HOME": f"{folder}/state {number}"} if is_separate else {}
            commands.append((["upload", files, "--recursive", "--quiet", *flags], environment | state))
        began = time.monotonic()
        processes = [
            forks.command(words, Path(folder), variables, stdout=subprocess.DEVNULL)
            for words, variables in commands
        ]
        codes = [process.wait() for process in processes]
        seconds = time.monotonic() - began
    if any(codes):
        raise RuntimeError(f"the commands ended with {codes}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
