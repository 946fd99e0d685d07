"""Runs a child process, and measures it with the operating system's accounting.

The figures come from ``wait4``: they include the start and the end of the process, and need no cooperation. A
child inherits its parent's peak memory, so the parent has to stay small. It imports the standard library only, and
creates plots and certificates in children.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .units import KIB

ROOT: Final = Path(__file__).resolve().parent.parent
_MAX_SECONDS: Final = 900.0


class ChildFailed(Exception):
    """A child exited with an error. The message has the end of its standard error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """What one child used.

    :param report: the JSON object that it printed last; empty if it printed none
    """

    process_seconds: float
    cpu_seconds: float
    peak_rss_bytes: int
    report: Mapping[str, Any]


def run_child(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Child:
    """Run a command until it ends.

    :raises ChildFailed: it failed, or took longer than 15 minutes
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            # Let children write bytecode, as an installation does.
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
        guard = threading.Timer(_MAX_SECONDS, process.kill)
        guard.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        guard.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            message = errors.read().decode(errors="replace")[-2000:]
            raise ChildFailed(f"{command[0]} ended with {process.returncode}: {message}")
        output.seek(0)
        return Child(
            process_seconds=seconds,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            peak_rss_bytes=usage.ru_maxrss * KIB,
            report=_report(output.read()),
        )


def own_peak_rss_bytes() -> int:
    """The peak memory of this process. It is the least that can be measured for a child."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB


def _report(output: bytes) -> Mapping[str, Any]:
    lines = output.strip().splitlines()
    if not lines or not lines[-1].startswith(b"{"):
        return {}
    report = json.loads(lines[-1])
    return report if isinstance(report, dict) else {}
