"""Upload slots: how many parts are in flight, across all uploads that share them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

import anyio

from async_uploader._counter import Counter
from async_uploader._plan import MAX_ADAPTIVE_CONCURRENCY

from .concurrency import ConcurrencyController
from .concurrency_policy import ConcurrencyPolicy
from .rate_limit import RateLimiter
from .throughput import ThroughputMeter

# How often the concurrency controller takes a measurement, while growing and afterwards.
_GROWING_STEP_SECONDS: Final = 0.01
_STEADY_STEP_SECONDS: Final = 0.25


class UploadSlots:
    """A part is in flight while it holds a slot. The number of slots is fixed, or adapts to the throughput.

    The adaptive number is kept between uploads: the next one starts with it.

    :param limiter: knows how many parts are waiting to be sent
    :param concurrency: number of slots; None: adaptive, up to 32
    :ivar max_concurrency: upper limit of the number of slots
    :ivar meter: measures the throughput of all uploads
    :ivar ready_workers: workers that could use a slot if it were free
    :ivar rate_limited: parts that hold a slot while they wait for the rate limit. They are excluded from
        measurements
    """

    def __init__(self, limiter: RateLimiter, concurrency: int | None = None) -> None:
        self.max_concurrency: int = concurrency or MAX_ADAPTIVE_CONCURRENCY
        self.meter = ThroughputMeter()
        self.ready_workers = Counter()
        self.rate_limited = Counter()
        self._limiter = limiter
        self._controller: ConcurrencyController | None = (
            None if concurrency else ConcurrencyController(ConcurrencyPolicy(most=self.max_concurrency))
        )
        self._slots = anyio.CapacityLimiter(
            self._controller.connections if self._controller else self.max_concurrency
        )
        self._uploads = Counter()
        self._listeners: set[Callable[[int], None]] = set()
        self._adapting = anyio.Lock()

    @property
    def is_adaptive(self) -> bool:
        """Whether the number of slots adapts to the throughput."""
        return self._controller is not None

    @property
    def active_uploads(self) -> int:
        """Number of uploads in progress."""
        return self._uploads.count

    def count_upload(self) -> AbstractContextManager[None]:
        """Count an upload while the ``with`` block lasts."""
        if not self.active_uploads and self._controller is not None:
            self._controller.begin(anyio.current_time())
            self._slots.total_tokens = self._controller.connections
        return self._uploads.incremented()

    async def acquire(self, holder: object) -> None:
        """Wait for a slot and take it for ``holder``."""
        await self._slots.acquire_on_behalf_of(holder)

    def release(self, holder: object) -> None:
        """Return the slot of ``holder``."""
        self._slots.release_on_behalf_of(holder)

    def connection_failed(self) -> None:
        """Count a failed connection; many failures reduce the number of slots."""
        if self._controller is not None:
            self._controller.connection_failed(anyio.current_time())

    async def adapt(self, on_change: Callable[[int], None]) -> None:
        """Adapt the number of slots until cancelled; return immediately if it is fixed.

        Every upload runs this. One of them adapts the slots for all, and another takes over when it ends.

        :param on_change: called with the number of slots, now and after each change
        """
        if (controller := self._controller) is None:
            return
        self._listeners.add(on_change)
        try:
            on_change(controller.connections)
            async with self._adapting:
                while True:
                    step_seconds = _GROWING_STEP_SECONDS if controller.is_growing else _STEADY_STEP_SECONDS
                    due_at = anyio.current_time() + step_seconds
                    await anyio.sleep(step_seconds)
                    self._step(controller, lag_seconds=max(0.0, anyio.current_time() - due_at))
        finally:
            self._listeners.discard(on_change)

    def _step(self, controller: ConcurrencyController, *, lag_seconds: float) -> None:
        in_flight, waiting = self._slots.borrowed_tokens, self._limiter.demand()
        connections = controller.step(
            anyio.current_time(),
            moved_bytes=self.meter.read(),
            busy=in_flight - self.rate_limited.count,
            most=self.ready_workers.count or None,
            rtt_seconds=self.meter.rtt_seconds,
            parts_left=in_flight + waiting if waiting else 0,
            lag_seconds=lag_seconds,
        )
        if connections != self._slots.total_tokens:
            self._slots.total_tokens = connections
            for on_change in tuple(self._listeners):
                on_change(connections)
