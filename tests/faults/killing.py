"""Uploads in separate processes, which are killed at a chosen call."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from async_uploader.emulator import Emulator
from harness.forking import Forks
from harness.world import HANG_SECONDS, KEY, PART

# Kills its process before or after the Nth call of the service or the journal.
_PROGRAM: Final = """
import asyncio, json, os, signal, sys
from async_uploader import Client
from async_uploader._api.http import Http
from async_uploader._resume.containers import SettlingPolicy
from async_uploader._resume.journal import Journal

Client._settling_policy = SettlingPolicy(creation_seconds=0.01, poll_seconds=0.05)

instructions = json.loads(sys.argv[1])
remaining = instructions["kill_at"]

def step():
    global remaining
    remaining -= 1
    if remaining == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def wrap(name):
    original = getattr(Journal, name)
    def call(*args, **kwargs):
        step()
        result = original(*args, **kwargs)
        step()
        return result
    setattr(Journal, name, call)

for name in ("find", "add_intent", "begin", "acknowledge", "finish", "remove_intents", "forget_parts", "forget"):
    wrap(name)

exchange = Http.exchange

async def wrapped_exchange(*args, **kwargs):
    step()
    response = await exchange(*args, **kwargs)
    step()
    return response

Http.exchange = wrapped_exchange

async def main():
    async with Client(**instructions["client"]) as client:
        items = instructions["sources"]
        if len(items) == 1:
            video = await client.upload(items[0], **instructions["options"])
            print(video.video_id, flush=True)
            return
        from async_uploader import UploadItem
        many = [UploadItem(source=item, options=instructions["options"]) for item in items]
        failed = 0
        async with client.upload_many(many) as results:
            async for result in results:
                failed += result.error is not None
                if result.error is not None:
                    print(result.error, file=sys.stderr)
        sys.exit(failed)

asyncio.run(main())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The exit code and the output of a process."""

    returncode: int
    out: str
    err: str

    @property
    def is_killed(self) -> bool:
        """Whether it was killed."""
        return self.returncode == -signal.SIGKILL


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploader:
    """Starts processes that upload the same sources."""

    forks: Forks
    emulator: Emulator
    sources: tuple[Path, ...]
    state: Path
    options: dict[str, Any]
    upload_token: str | None = None

    def start(self, *, kill_at: int = 0) -> subprocess.Popen[str]:
        """Start a process.

        :param kill_at: the step at which the process kills itself: one before and one after each call; 0 for none
        """
        credential = {"upload_token": self.upload_token} if self.upload_token else {"api_key": KEY}
        instructions = {
            "kill_at": kill_at,
            "client": {"base_url": self.emulator.url, **credential},
            "sources": [str(path) for path in self.sources],
            "options": {"part_size": PART, **self.options},
        }
        return self.forks.python(
            *("-c", _PROGRAM, json.dumps(instructions)),
            cwd=self.state.parent,
            env={**os.environ, "XDG_STATE_HOME": str(self.state)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    async def run(self, *, kill_at: int = 0) -> Ended:
        """Run a process to its end."""
        return await ended(self.start(kill_at=kill_at))


async def ended(process: subprocess.Popen[str]) -> Ended:
    """Wait for a process.

    :raises TimeoutError: the process hangs
    """
    try:
        async with asyncio.timeout(HANG_SECONDS):
            out, err = await asyncio.to_thread(process.communicate)
    finally:
        process.kill()
    return Ended(returncode=process.returncode, out=out, err=err)
