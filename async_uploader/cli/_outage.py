"""Reports an outage of the connection as two lines, however many parts it affects.

An outage begins when a request gets no response, and ends when bytes arrive at the service again, or a request
succeeds. An interruption that is over before anybody could read about it is not reported; the summary of the
upload counts its retries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from async_uploader import TransportError, events

from ._hints import service_host
from ._stops import running_seconds

_MIN_REPORTED_SECONDS: Final = 0.5


class OutageReporter:
    """Follows all uploads of a command. Belongs to the event loop.

    :param print_line: prints a line for the user
    """

    def __init__(self, print_line: Callable[[str], None]) -> None:
        self._print_line = print_line
        self._began_at: float | None = None
        self._is_reported = False
        self._is_connected = True
        self._failed_parts: set[tuple[int, int]] = set()
        self._delivered_bytes = 0

    def on_event(self, event: events.UploadEvent) -> None:
        """Note failed and successful requests."""
        match event:
            case events.RetryScheduled(error=TransportError() as error):
                self._is_connected = not error.unreachable
                self._fail(event)
            case events.ContainerReady() | events.PartEnded(outcome=events.PartOutcome.STORED):
                self._end()
            case events.UploadEnded(outcome=events.UploadOutcome.FINISHED):
                self._end()

    def on_delivered(self, delivered_bytes: int) -> None:
        """Note the bytes that have arrived at the service; bytes of failed attempts are subtracted."""
        if delivered_bytes > self._delivered_bytes:
            self._end()
        self._delivered_bytes = delivered_bytes

    def _fail(self, event: events.RetryScheduled) -> None:
        if event.part_number is not None:
            self._failed_parts.add((event.upload, event.part_number))
        if self._began_at is None:
            self._began_at = running_seconds()
            asyncio.get_running_loop().call_later(_MIN_REPORTED_SECONDS, self._report, self._began_at)

    def _report(self, began_at: float) -> None:
        if self._began_at != began_at:
            return
        self._is_reported = True
        count = len(self._failed_parts)
        what = f" {count} part{'' if count == 1 else 's'}" if count else ""
        state = (
            f"Connection to {service_host()} lost" if self._is_connected else f"No connection to {service_host()}"
        )
        self._print_line(f"{state}; retrying{what}…")

    def _end(self) -> None:
        if self._began_at is not None and self._is_reported:
            self._print_line(f"Connection restored after {max(1, round(running_seconds() - self._began_at))} s.")
        self._began_at, self._is_reported = None, False
        self._failed_parts.clear()
