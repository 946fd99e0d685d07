"""The state of the progress display. `_bar_renderer` shows it on a terminal, `_log_renderer` in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from async_uploader import Progress, events
from async_uploader._units import format_size

from ._estimator import ProgressEstimator
from ._format import format_acknowledged, format_rate
from ._outage import OutageReporter
from ._output import has_room_for_bars, print_message
from ._stops import running_seconds
from ._text import printable

if TYPE_CHECKING:
    from async_uploader import VideoStatus
    from async_uploader.fleet import Fleet, WorkerStatus

# A shorter wait for the rate limit ends before anybody can read about it.
_MIN_REPORTED_WAIT_SECONDS: Final = 1.0
# One message for each window of the account's rate limit, which is a minute.
_WINDOW_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressSnapshot:
    """The progress of an upload, or of all together. Invariant: acknowledged <= delivered <= sent <= total.

    :param delivered_bytes: bytes that have arrived at the service, by the kernel's count. They are displayed
    :param acknowledged_bytes: bytes of parts that the service has confirmed
    :param count_done: finished parts of an upload, or finished sources
    :param count: number of parts or sources; None if it is unknown
    """

    sent_bytes: int
    delivered_bytes: int
    acknowledged_bytes: int
    total_bytes: int | None
    count_done: int
    count: int | None

    @property
    def is_complete(self) -> bool:
        """Whether the service has confirmed everything."""
        return self.acknowledged_bytes == self.total_bytes

    @property
    def remaining_bytes(self) -> int | None:
        """Bytes still to deliver; None if the total is unknown."""
        return None if self.total_bytes is None else self.total_bytes - self.delivered_bytes


class Display:
    """The progress of all sources, and messages about it on standard error.

    The event loop changes it; methods that the rendering thread calls say so.

    :param quiet: print nothing
    :param sizes: the sizes of the sources in bytes; None for an unknown size
    :param is_complete: no source will be added
    :param fleet: runs the uploads; its workers have rows instead of the uploads
    :ivar rows: the uploads, workers and encodings that are in progress
    :ivar failed: number of sources that have failed
    :ivar rate_limited_until: when the longest wait for the rate limit ends, by :func:`.running_seconds`
    """

    def __init__(
        self,
        *,
        quiet: bool,
        sizes: Sequence[int | None] = (None,),
        is_complete: bool = True,
        fleet: Fleet | None = None,
    ) -> None:
        self.quiet = quiet
        self.is_complete = is_complete
        self.has_bars = not quiet and has_room_for_bars(sys.stderr)
        self.rows: list[Row] = []
        self.estimator = ProgressEstimator(running_seconds())
        self.rate_limited_until = 0.0
        self.failed = 0
        self._fleet = fleet
        self._workers: dict[str, WorkerProgress] = {}
        self._worker_numbers = count()
        self._outage = OutageReporter(self.print)
        self._rate_limit_reported_at: float | None = None
        self._files: dict[int, FileProgress] = {}
        self._sizes = [size or 0 for size in sizes]
        self._total_bytes = sum(self._sizes)
        self._finished_bytes = self._ended_delivered_bytes = self._ended = 0

    @property
    def count(self) -> int:
        """Number of sources so far."""
        return len(self._sizes)

    @property
    def count_text(self) -> str:
        """The number of sources; with a plus sign if there may be more. Called by any thread."""
        return f"{self.count}{'' if self.is_complete else '+'}"

    @property
    def is_idle(self) -> bool:
        """Whether all sources have ended, and no encoding is awaited. Called by any thread."""
        rows = [row for row in list(self.rows) if not isinstance(row, WorkerProgress)]
        return self.is_complete and self._ended == len(self._sizes) and not rows

    def add_source(self, size_bytes: int | None) -> int:
        """Add a source that was not known at the start.

        :returns: its number
        """
        self._sizes.append(size_bytes or 0)
        self._total_bytes += size_bytes or 0
        return len(self._sizes) - 1

    def print(self, text: str) -> None:
        """Print a line, unless the display is quiet."""
        if not self.quiet:
            print_message(text)

    def add_file(self, number: int, name: str) -> FileProgress:
        """Add the upload of a file.

        :param number: the number of the source
        :param name: its display name
        """
        file = self._files[number] = FileProgress(self, name, number=number)
        return file

    def end_source(self, number: int) -> None:
        """Record that a source has ended, whether it has a row or not."""
        file = self._files.pop(number, None)
        self._ended += 1
        if file is not None and file.is_uploaded:
            self._finished_bytes += self._sizes[number]
        else:
            self._total_bytes -= self._sizes[number]
        if file is not None:
            self._ended_delivered_bytes += file.delivered_bytes()
            self.remove_row(file)

    def remove_row(self, row: Row) -> None:
        """Remove a row whose upload or encoding has ended."""
        row.ended_at = running_seconds()
        with suppress(ValueError):
            self.rows.remove(row)

    def add_row(self, file: FileProgress) -> None:
        """Add the row of an upload that begins, possibly again on another worker."""
        file.is_active = True
        if self._fleet is None and file not in self.rows:
            self.rows.append(file)

    def active_files(self) -> list[FileProgress]:
        """The uploads that are in progress. Called by any thread."""
        return [file for file in list(self._files.values()) if file.is_active]

    @property
    def worker_count(self) -> int | None:
        """Number of workers of the fleet; None if there is no fleet. Called by any thread."""
        return None if self._fleet is None else len(self._fleet.workers)

    @property
    def parts_in_flight(self) -> int:
        """Number of parts in flight on all workers. Called by any thread."""
        return 0 if self._fleet is None else sum(each.parts_in_flight for each in self._fleet.workers)

    def update_workers(self) -> None:
        """Update the rows of the workers. Called by the rendering thread."""
        if self._fleet is None:
            return
        statuses = {status.address: status for status in self._fleet.workers}
        for address in self._workers.keys() - statuses.keys():
            self.remove_row(self._workers.pop(address))
        for address, status in statuses.items():
            if address not in self._workers:
                self._workers[address] = WorkerProgress(address, next(self._worker_numbers))
                self.rows.append(self._workers[address])
            self._workers[address].update(status)

    def delivered_bytes(self) -> int:
        """Bytes that this command has delivered. Called by any thread."""
        return self._ended_delivered_bytes + sum(file.delivered_bytes() for file in list(self._files.values()))

    def sample(self, now: float) -> None:
        """Let the estimator know the current progress."""
        delivered_bytes = self.delivered_bytes()
        self.estimator.sample(now, delivered_bytes)
        self._outage.on_delivered(delivered_bytes)

    def on_event(self, event: events.UploadEvent) -> None:
        """Report an outage by the events of all uploads."""
        self._outage.on_event(event)

    def snapshot(self) -> ProgressSnapshot:
        """The progress of all sources together. Called by any thread."""
        files = [file.snapshot() for file in list(self._files.values())]
        total = self._total_bytes
        acknowledged = min(self._finished_bytes + sum(each.acknowledged_bytes for each in files), total)
        delivered = min(self._finished_bytes + sum(each.delivered_bytes for each in files), total)
        sent = min(self._finished_bytes + sum(each.sent_bytes for each in files), total)
        return ProgressSnapshot(
            sent_bytes=max(sent, delivered, acknowledged),
            delivered_bytes=max(delivered, acknowledged),
            acknowledged_bytes=acknowledged,
            total_bytes=total or None,
            count_done=self._ended,
            count=self.count,
        )

    def print_unfinished(self) -> None:
        """Print how far each unfinished upload has got."""
        for file in self._files.values():
            file.print_unfinished()

    def show_rate_limit(self, wait_seconds: float) -> None:
        """Show that a request waits for the account's rate limit."""
        now = running_seconds()
        if wait_seconds < _MIN_REPORTED_WAIT_SECONDS:
            return
        self.rate_limited_until = now + wait_seconds
        reported_at = self._rate_limit_reported_at
        if reported_at is None or now - reported_at > _WINDOW_SECONDS:
            self._rate_limit_reported_at = now
            self.print(f"Rate limit of the account reached; waiting {wait_seconds:.0f} s.")

    @contextmanager
    def show_encoding(self, name: str) -> Iterator[EncodingProgress]:
        """Show the encoding of a video, and finally that it is playable.

        :param name: the display name of its source
        """
        encoding = EncodingProgress(self, name)
        self.rows.append(encoding)
        try:
            yield encoding
            self.print(f"{name}: playable")
        finally:
            self.remove_row(encoding)


class FileProgress:
    """The progress of one file; has an ``on_progress`` and an ``on_event`` callback.

    :param number: its place in the command
    :ivar ended_at: when the upload ended, by :func:`.running_seconds`; None before
    :ivar retries_at: the time of the next attempt, by request
    """

    def __init__(self, display: Display, name: str, *, number: int) -> None:
        self._display = display
        self.name = name
        self.number = number
        self._began_at = running_seconds()
        self._progress: Progress | None = None
        self._resumed_bytes = self._retries = 0
        self._total_bytes: int | None = None
        self._parts_total: int | None = None
        self.estimator = ProgressEstimator(self._began_at)
        self.is_active = self.is_uploaded = False
        self.ended_at: float | None = None
        self.retries_at: dict[str, float] = {}

    def on_progress(self, progress: Progress) -> None:
        """Remember the latest progress."""
        self._progress = progress
        now = running_seconds()
        self.estimator.sample(now, self.delivered_bytes())
        self._display.sample(now)

    def on_event(self, event: events.UploadEvent) -> None:
        """Update the state by an event of the upload."""
        self._display.on_event(event)
        match event:
            case events.UploadBegan():
                self._display.add_row(self)
                self._total_bytes, self._parts_total = event.total_bytes, event.parts_total
            case events.ContainerReady():
                self._resumed_bytes, self._parts_total = event.acknowledged_bytes, event.parts_total
            case events.RetryScheduled():
                self._retries += 1
                self.retries_at[event.request] = running_seconds() + event.wait_seconds
            case events.PartBegan():
                self.retries_at.pop(f"part {event.part_number}", None)
            case events.RateLimitWait():
                self._display.show_rate_limit(event.wait_seconds)

    def snapshot(self) -> ProgressSnapshot:
        """The current progress. Called by any thread."""
        progress = self._progress
        if progress is None:
            return ProgressSnapshot(
                sent_bytes=0,
                delivered_bytes=0,
                acknowledged_bytes=0,
                total_bytes=self._total_bytes,
                count_done=0,
                count=self._parts_total,
            )
        return ProgressSnapshot(
            sent_bytes=progress.sent_bytes,
            delivered_bytes=progress.delivered_bytes,
            acknowledged_bytes=progress.acknowledged_bytes,
            total_bytes=progress.total_bytes,
            count_done=progress.parts_done,
            count=progress.parts_total,
        )

    def delivered_bytes(self) -> int:
        """Bytes that this command has delivered, without those of an interrupted earlier one."""
        return max(0, self.snapshot().delivered_bytes - self._resumed_bytes)

    def print_unfinished(self) -> None:
        """Print how far the upload has got, if it has not finished."""
        if self._progress is not None and not self.is_uploaded:
            self._display.print(f"{self.name}: stopped after {format_acknowledged(self._progress)}")

    def finish_upload(self) -> None:
        """Print a summary of the finished upload."""
        if self._progress is None:
            return
        self.is_uploaded = True
        size, parts, retries = self._progress.acknowledged_bytes, self._progress.parts_done, self._retries
        seconds = running_seconds() - self._began_at
        throughput = format_rate((size - self._resumed_bytes) / seconds)
        self._display.print(
            f"{self.name}: uploaded {format_size(size)}, {parts} part{'' if parts == 1 else 's'}, "
            f"in {seconds:.1f} s ({throughput})"
            + (f"; {retries} {'retry' if retries == 1 else 'retries'}" if retries else "")
        )


class WorkerProgress:
    """The state of one worker of a fleet.

    :param number: the place of its row
    :ivar status: its last report
    """

    def __init__(self, address: str, number: int) -> None:
        self.number = number
        self.name = address.partition("://")[2] or address
        self.ended_at: float | None = None
        self.estimator = ProgressEstimator(running_seconds())
        self.status: WorkerStatus | None = None

    def update(self, status: WorkerStatus) -> None:
        """Remember the last report."""
        self.status = status
        self.estimator.sample(running_seconds(), status.delivered_bytes)


class EncodingProgress:
    """The encoding of one video; is an ``on_status`` callback.

    :ivar number: one after all files
    :ivar states: the state of the ingest and of each quality, as text
    """

    def __init__(self, display: Display, name: str) -> None:
        self._display = display
        self.name = name
        self.number = sys.maxsize
        self.ended_at: float | None = None
        self.encoded = self.qualities = 0
        self.states: list[str] = []
        self._printed: set[str] = set()

    def __call__(self, status: VideoStatus) -> None:
        qualities = status.encoding.qualities
        self.states = [f"{each.type} {each.quality} {each.status}" for each in qualities]
        if status.ingest.status:
            self.states.insert(0, status.ingest.status)
        self.encoded, self.qualities = sum(each.status == "encoded" for each in qualities), len(qualities)
        for state in () if self._display.has_bars else self.states:
            if state not in self._printed:
                self._display.print(f"{self.name}: {state}")
        self._printed.update(self.states)


Row: TypeAlias = FileProgress | WorkerProgress | EncodingProgress


def row_title(name: str) -> str:
    """The name of a source in its row: the file name, with control characters escaped."""
    return printable(Path(name).name)
