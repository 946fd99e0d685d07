"""The clock of the event loop."""

from __future__ import annotations

import asyncio


def current_time() -> float:
    """Return the time of the event loop in seconds.

    Unlike ``anyio.current_time()``, it also works in callbacks, and does not detect the async library every time.
    """
    return asyncio.get_running_loop().time()
