"""Records how irregular throughput is on this machine, for the simulator (`harness/noise.json`).

    python -m benchmarks.record_noise background         as the machine is
    python -m benchmarks.record_noise loaded             two busy processes per core compete with the upload

An upload with six connections to an emulator in another process is measured every 10 ms, as the concurrency
controller does. The emulator's link limits it, so every deviation from the link's rate is noise: late timers of
the uploader, and an emulator that waits for a processor.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from async_uploader import Client
from async_uploader._flow.slots import UploadSlots
from async_uploader._limits import MIB
from harness.noise import NOISE_FILE, TICK_SECONDS, read_recordings

from .emulated import Emulated

_CONNECTIONS: Final = 6
_LINK_RATES: Final = (2 * MIB, 8 * MIB, 50 * MIB)
_RUNS: Final = 3
_WARM_UP_SECONDS: Final = 0.5
_SECONDS: Final = 2.5
_SOURCE_BYTES: Final = 1024 * MIB
_BUSY_PROCESSES_PER_CORE: Final = 2


def main() -> None:
    """Record the condition that the command line names, and replace its recordings in the file."""
    condition = sys.argv[1]
    recordings = read_recordings()
    recordings[condition] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        source = folder / "source"
        source.touch()
        os.truncate(source, _SOURCE_BYTES)
        if condition == "loaded":
            for _ in range(_BUSY_PROCESSES_PER_CORE * (os.cpu_count() or 1)):
                process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
                stack.callback(process.wait)
                stack.callback(process.kill)
        for link_rate in _LINK_RATES:
            name = f"{link_rate // MIB} MiB/s"
            recordings[condition][name] = [_record(folder, source, link_rate) for _ in range(_RUNS)]
            print(name, [len(run) for run in recordings[condition][name]], flush=True)
    NOISE_FILE.write_text(_compact(recordings))


def _record(folder: Path, source: Path, link_rate: float) -> list[tuple[int, int]]:
    with Emulated(folder, link_rate=link_rate) as address:
        return asyncio.run(_measure(address.url, source, link_rate))


async def _measure(url: str, source: Path, link_rate: float) -> list[tuple[int, int]]:
    """Measure an upload: the milliseconds of each tick, and the throughput in percent of the link's rate."""
    ticks: list[tuple[int, int]] = []
    async with Client(api_key="local-key", base_url=url) as client:
        client._slots = UploadSlots(client._limiter, _CONNECTIONS)  # noqa: SLF001 - to read its meter
        meter, now = client._slots.meter, asyncio.get_running_loop().time  # noqa: SLF001
        upload = asyncio.create_task(client.upload(source))
        while not meter.read():  # noqa: ASYNC110 - the meter has no event
            await asyncio.sleep(TICK_SECONDS)
        await asyncio.sleep(_WARM_UP_SECONDS)
        end, last, moved_bytes = now() + _SECONDS, now(), meter.read()
        while last < end:
            await asyncio.sleep(TICK_SECONDS)
            seconds, count = now() - last, meter.read() - moved_bytes
            last, moved_bytes = last + seconds, moved_bytes + count
            ticks.append((round(1000 * seconds), round(100 * count / seconds / link_rate)))
        upload.cancel()
        await asyncio.wait([upload])
    return ticks


def _compact(recordings: dict[str, dict[str, list[list[tuple[int, int]]]]]) -> str:
    """JSON with one line for each run."""
    lines = []
    for condition, links in recordings.items():
        rows = [
            f"  {json.dumps(name)}: [\n   "
            + ",\n   ".join(json.dumps(run, separators=(",", ":")) for run in runs)
            + "\n  ]"
            for name, runs in links.items()
        ]
        lines.append(f" {json.dumps(condition)}: {{\n" + ",\n".join(rows) + "\n }")
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    main()
