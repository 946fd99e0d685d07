"""Checks that an upload leaves no tasks, threads, sockets or descriptors."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import psutil

_MAX_ITERATIONS: Final = 1000
_JOIN_SECONDS: Final = 2.0


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """Check that the block leaves no task and no descriptor."""
    tasks, descriptors = asyncio.all_tasks(), _descriptors()
    yield
    await join_threads()
    assert asyncio.all_tasks() - tasks == set()
    assert _descriptors() <= descriptors


async def no_connection_left(url: str) -> None:
    """Check that this process has no connection to a service.

    Transports close in the next iterations of the event loop, so some iterations are allowed.
    """
    left = _connections_to(url)
    for _ in range(_MAX_ITERATIONS):
        if not left:
            return
        await asyncio.sleep(0)
        left = _connections_to(url)
    raise AssertionError(left)


async def join_threads() -> None:
    """Check that the uploader's threads end soon."""
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
