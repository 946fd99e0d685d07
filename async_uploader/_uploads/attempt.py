"""Reports one attempt to send a part: its progress, throughput and events."""

from __future__ import annotations

import asyncio
from functools import partial

from async_uploader._clock import current_time
from async_uploader._dispatcher import EventDispatcher
from async_uploader._flow.throughput import BodyInTransit, ThroughputMeter
from async_uploader._outcome import Outcome
from async_uploader._plan import Part
from async_uploader._progress import ProgressTracker
from async_uploader.events import PartBegan, PartEnded, PartOutcome


class PartAttempt:
    """Observes one attempt (:class:`~async_uploader._api.part_request.PartObserver`) and reports it.

    :param number: counts the attempts of this part from 1
    :param can_be_replaced: whether the part can be sent again if its connection is slow
    """

    def __init__(
        self,
        part: Part,
        number: int,
        *,
        events: EventDispatcher,
        progress: ProgressTracker,
        meter: ThroughputMeter,
        can_be_replaced: bool,
    ) -> None:
        self._part = part
        self._number = number
        self._events = events
        self._progress = progress
        self._meter = meter
        self._can_be_replaced = can_be_replaced
        self._began_at_seconds: float | None = None
        #: The body in transit.
        self.body: BodyInTransit | None = None
        self._local_port: int | None = None
        # Includes bytes of bodies that were sent again: they used the network, too.
        self._sent_bytes = 0

    def begin(self) -> None:
        """Report the beginning: the rate limit allows the request, and it is about to be sent."""
        self._began_at_seconds = current_time()
        self._events.emit(
            PartBegan(part_number=self._part.number, size_bytes=self._part.size_bytes, attempt=self._number)
        )

    def body_started(self, body: BodyInTransit) -> None:
        """See :class:`~async_uploader._api.part_request.PartObserver`."""
        self._progress.follow_body(self._part.number, partial(self._meter.delivered_bytes, body))
        self._meter.add(current_time(), body)
        self.body = body

    def sent(self, count_bytes: int) -> None:
        """See :class:`~async_uploader._api.part_request.PartObserver`."""
        self._sent_bytes += count_bytes
        self._progress.add_sent(self._part.number, count_bytes)

    def replacement_factor(self, body: BodyInTransit, size_bytes: int) -> float | None:
        """See :class:`~async_uploader._api.part_request.PartObserver`."""
        if not self._can_be_replaced:
            return None
        # Called from a timer: outside of tasks, anyio does not know the time.
        return self._meter.replacement_factor(asyncio.get_running_loop().time(), body, size_bytes=size_bytes)

    def body_ended(self, body: BodyInTransit) -> None:
        """See :class:`~async_uploader._api.part_request.PartObserver`."""
        self._meter.remove(current_time(), body)
        self.body = None
        self._local_port = body.local_port or self._local_port

    def end(self, outcome: Outcome | None, error: Exception | None = None) -> None:
        """Report the outcome; None if the attempt was cancelled. An attempt that never began is not reported."""
        if self._began_at_seconds is None:
            return
        self._events.emit(
            PartEnded(
                part_number=self._part.number,
                size_bytes=self._part.size_bytes,
                attempt=self._number,
                began_at_seconds=self._began_at_seconds,
                connection=self._local_port,
                outcome=PartOutcome.CANCELLED if outcome is None else PartOutcome[outcome.name],
                error=error,
                sent_bytes=self._sent_bytes,
            )
        )
