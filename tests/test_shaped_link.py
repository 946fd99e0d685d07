"""An upload over a real TCP link with a limited rate, shaped by the kernel."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from async_uploader._limits import MIB
from harness.shaped_link import ShapedLink, why_no_shaped_link

from .conftest import sha256

MakeFile = Callable[..., Path]

_RATE = 8 * MIB
_SIZE_BYTES = 18 * MIB

_PROGRAM = """
import asyncio, json, sys, time
from async_uploader import Client, events
from async_uploader.emulator import Emulator

async def main():
    measured = []
    async with Emulator() as emulator, Client(api_key="local-key", base_url=emulator.url) as client:
        with events.listen(measured.append, measure=True):
            began = time.monotonic()
            video = await client.upload(sys.argv[1])
            seconds = time.monotonic() - began
        view = await emulator.finished(video.video_id)
        connections = emulator.statistics().peak_uploads_in_flight
    (event,) = (event for event in measured if isinstance(event, events.UploadMeasured))
    sending = sum(share for bound, share in event.shares.items() if bound in ("link", "connections", "network"))
    print(json.dumps({"sha256": view.sha256, "connections": connections, "seconds": seconds,
                      "sending": sending}))

asyncio.run(main())
"""


def test_upload_over_a_shaped_link(make_file: MakeFile) -> None:
    """All bytes arrive, not faster than the link, and with few connections."""
    if reason := why_no_shaped_link():
        pytest.skip(reason)
    path = make_file(_SIZE_BYTES)
    with ShapedLink(_RATE) as link:
        done = subprocess.run(
            [*link.prefix, sys.executable, "-c", _PROGRAM, str(path)], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["sha256"] == sha256(path)
    assert result["connections"] <= 12  # 6, but a busy machine makes throughput irregular
    assert result["seconds"] >= 0.9 * _SIZE_BYTES / _RATE  # the first burst is not limited
    assert result["sending"] > 0
