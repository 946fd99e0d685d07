"""The official Node client, in Node: its uploads, captions, chapters, thumbnails, watermarks and webhooks."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from async_uploader.pytest_plugin import RunningEmulator

CASES = Path(__file__).parent / "node_client.test.js"


def test_the_node_client(apivideo_emulator: RunningEmulator, node_modules: Path) -> None:
    """All cases pass."""
    env = {**os.environ, "BASE_URI": apivideo_emulator.url, "NODE_PATH": str(node_modules)}
    command = ["node", "--test", str(CASES)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fail 0\n" in done.stdout
