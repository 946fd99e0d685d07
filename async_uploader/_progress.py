"""How far an upload is: one ledger that the workers write, frozen snapshots that everyone else reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import isawaitable
from typing import Final

import anyio


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A moment of an upload.

    ``sent_bytes`` have left for the service, ``acknowledged_bytes`` are known to have arrived; bytes that a
    failed attempt had sent are taken back. Never: ``acknowledged_bytes > sent_bytes``, nor more than
    ``total_bytes``. Both totals are None while the source's end is not known.
    """

    sent_bytes: int
    acknowledged_bytes: int
    total_bytes: int | None
    parts_done: int
    parts_total: int | None

    @property
    def fraction_sent(self) -> float | None:
        """From 0.0 to 1.0, or None while the total is not known."""
        return self.sent_bytes / self.total_bytes if self.total_bytes else None

    @property
    def fraction_acknowledged(self) -> float | None:
        """From 0.0 to 1.0, or None while the total is not known."""
        return self.acknowledged_bytes / self.total_bytes if self.total_bytes else None


OnProgress = Callable[[Progress], Awaitable[object] | object]


class ProgressTracker:
    """Counts an upload's bytes and parts. Not thread-safe: it belongs to the event loop."""

    def __init__(self, *, total_bytes: int | None, parts_total: int | None) -> None:
        self.total_bytes = total_bytes
        self.parts_total = parts_total
        self.acknowledged_bytes = 0
        self.parts_done = 0
        self._in_flight: dict[int, int] = {}

    def sent(self, part_number: int, count_bytes: int) -> None:
        """``count_bytes`` more of a part have left."""
        self._in_flight[part_number] = self._in_flight.get(part_number, 0) + count_bytes

    def taken_back(self, part_number: int) -> None:
        """A part's attempt failed: nothing of it counts as sent any more."""
        self._in_flight.pop(part_number, None)

    def acknowledged(self, part_number: int, size_bytes: int) -> None:
        """A part has arrived, whole."""
        self._in_flight.pop(part_number, None)
        self.acknowledged_bytes += size_bytes
        self.parts_done += 1

    def ends(self, *, total_bytes: int, parts_total: int) -> None:
        """The end of the source is known now."""
        self.total_bytes = total_bytes
        self.parts_total = parts_total

    def snapshot(self) -> Progress:
        """The present moment."""
        return Progress(
            sent_bytes=self.acknowledged_bytes + sum(self._in_flight.values()),
            acknowledged_bytes=self.acknowledged_bytes,
            total_bytes=self.total_bytes,
            parts_done=self.parts_done,
            parts_total=self.parts_total,
        )


class ProgressReporter:
    """Tells a callback how an upload stands, at most ten times a second, and never twice the same."""

    _INTERVAL_SECONDS: Final = 0.1

    def __init__(self, ledger: ProgressTracker, on_progress: OnProgress | None) -> None:
        self._ledger = ledger
        self._on_progress = on_progress
        self._told: Progress | None = None

    async def run(self) -> None:
        """Tell until cancelled. A slow callback holds up nothing but itself."""
        while self._on_progress is not None:
            await self.tell()
            await anyio.sleep(self._INTERVAL_SECONDS)

    async def tell(self) -> None:
        """Tell the present moment, if it is news."""
        now = self._ledger.snapshot()
        if self._on_progress is not None and now != self._told:
            answer = self._on_progress(now)
            if isawaitable(answer):
                await answer
            self._told = now
