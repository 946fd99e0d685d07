"""One item of a fleet in the coordinator: forwards the events and progress that its worker reports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from inspect import isawaitable
from typing import Any

from async_uploader import Progress, UploadItem
from async_uploader._dispatcher import EventDispatcher
from async_uploader.events import (
    ContainerReady,
    ContainerState,
    UploadBegan,
    UploadEnded,
    UploadEvent,
    UploadOutcome,
)

from ._messages import ItemReport, Outcome, UploadTask


class RemoteUpload:
    """Follows one item until it has ended.

    :param on_failure: called when a callback of the item, or a listener, has raised an exception
    :ivar outcome: the outcome, once it was reported
    :ivar failure: that exception
    """

    def __init__(self, item: UploadItem, task: UploadTask, on_failure: Callable[[], object]) -> None:
        self.item = item
        self.task = task
        self.outcome: Outcome | None = None
        self.failure: Exception | None = None
        self._on_failure = on_failure
        # Spans of the upload belong to the span that is current now.
        self._context = copy_context()
        self._dispatcher: EventDispatcher | None = None
        self._video_id: str | None = None
        self._slow_callback: asyncio.Task[None] | None = None
        self._next_progress: Progress | None = None

    def receive(self, report: ItemReport, clock_offset_seconds: float) -> None:
        """Pass on a report.

        :param clock_offset_seconds: what to add to the times of its events
        """
        try:
            for event in report.events:
                self._context.run(self._pass_on, event, event.at_seconds + clock_offset_seconds)
            if report.progress is not None:
                self._report_progress(report.progress)
        except Exception as exc:  # noqa: BLE001 - of the caller's code: it ends this upload, and no other
            self._fail(exc)
        self.outcome = report.outcome or self.outcome

    def close(self) -> None:
        """Stop, and report the end of the upload if its worker has not."""
        if self._slow_callback is not None:
            self._slow_callback.cancel()
        try:
            self._context.run(self._end_events)
        except Exception as exc:  # noqa: BLE001 - likewise
            self.failure = self.failure or exc

    async def wait_for_callback(self) -> None:
        """Wait until the last call of an async ``on_progress`` has returned."""
        if self._slow_callback is not None:
            await self._slow_callback

    def _pass_on(self, event: UploadEvent, at_seconds: float) -> None:
        if isinstance(event, UploadBegan):
            self._end_events()  # of a worker that has died
            self._dispatcher = EventDispatcher(event.source, self.item.options.get("on_event"))
        elif isinstance(event, ContainerReady):
            self._video_id = event.video_id
        if self._dispatcher is None:
            return
        dispatcher = self._dispatcher
        if isinstance(event, UploadEnded):
            self._dispatcher = None
        dispatcher.forward(event, at_seconds=at_seconds)

    def _end_events(self) -> None:
        if self._dispatcher is not None:
            dispatcher, self._dispatcher = self._dispatcher, None
            dispatcher.emit(
                UploadEnded(
                    video_id=self._video_id,
                    outcome=UploadOutcome.CANCELLED,
                    error=None,
                    resumable=True,
                    container=ContainerState.KEPT if self._video_id else None,
                )
            )

    def _report_progress(self, progress: Progress) -> None:
        """Call ``on_progress``. While a slow callback runs, only the latest report is kept."""
        if (on_progress := self.item.options.get("on_progress")) is None:
            return
        if self._slow_callback is not None and not self._slow_callback.done():
            self._next_progress = progress
        elif isawaitable(returned := on_progress(progress)):
            self._slow_callback = asyncio.create_task(self._wait_for(returned))

    async def _wait_for(self, returned: Any) -> None:
        try:
            await returned
        except Exception as exc:  # noqa: BLE001 - likewise
            self._fail(exc)
            return
        progress, self._next_progress = self._next_progress, None
        if progress is not None:
            self._slow_callback = None
            self._report_progress(progress)

    def _fail(self, failure: Exception) -> None:
        if self.failure is None:
            self.failure = failure
            self._on_failure()
