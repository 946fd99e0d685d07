"""Reports from a worker to the coordinators: outcomes immediately, events and progress twice a second."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from distributed import Worker

from async_uploader import Progress
from async_uploader.events import ContainerReady, PartBegan, PartEnded, UploadEvent

from ._messages import TOPIC, ItemReport, Outcome, UploadTask, WorkerReport

_INTERVAL_SECONDS: Final = 0.5


class UploadObserver:
    """Follows one upload; has its ``on_event`` and ``on_progress`` callbacks.

    :ivar outcome: the outcome, once it is known
    """

    def __init__(self, upload: UploadTask) -> None:
        self.upload = upload
        self.outcome: Outcome | None = None
        self.parts_in_flight = 0
        # Without the bytes of an earlier, interrupted upload.
        self.delivered_bytes = 0
        self._resumed_bytes = 0
        self._events: list[UploadEvent] = []
        self._progress: Progress | None = None

    def on_event(self, event: UploadEvent) -> None:
        """Remember an event."""
        match event:
            case PartBegan():
                self.parts_in_flight += 1
            case PartEnded():
                self.parts_in_flight -= 1
            case ContainerReady():
                self._resumed_bytes = event.acknowledged_bytes
        if self.upload.has_listeners:
            self._events.append(event)

    def on_progress(self, progress: Progress) -> None:
        """Remember the latest progress."""
        self._progress = progress
        self.delivered_bytes = max(0, progress.delivered_bytes - self._resumed_bytes)

    def take(self) -> ItemReport | None:
        """The news since the last call; None if there is none."""
        events, self._events = self._events, []
        progress, self._progress = self._progress, None
        if not self.upload.has_listeners:
            progress = None
        if not (events or progress or self.outcome):
            return None
        return ItemReport(number=self.upload.number, events=events, progress=progress, outcome=self.outcome)


class Reporter:
    """Sends the reports of a worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._observers: dict[str, list[UploadObserver]] = {}
        self._ended_bytes: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def following(self, upload: UploadTask) -> Iterator[UploadObserver]:
        """Report an upload while the ``with`` block lasts."""
        observer = UploadObserver(upload)
        observers = self._observers.setdefault(upload.fleet, [])
        observers.append(observer)
        if self._task is None:
            self._task = asyncio.create_task(self._report_regularly())
        try:
            yield observer
        finally:
            observers.remove(observer)
            self._ended_bytes[upload.fleet] = self._ended_bytes.get(upload.fleet, 0) + observer.delivered_bytes
            # Dask reports the end of the task after this.
            self._send(upload.fleet, [observer])
            if not observers:
                del self._observers[upload.fleet]

    def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()

    async def _report_regularly(self) -> None:
        """Report as long as there are uploads."""
        while fleets := list(self._observers):
            await asyncio.sleep(_INTERVAL_SECONDS)
            for fleet in fleets:
                self._send(fleet, self._observers.get(fleet, []))
        self._task = None

    def _send(self, fleet: str, reported: Sequence[UploadObserver]) -> None:
        observers = self._observers.get(fleet, [])
        items = [observer.take() for observer in reported]
        report = WorkerReport(
            worker=self._worker.address,
            at_seconds=asyncio.get_running_loop().time(),
            uploads=len(observers),
            parts_in_flight=sum(observer.parts_in_flight for observer in observers),
            delivered_bytes=self._ended_bytes.get(fleet, 0) + sum(each.delivered_bytes for each in observers),
            items=[item for item in items if item is not None],
        )
        # Dask's messages cannot contain objects, so the report, with the errors in its events, is pickled.
        self._worker.log_event(TOPIC, [fleet, pickle.dumps(report)])
