"""Upload a recording piece by piece, while it is being made. The camera is simulated.

Pieces may have any size. Small ones are joined until they fill a part (5 MiB), which is sent while the recording
continues. If an error or Ctrl-C ends the block, the unfinished video is deleted.
"""
# ruff: noqa: T201 - prints its result

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
from collections.abc import AsyncIterator

from async_uploader import Client


async def camera(*, pieces: int) -> AsyncIterator[bytes]:
    """Yield the pieces of a recording."""
    for number in range(pieces):
        yield random.Random(number).randbytes(1_000_000)
        await asyncio.sleep(0.01)


async def record(*, pieces: int) -> None:
    """Record, upload, and print the SHA-256 of the recording."""
    digest = hashlib.sha256()
    async with Client() as client, client.upload_session(title="Recording") as session:
        async for piece in camera(pieces=pieces):
            digest.update(piece)
            await session.upload_part(piece)
        video = await session.upload_last_part(b"")
    print(video.video_id, digest.hexdigest())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pieces", type=int, default=24, help="number of pieces of 1 MB (default: 24)")
    asyncio.run(record(pieces=parser.parse_args().pieces))
