"""The progress of an upload: counted by its workers, and reported as frozen snapshots."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import isawaitable
from typing import Final, TypeAlias

import anyio

from ._public import public


@public
@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The state of an upload at one moment.

    ``acknowledged_bytes <= delivered_bytes <= sent_bytes <= total_bytes`` always holds. The bytes of failed
    attempts are subtracted.

    :ivar sent_bytes: bytes sent, including the acknowledged ones
    :ivar acknowledged_bytes: bytes that the service has confirmed
    :ivar delivered_bytes: bytes that have arrived at the other end of the connections, by the kernel's count where
        there is one. They measure speed best: sent bytes fill buffers first, and acknowledged bytes grow by parts
    :ivar total_bytes: size of the source in bytes; None while it is not known
    :ivar parts_done: number of acknowledged parts
    :ivar parts_total: number of all parts; None while it is not known
    """

    sent_bytes: int
    acknowledged_bytes: int
    total_bytes: int | None
    parts_done: int
    parts_total: int | None
    delivered_bytes: int = 0

    @property
    def fraction_sent(self) -> float | None:
        """Fraction of bytes sent, from 0.0 to 1.0; None while the total is not known."""
        return self.sent_bytes / self.total_bytes if self.total_bytes else None

    @property
    def fraction_acknowledged(self) -> float | None:
        """Fraction of acknowledged bytes, from 0.0 to 1.0; None while the total is not known."""
        return self.acknowledged_bytes / self.total_bytes if self.total_bytes else None


#: Called (plain or async) with the progress of an upload.
OnProgress: TypeAlias = Callable[[Progress], Awaitable[object] | object]


class ProgressTracker:
    """Counts the bytes and parts of an upload. Not thread-safe: it belongs to the event loop."""

    def __init__(self, *, total_bytes: int | None, parts_total: int | None) -> None:
        self.total_bytes = total_bytes
        self.parts_total = parts_total
        self.acknowledged_bytes = 0
        self.parts_done = 0
        self._sent_bytes: dict[int, int] = {}
        self._delivered_bytes: dict[int, Callable[[], int]] = {}

    def follow_body(self, part_number: int, delivered_bytes: Callable[[], int]) -> None:
        """A body of a part is about to be sent; bytes of an earlier one no longer count.

        :param delivered_bytes: returns how many of its bytes have been delivered
        """
        self._sent_bytes.pop(part_number, None)
        self._delivered_bytes[part_number] = delivered_bytes

    def add_sent(self, part_number: int, count_bytes: int) -> None:
        """Count bytes of a part as sent; a negative number subtracts them."""
        self._sent_bytes[part_number] = self._sent_bytes.get(part_number, 0) + count_bytes

    def discard_sent(self, part_number: int) -> None:
        """Subtract the sent bytes of a part, because its attempt has failed."""
        self._sent_bytes.pop(part_number, None)
        self._delivered_bytes.pop(part_number, None)

    def acknowledge(self, part_number: int, size_bytes: int) -> None:
        """Count a part as acknowledged."""
        self._sent_bytes.pop(part_number, None)
        self._delivered_bytes.pop(part_number, None)
        self.acknowledged_bytes += size_bytes
        self.parts_done += 1

    def set_totals(self, *, total_bytes: int, parts_total: int) -> None:
        """Set the totals of a stream, whose end is known now."""
        self.total_bytes = total_bytes
        self.parts_total = parts_total

    def snapshot(self) -> Progress:
        """Return the current progress."""
        return Progress(
            sent_bytes=self.acknowledged_bytes + sum(self._sent_bytes.values()),
            acknowledged_bytes=self.acknowledged_bytes,
            total_bytes=self.total_bytes,
            parts_done=self.parts_done,
            parts_total=self.parts_total,
            delivered_bytes=self.acknowledged_bytes + self._in_transit_delivered(),
        )

    def _in_transit_delivered(self) -> int:
        """Delivered bytes of parts that are not acknowledged. The kernel also counts headers."""
        bodies = self._delivered_bytes.items()
        return sum(min(read(), self._sent_bytes.get(part_number, 0)) for part_number, read in bodies)


class ProgressReporter:
    """Reports the progress of an upload to a callback: at most ten times a second, and only changes."""

    _INTERVAL_SECONDS: Final = 0.1

    def __init__(self, tracker: ProgressTracker, on_progress: OnProgress | None) -> None:
        self._tracker = tracker
        self._on_progress = on_progress
        self._last: Progress | None = None

    async def run(self) -> None:
        """Report until cancelled. A slow callback delays only later reports."""
        while self._on_progress is not None:
            await self.report()
            await anyio.sleep(self._INTERVAL_SECONDS)

    async def report(self) -> None:
        """Report the current progress, if it has changed."""
        progress = self._tracker.snapshot()
        if self._on_progress is not None and progress != self._last:
            result = self._on_progress(progress)
            if isawaitable(result):
                await result
            self._last = progress
