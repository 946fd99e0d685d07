"""Upload slots: how many parts are in flight, across all uploads that share them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

import anyio

from async_uploader._clock import current_time
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
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_adaptive(self) -> bool:
        """Whether the number of slots adapts to the throughput."""
        return self._controller is not None

    @property
    def idle(self) -> int:
        """Number of free slots that a worker could use."""
        return max(0, min(int(self._slots.total_tokens), self.ready_workers.count) - self._slots.borrowed_tokens)

    @property
    def are_more_worthwhile(self) -> bool | None:
        """Whether more connections were or would be faster, by the controller's measurements; None if unknown."""
        return self._controller.are_more_worthwhile if self._controller is not None else None

    @property
    def active_uploads(self) -> int:
        """Number of uploads in progress."""
        return self._uploads.count

    def count_upload(self) -> AbstractContextManager[None]:
        """Count an upload while the ``with`` block lasts."""
        if not self.active_uploads and self._controller is not None:
            self._controller.begin(current_time())
            self._slots.total_tokens = self._controller.connections
        return self._uploads.incremented()

    async def acquire(self, holder: object) -> None:
        """Wait for a slot and take it for ``holder``."""
        try:
            self._slots.acquire_on_behalf_of_nowait(holder)
        except anyio.WouldBlock:
            await self._slots.acquire_on_behalf_of(holder)

    def release(self, holder: object) -> None:
        """Return the slot of ``holder``."""
        self._slots.release_on_behalf_of(holder)

    def connection_failed(self) -> None:
        """Count a failed connection; many failures reduce the number of slots."""
        if self._controller is not None:
            self._controller.connection_failed(current_time())

    @contextmanager
    def adapting(self, on_change: Callable[[int], None]) -> Iterator[None]:
        """Adapt the number of slots while the ``with`` block lasts; do nothing if it is fixed.

        Every upload does this. A timer adapts the slots for all of them.

        :param on_change: called with the number of slots, now and after each change. It must not raise
        """
        if self._controller is None:
            yield
            return
        self._listeners.add(on_change)
        try:
            on_change(self._controller.connections)
            if self._timer is None:
                self._schedule(self._controller)
            yield
        finally:
            self._listeners.discard(on_change)
            if not self._listeners and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _schedule(self, controller: ConcurrencyController) -> None:
        step_seconds = _GROWING_STEP_SECONDS if controller.is_growing else _STEADY_STEP_SECONDS
        due_at = current_time() + step_seconds
        self._timer = asyncio.get_running_loop().call_at(due_at, self._adapt, controller, due_at)

    def _adapt(self, controller: ConcurrencyController, due_at: float) -> None:
        self._step(controller, lag_seconds=max(0.0, current_time() - due_at))
        self._schedule(controller)

    def _step(self, controller: ConcurrencyController, *, lag_seconds: float) -> None:
        in_flight, waiting = self._slots.borrowed_tokens, self._limiter.demand()
        connections = controller.step(
            current_time(),
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
