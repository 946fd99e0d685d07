"""Runs an emulator in its own process.

python -m benchmarks.emulator_process '{"latency": 0.1}'    runs until its input ends, then prints statistics
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from async_uploader.emulator import Emulator


async def _serve(settings: dict[str, Any]) -> None:
    async with Emulator(**settings) as emulator:
        print(emulator.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        counted = emulator.statistics()
        uploads = [record for record in emulator.requests if record.endpoint == "upload"]
        statistics = {
            "connections": counted.peak_uploads_in_flight,
            "uploads": len(uploads),
            "uploads_refused": sum(record.status == 429 for record in uploads),
            "bytes_again": counted.bytes_again,
            "bytes_discarded": counted.bytes_discarded,
            "bytes_into_429": counted.bytes_into_429,
        }
    print(json.dumps(statistics), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1])))
