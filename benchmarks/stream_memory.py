"""Memory and temporary files of a stream of unknown length, compared with the documented bounds.

A fast producer feeds ``Client.upload`` over a network with 2 MB/s per connection. Parts are produced faster than
they are sent, so the client has to limit the producer.

    python -m benchmarks.stream_memory           200 MB
    python -m benchmarks.stream_memory --full    10 GB, in about ten minutes
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from async_uploader import Client

from .children import run_child
from .emulated import Emulated
from .units import KIB, MIB

_CONNECTION_RATE: Final = 2_000_000
_CHUNK_BYTES: Final = 256 * KIB
_BUFFER_BYTES: Final = 16 * MIB
_CONNECTIONS: Final = 8
_PART_BYTES: Final = 5 * MIB
_SAMPLE_INTERVAL_SECONDS: Final = 0.02


def main() -> None:
    """Measure in child processes, each with its own peak, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_const", dest="size_bytes", const=10**10, default=2 * 10**8)
    parser.add_argument("--size-bytes", type=int, help="size of the stream")
    parser.add_argument("--url", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.url:
        asyncio.run(_stream(arguments.url, arguments.size_bytes))
        return
    with tempfile.TemporaryDirectory() as folder:
        idle = _measured(Path(folder), 1)
        busy = _measured(Path(folder), arguments.size_bytes)
    parts_bytes = (_CONNECTIONS + 2) * _PART_BYTES
    rows = {
        "streamed": arguments.size_bytes,
        "peak resident memory of a 1-byte stream": idle["peak_rss_bytes"],
        "peak resident memory": busy["peak_rss_bytes"],
        "  difference": busy["peak_rss_bytes"] - idle["peak_rss_bytes"],
        "  bound: buffer_bytes, 1 block per connection, 2 for disk": _BUFFER_BYTES + (_CONNECTIONS + 2) * MIB,
        "peak of temporary files": busy["peak_file_bytes"],
        "  bound: (connections + 2) parts": parts_bytes,
        "peak of bytes produced, but not acknowledged": busy["peak_ahead_bytes"],
        "  bound: (connections + 2) parts, and 1 chunk": parts_bytes + _CHUNK_BYTES,
    }
    for name, count in rows.items():
        print(f"{name:<58}{count / 1e6:>12,.1f} MB")


def _measured(folder: Path, size_bytes: int) -> dict[str, int]:
    """Upload one stream, with client and emulator in processes of their own."""
    target = Emulated(folder, connection_rate=_CONNECTION_RATE)
    with target as address:
        command = [sys.executable, "-m", "benchmarks.stream_memory", "--url", address.url]
        child = run_child([*command, "--size-bytes", str(size_bytes)])
    return {"peak_rss_bytes": child.peak_rss_bytes, **child.report}


class _Producer:
    """Yields bytes as fast as they are consumed."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self.produced_bytes = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        block = os.urandom(_CHUNK_BYTES)
        while (left := self._size_bytes - self.produced_bytes) > 0:
            chunk = block[:left]
            self.produced_bytes += len(chunk)
            yield chunk


class _FileWatch:
    """Samples the size of this process's unnamed temporary files, and keeps the maximum."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(_SAMPLE_INTERVAL_SECONDS):
            self.peak_bytes = max(self.peak_bytes, self._open_file_bytes())

    def _open_file_bytes(self) -> int:
        total = 0
        for number in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                if os.readlink(f"/proc/self/fd/{number}").endswith("(deleted)"):
                    total += os.fstat(int(number)).st_size
        return total


async def _stream(url: str, size_bytes: int) -> None:
    producer, acknowledged = _Producer(size_bytes), [0, 0]

    def note(acknowledged_bytes: int) -> None:
        acknowledged[0] = acknowledged_bytes
        acknowledged[1] = max(acknowledged[1], producer.produced_bytes - acknowledged_bytes)

    with _FileWatch() as files:
        async with Client(api_key="local-key", base_url=url, buffer_bytes=_BUFFER_BYTES) as client:
            await client.upload(
                producer.chunks(),
                part_size=_PART_BYTES,
                concurrency=_CONNECTIONS,
                on_progress=lambda progress: note(progress.acknowledged_bytes),
            )
    print(
        json.dumps(
            {
                "peak_file_bytes": files.peak_bytes,
                "peak_ahead_bytes": acknowledged[1],
            }
        )
    )


if __name__ == "__main__":
    main()
