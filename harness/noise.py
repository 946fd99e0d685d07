"""Noise of real uploads, recorded by `benchmarks.record_noise`, as a model for simulated networks.

What makes throughput look irregular on a busy machine, apart from the network: timers that fire late, a service
that waits for a processor, blocks that arrive in bursts, and kernel buffers that new connections fill at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random
from typing import Final

NOISE_FILE: Final = Path(__file__).with_name("noise.json")
#: How often throughput was measured. The uploader does so while concurrency grows.
TICK_SECONDS: Final = 0.01
#: What the kernels at both ends take from a new connection to the emulator, as recorded.
BUFFER_BYTES: Final = 200 * 1024
# Recorded ticks that are replayed together, so that pauses and bursts keep their order.
_BLOCK_TICKS: Final = 100

#: By condition and link, several runs: the milliseconds of each tick, and the throughput in percent of the link's.
Recordings = dict[str, dict[str, list[list[tuple[int, int]]]]]


@cache
def read_recordings() -> Recordings:
    """The recorded noise; empty if nothing was recorded."""
    recordings: Recordings = json.loads(NOISE_FILE.read_text()) if NOISE_FILE.exists() else {}
    return recordings


def noise(condition: str, link: str, random: Random) -> Iterator[tuple[float, float]]:
    """Ticks without end: seconds, and the ratio of the throughput to that of the link.

    :param condition: "background" (other programs run now and then) or "loaded"
    :param link: the recorded link, such as "8 MiB/s"
    """
    runs = read_recordings()[condition][link]
    while True:
        run = random.choice(runs)
        begin = random.randrange(len(run))
        for milliseconds, percent in islice(run, begin, begin + _BLOCK_TICKS):
            yield max(1, milliseconds) / 1000, percent / 100
