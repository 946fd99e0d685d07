"""What an upload must not leave behind: tasks, threads, sockets, descriptors."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import psutil

_ROUNDS: Final = 1000
_JOIN_SECONDS: Final = 2.0


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """The block, with everything that it starts and ends, leaves nothing."""
    tasks, descriptors = asyncio.all_tasks(), _descriptors()
    yield
    await join_threads()
    assert asyncio.all_tasks() - tasks == set()
    assert _descriptors() <= descriptors


async def no_connection_left(url: str) -> None:
    """Nobody in this process is connected to a service of this process any more.

    Transports close in the loop's next round, so a few are waited for.
    """
    left = _connections_to(url)
    for _ in range(_ROUNDS):
        if not left:
            return
        await asyncio.sleep(0)
        left = _connections_to(url)
    raise AssertionError(left)


async def join_threads() -> None:
    """The uploader's threads end by themselves, soon."""
    for thread in _threads():
        await asyncio.to_thread(thread.join, _JOIN_SECONDS)
    assert _threads() == []


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("async_uploader")]


def _descriptors() -> int:
    return psutil.Process().num_fds()


def _connections_to(url: str) -> list[object]:
    port = urlsplit(url).port
    connections = psutil.Process().net_connections("tcp")
    return [one for one in connections if getattr(one.raddr, "port", None) == port]
