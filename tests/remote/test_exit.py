"""Threads of obstore at the end of a process, and in a forked one."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
from pathlib import Path
from typing import Final

import pytest

from async_uploader._limits import MIB
from harness.forking import Forks
from harness.range_server import RangeServer, SourceFault
from harness.world import KEY, PART, service

pytestmark = pytest.mark.anyio

_PROGRAM: Final = """
import asyncio, sys
from async_uploader import Client

async def main(base_url, key, seconds):
    async with Client(api_key=key, base_url=base_url) as client:
        upload = asyncio.ensure_future(client.upload("s3://films/movie.mp4", part_size=5 * 2**20, concurrency=4))
        await asyncio.wait([upload], timeout=float(seconds))
        if upload.cancel():
            await asyncio.wait([upload])

asyncio.run(main(*sys.argv[1:]))
"""
_FORK: Final = """
import asyncio, os, sys
from async_uploader import ConfigurationError, upload

def run():
    return asyncio.run(upload("s3://films/movie.mp4", base_url=sys.argv[1], api_key=sys.argv[2]))

run()
if not os.fork():
    try:
        run()
    except ConfigurationError as exc:
        print(exc, flush=True)
    os._exit(0)
os.wait()
"""


@pytest.mark.parametrize("scripts", [8, pytest.param(120, marks=[pytest.mark.soak, pytest.mark.timeout(300)])])
async def test_no_thread_aborts_at_exit(scripts: int, forks: Forks, tmp_path: Path) -> None:
    """Most scripts cancel their upload at a random moment, and end immediately."""
    rng = random.Random(16)
    fault = SourceFault(times=None, bytes_per_second=40 * MIB)
    async with RangeServer(os.urandom(PART + MIB), fault) as server, service() as emulator:

        async def run() -> tuple[int, str]:
            process = forks.python(
                *("-c", _PROGRAM, emulator.url, KEY, str(rng.random() * 0.4)),
                cwd=tmp_path,
                env={**os.environ, **server.s3_environment},
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            _, err = await asyncio.to_thread(process.communicate)
            return process.returncode, err

        for _ in range(0, scripts, 4):
            assert await asyncio.gather(*(run() for _ in range(4))) == [(0, "")] * 4


async def test_a_forked_process_is_refused(forks: Forks, tmp_path: Path) -> None:
    async with RangeServer(b"content") as server, service() as emulator:
        process = forks.python(
            *("-c", _FORK, emulator.url, KEY),
            cwd=tmp_path,
            env={**os.environ, **server.s3_environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        out, _ = await asyncio.to_thread(process.communicate)
        assert "cannot be used in a forked process" in out
        assert process.returncode == 0
