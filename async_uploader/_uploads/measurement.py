"""Measures what bounds an upload, if a listener asks for it. The evaluation is in :mod:`.._flow.bounds`.

A timer takes samples, so that the upload itself does nothing for it: the objects of an upload have attributes that
tell what they wait for.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from async_uploader._dispatcher import EventDispatcher
from async_uploader._flow.bounds import BoundProfile, BoundSample
from async_uploader._flow.tcp_info import SendTimes, send_times, tcp_info
from async_uploader.events import Bound, RateLimitWait, RequestKind, RetryScheduled, UploadEvent, UploadMeasured

if TYPE_CHECKING:
    from async_uploader._flow.slots import UploadSlots

    from .job import Job
    from .state import PartInFlight, TransferState

# Short uploads need many samples, long ones do not. Random intervals do not follow a rhythm of the upload.
_FIRST_SAMPLES_SECONDS: Final = 0.02
_SAMPLE_SECONDS: Final = 0.1
_FIRST_SECONDS: Final = 1.0
# On Linux: nanoseconds for which the current thread has been running, and waiting for a processor.
_SCHEDULER_STATISTICS: Final = Path("/proc/thread-self/schedstat")


class Measurement:
    """Measures one upload between :meth:`begin` and :meth:`end`."""

    def __init__(self, job: Job) -> None:
        self._slots: UploadSlots = job.slots
        self._control = job.options.control
        self._state: TransferState | None = None
        self._profile = BoundProfile()
        self._timer: asyncio.TimerHandle | None = None
        self._sampled_at = self._busy_seconds = self._planned_seconds = 0.0
        self._moved_bytes: int | None = None
        # Of the latest wait of a request other than a part.
        self._waits_until, self._waits_for = 0.0, Bound.SERVICE
        self._times: WeakKeyDictionary[asyncio.WriteTransport, SendTimes] = WeakKeyDictionary()
        self._sending_seconds = self._receiver_seconds = 0.0

    def begin(self, events: EventDispatcher) -> None:
        """Start to take samples."""
        events.add(self._observe)
        self._loop = asyncio.get_running_loop()
        self._sampled_at, self._busy_seconds = self._loop.time(), _busy_seconds()
        self._schedule()

    def follow(self, state: TransferState) -> None:
        """The transfer of the parts begins."""
        self._state = state

    def end(self) -> UploadMeasured:
        """Stop; return the result."""
        if self._timer is not None:
            self._timer.cancel()
        self._sample()
        is_known = self._sending_seconds > 0
        return UploadMeasured(
            seconds=self._profile.seconds,
            shares=self._profile.shares(),
            receive_window_share=min(1.0, self._receiver_seconds / self._sending_seconds) if is_known else None,
        )

    def _observe(self, event: UploadEvent) -> None:
        """Requests other than parts report their waits as events."""
        if isinstance(event, RateLimitWait) and event.kind is not RequestKind.UPLOAD:
            self._waits_until, self._waits_for = event.at_seconds + event.wait_seconds, Bound.RATE_LIMIT
        elif isinstance(event, RetryScheduled) and event.part_number is None:
            self._waits_until, self._waits_for = event.at_seconds + event.wait_seconds, Bound.BACKOFF

    def _schedule(self) -> None:
        is_first = self._profile.seconds < _FIRST_SECONDS
        usual_seconds = _FIRST_SAMPLES_SECONDS if is_first else _SAMPLE_SECONDS
        self._planned_seconds = usual_seconds * random.uniform(0.5, 1.5)
        self._timer = self._loop.call_later(self._planned_seconds, self._on_timer)

    def _on_timer(self) -> None:
        self._sample()
        self._schedule()

    def _sample(self) -> None:
        now, busy_seconds = self._loop.time(), _busy_seconds()
        self._profile.add(
            BoundSample(
                seconds=now - self._sampled_at,
                waits=self._waits(now),
                busy_seconds=busy_seconds - self._busy_seconds,
                moved_bytes=self._newly_moved_bytes(),
                are_more_worthwhile=self._slots.are_more_worthwhile,
                planned_seconds=self._planned_seconds,
            )
        )
        self._sampled_at, self._busy_seconds = now, busy_seconds

    def _newly_moved_bytes(self) -> int | None:
        """Bytes since the last sample, if no other upload moved them."""
        before, self._moved_bytes = self._moved_bytes, None
        if self._slots.active_uploads == 1:
            self._moved_bytes = self._slots.meter.read()
        return None if before is None or self._moved_bytes is None else self._moved_bytes - before

    def _waits(self, now: float) -> list[Bound]:
        waits: list[Bound] = []
        next_part: Bound | None = None
        if self._state is not None:
            waits += map(self._wait_of, self._state.deliveries)
            next_part = self._state.next_part_waits_for
        if self._control is not None and self._control.is_paused:
            next_part = Bound.PAUSE
        if next_part is not None:
            waits += [next_part] * self._slots.idle
            waits = waits or [next_part]
        return waits or [self._waits_for if now < self._waits_until else Bound.SERVICE]

    def _wait_of(self, delivery: PartInFlight) -> Bound:
        if (body := delivery.body) is None:
            return delivery.waits_for
        transport = body.transport
        if transport is None or (info := tcp_info(transport)) is None:
            return body.waits_for
        if (times := send_times(transport)) is not None:
            before = self._times.get(transport, times)
            self._sending_seconds += times.busy_seconds - before.busy_seconds
            self._receiver_seconds += times.receiver_seconds - before.receiver_seconds
            self._times[transport] = times
        # The kernel is still sending a body that was written.
        return Bound.NETWORK if body.waits_for is Bound.SERVICE and not info.is_drained else body.waits_for


def _busy_seconds() -> float:
    """How long the current thread has been running, or waiting for a processor where the system counts that."""
    waited_nanoseconds = 0
    if sys.platform == "linux":
        with suppress(OSError, ValueError, IndexError):  # no procfs, or a kernel without these statistics
            waited_nanoseconds = int(_SCHEDULER_STATISTICS.read_bytes().split()[1])
    return time.thread_time() + waited_nanoseconds / 1e9
