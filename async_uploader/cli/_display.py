"""How uploads look while they run: what is known of each. Bars (`_bars`) or lines (`_lines`) are made of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from async_uploader import events
from async_uploader._progress import Progress
from async_uploader._units import format_size

from ._output import has_room_for_bars, printable, say
from ._pace import Pace
from ._words import arrived

if TYPE_CHECKING:
    from async_uploader._models import VideoStatus

# A shorter wait for the rate limit is over before it is read.
_NOTABLE_SECONDS: Final = 1.0
# The account's window is a minute: one closed window is told of once.
_WINDOW_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How an upload stands, or all of them together. Never acknowledged > sent > total."""

    sent_bytes: int
    acknowledged_bytes: int
    total_bytes: int | None
    done: int
    count: int | None

    @property
    def moved_bytes(self) -> int:
        """The mean of both: what is sent runs ahead, into buffers; what is acknowledged comes in jumps."""
        return (self.sent_bytes + self.acknowledged_bytes) // 2

    @property
    def left_bytes(self) -> int | None:
        """What is still to be moved; None where nobody knows."""
        return None if self.total_bytes is None else self.total_bytes - self.moved_bytes


class Display:
    """All sources' progress, on standard error.

    :param quiet: show nothing
    :param sizes: of the sources, in bytes; None for one that is not known
    """

    def __init__(self, *, quiet: bool, sizes: Sequence[int | None] = (None,)) -> None:
        self.quiet = quiet
        self.has_bars = not quiet and has_room_for_bars(sys.stderr)
        self.rows: list[Row] = []
        self.pace = Pace(time.monotonic())
        self.limited_until = 0.0
        self._limit_told_at: float | None = None
        self._files: dict[int, FileDisplay] = {}
        self._sizes = [size or 0 for size in sizes]
        self._total_bytes = sum(self._sizes)
        self._finished_bytes = self._ended_new_bytes = self._ended = 0

    @property
    def count(self) -> int:
        """How many sources there are."""
        return len(self._sizes)

    def file(self, number: int, name: str) -> FileDisplay:
        """One file's upload.

        :param number: its place among the sources
        """
        file = self._files[number] = FileDisplay(self, name)
        return file

    def ended(self, number: int) -> None:
        """One of all sources is through, with a display of its own or without."""
        file = self._files.pop(number, None)
        self._ended += 1
        if file is not None and file.is_uploaded:
            self._finished_bytes += self._sizes[number]
        else:
            self._total_bytes -= self._sizes[number]
        if file is not None:
            self._ended_new_bytes += file.new_bytes()
            self.leave(file)

    def files(self) -> list[FileDisplay]:
        """What is on its way. May be asked by any thread."""
        return [row for row in list(self.rows) if isinstance(row, FileDisplay)]

    def new_bytes(self) -> int:
        """How much has been moved by this command. May be asked by any thread."""
        return self._ended_new_bytes + sum(file.new_bytes() for file in list(self._files.values()))

    def stopped(self) -> None:
        """Nothing is uploaded any more: the last lines of the uploads that were interrupted."""
        for file in self._files.values():
            file.stopped()

    def leave(self, row: Row) -> None:
        """Nothing more will be shown of it."""
        row.ended_at = time.monotonic()
        with suppress(ValueError):
            self.rows.remove(row)

    def standing(self) -> Standing:
        """Of all together. May be asked by any thread."""
        files = [file.standing() for file in list(self._files.values())]
        total = self._total_bytes
        acknowledged = min(self._finished_bytes + sum(each.acknowledged_bytes for each in files), total)
        sent = min(self._finished_bytes + sum(each.sent_bytes for each in files), total)
        return Standing(
            sent_bytes=max(sent, acknowledged),
            acknowledged_bytes=acknowledged,
            total_bytes=total or None,
            done=self._ended,
            count=self.count,
        )

    def say(self, text: str) -> None:
        """A line, unless nothing is to be shown."""
        if not self.quiet:
            say(text)

    def limited(self, seconds: float) -> None:
        """A request has to wait for the account's window."""
        now = time.monotonic()
        if seconds < _NOTABLE_SECONDS:
            return
        self.limited_until = now + seconds
        if self._limit_told_at is None or now - self._limit_told_at > _WINDOW_SECONDS:
            self._limit_told_at = now
            self.say(f"The account's rate limit is reached; going on in {seconds:.0f} s.")

    @contextmanager
    def encoding(self, name: str) -> Iterator[EncodingDisplay]:
        """One video's encoding; says in the end that it can be played."""
        encoding = EncodingDisplay(self, name)
        self.rows.append(encoding)
        try:
            yield encoding
            self.say(f"{name}: can be played")
        finally:
            self.leave(encoding)


class FileDisplay:
    """One file's progress; its methods are an ``on_progress`` and an ``on_event``.

    :ivar ended_at: when it was through; None before
    :ivar waits: until when, by what is going to be tried again
    """

    def __init__(self, display: Display, name: str) -> None:
        self._display = display
        self.name = name
        self._began = time.monotonic()
        self._last: Progress | None = None
        self._resumed_bytes = self._retries = 0
        self._total_bytes: int | None = None
        self._parts_total: int | None = None
        self.pace = Pace(self._began)
        self.is_uploaded = False
        self.ended_at: float | None = None
        self.waits: dict[str, float] = {}

    def on_progress(self, progress: Progress) -> None:
        """How far it is."""
        self._last = progress

    def on_event(self, event: events.UploadEvent) -> None:
        """What happens to it beside that."""
        match event:
            case events.UploadBegan():
                self._display.rows.append(self)
                self._total_bytes, self._parts_total = event.total_bytes, event.parts_total
            case events.ContainerReady():
                self._resumed_bytes, self._parts_total = event.acknowledged_bytes, event.parts_total
            case events.RetryScheduled():
                self._retries += 1
                self.waits[event.what] = time.monotonic() + event.wait_seconds
            case events.PartBegan():
                self.waits.pop(f"part {event.part_number}", None)
            case events.RateLimitWait():
                self._display.limited(event.wait_seconds)

    def standing(self) -> Standing:
        """How it stands. May be asked by any thread."""
        last = self._last
        if last is None:
            return Standing(
                sent_bytes=0,
                acknowledged_bytes=0,
                total_bytes=self._total_bytes,
                done=0,
                count=self._parts_total,
            )
        return Standing(
            sent_bytes=last.sent_bytes,
            acknowledged_bytes=last.acknowledged_bytes,
            total_bytes=last.total_bytes,
            done=last.parts_done,
            count=last.parts_total,
        )

    def new_bytes(self) -> int:
        """How much has been moved by this command; what an earlier one had sent says nothing about the pace."""
        return max(0, self.standing().moved_bytes - self._resumed_bytes)

    def stopped(self) -> None:
        """The last line of an upload that was interrupted."""
        if self._last is not None and not self.is_uploaded:
            self._display.say(f"{self.name}: stopped at {arrived(self._last)}")

    def uploaded(self) -> None:
        """The last line of an upload that worked."""
        if self._last is None:
            return
        self.is_uploaded = True
        size, parts, tries = self._last.acknowledged_bytes, self._last.parts_done, self._retries
        seconds = time.monotonic() - self._began
        again = f"; {tries} request{' was' if tries == 1 else 's were'} tried again" if tries else ""
        self._display.say(
            f"{self.name}: uploaded {format_size(size)}, {parts} part{'' if parts == 1 else 's'}, "
            f"in {seconds:.1f} s ({format_size(int((size - self._resumed_bytes) / seconds))}/s){again}"
        )


class EncodingDisplay:
    """How the service gets on with a video; itself an ``on_status``. A row, or a line for each news.

    :ivar news: what the service last said
    """

    def __init__(self, display: Display, name: str) -> None:
        self._display = display
        self.name = name
        self.ended_at: float | None = None
        self.encoded = self.qualities = 0
        self.news: list[str] = []
        self._told: set[str] = set()

    def __call__(self, status: VideoStatus) -> None:
        qualities = status.encoding.qualities
        self.news = [f"{one.type} {one.quality} {one.status}" for one in qualities]
        if status.ingest.status:
            self.news.insert(0, status.ingest.status)
        self.encoded, self.qualities = sum(one.status == "encoded" for one in qualities), len(qualities)
        for each in () if self._display.has_bars else self.news:
            if each not in self._told:
                self._display.say(f"{self.name}: {each}")
        self._told.update(self.news)


Row: TypeAlias = FileDisplay | EncodingDisplay


def title(name: str) -> str:
    """A source's name in a row."""
    return printable(Path(name).name)
