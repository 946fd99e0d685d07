"""Uploads what a program makes itself, piece by piece, as it makes it: here a camera that is made up.

The pieces may be of any size. Small ones are joined until they are a part (5 MiB), and parts leave while the
recording goes on. If the block is left by an error or by Ctrl-C, the unfinished video is deleted.
"""
# ruff: noqa: T201 - it talks

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
from collections.abc import AsyncIterator

from async_uploader import Client


async def camera(*, pieces: int) -> AsyncIterator[bytes]:
    """So many pieces of a recording."""
    for number in range(pieces):
        yield random.Random(number).randbytes(1_000_000)
        await asyncio.sleep(0.01)


async def record(*, pieces: int) -> None:
    """Record and upload at once."""
    digest = hashlib.sha256()
    async with Client() as client, client.upload_session(title="Recording") as session:
        async for piece in camera(pieces=pieces):
            digest.update(piece)
            await session.upload_part(piece)
        video = await session.upload_last_part(b"")
    print(video.video_id, digest.hexdigest())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pieces", type=int, default=24, help="how many pieces of 1 MB to record")
    asyncio.run(record(pieces=parser.parse_args().pieces))
