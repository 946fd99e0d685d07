"""What uploads over one line have in common: parts in flight, and how many of these are worth it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

import anyio

from async_uploader._counter import Counter
from async_uploader._plan import MAX_ADAPTIVE_CONCURRENCY

from .concurrency import ConcurrencyController, ConcurrencyPolicy
from .rate_limit import RateLimiter
from .throughput import ThroughputMeter

# How often the number of parts in flight is looked at.
_GROWING_SECONDS: Final = 0.01
_WATCHING_SECONDS: Final = 0.25


class UploadSlots:
    """The way to the service, for any number of uploads at once.

    What a climb has found lasts as long as the line does: the next upload begins with it.

    :param connections: parts in flight at once, of all uploads together; None to find out, up to 32
    """

    def __init__(self, limiter: RateLimiter, connections: int | None = None) -> None:
        self._limiter = limiter
        self.most: int = connections or MAX_ADAPTIVE_CONCURRENCY
        self._controller: ConcurrencyController | None = (
            None if connections else ConcurrencyController(ConcurrencyPolicy(most=self.most))
        )
        self.slots = anyio.CapacityLimiter(self._controller.connections if self._controller else self.most)
        self.meter = ThroughputMeter()
        self._files = Counter()
        #: Those who could use a slot, if it were theirs.
        self.workers = Counter()
        #: Parts that have a slot, but wait for the account's window: they show nothing of the line.
        self.held_up = Counter()
        self._listeners: set[Callable[[int], None]] = set()
        self._watch = anyio.Lock()

    @property
    def adapts(self) -> bool:
        """Whether it is found out how many parts in flight are worth it."""
        return self._controller is not None

    @property
    def files(self) -> int:
        """How many are uploaded just now."""
        return self._files.count

    def in_use(self) -> AbstractContextManager[None]:
        """Count a file while it is uploaded."""
        if not self.files and self._controller is not None:
            self._controller.begin(anyio.current_time())
            self.slots.total_tokens = self._controller.connections
        return self._files.incremented()

    def failed(self) -> None:
        """A connection has failed."""
        if self._controller is not None:
            self._controller.connection_failed(anyio.current_time())

    async def adapt(self, tell: Callable[[int], None]) -> None:
        """Have as many parts in flight as are worth it, until cancelled; at once if that is not to be found out.

        Every upload calls this, and one of them does it for all, as long as it lasts.

        :param tell: is told the number of connections, now and when it changes
        """
        if (controller := self._controller) is None:
            return
        self._listeners.add(tell)
        try:
            tell(controller.connections)
            async with self._watch:
                while True:
                    await anyio.sleep(_GROWING_SECONDS if controller.is_growing else _WATCHING_SECONDS)
                    self._step(controller)
        finally:
            self._listeners.discard(tell)

    def _step(self, controller: ConcurrencyController) -> None:
        in_flight, waiting = self.slots.borrowed_tokens, self._limiter.demand()
        connections = controller.step(
            anyio.current_time(),
            moved_bytes=self.meter.read(),
            busy=in_flight - self.held_up.count,
            most=self.workers.count or None,
            rtt_seconds=self.meter.rtt_seconds,
            parts_left=in_flight + waiting if waiting else 0,
        )
        if connections != self.slots.total_tokens:
            self.slots.total_tokens = connections
            for tell in tuple(self._listeners):
                tell(connections)
