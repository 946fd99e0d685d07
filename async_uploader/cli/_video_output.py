"""Prints finished videos: one line each as they finish, or one JSON document at the end. On a terminal: a table.

Standard output may fail: a full disk, a closed pipe. No videoId is lost: standard error has the id of every video
that could not be printed, and the exit code is 1. The journal keeps finished videos until they have been printed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from tempfile import TemporaryFile
from typing import Any, Final, Self

import anyio
import anyio.to_thread

from ._output import (
    OutputError,
    format_video,
    is_terminal,
    print_json,
    print_json_array,
    print_line,
    print_lines,
    print_message,
)
from ._text import columns_of
from ._video_table import VideoRow, format_rows, supports_hyperlinks

_USUAL_COLUMNS: Final = 80


class JsonSpool:
    """JSON documents in a temporary file: added in any order, read in the order of their numbers."""

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._offsets: dict[int, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()

    def __setitem__(self, number: int, document: Any) -> None:
        self._offsets[number] = self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps(document).encode() + b"\n")

    def __iter__(self) -> Iterator[Any]:
        for number in sorted(self._offsets):
            self._file.seek(self._offsets[number])
            yield json.loads(self._file.readline())


class VideoOutput:
    """Prints the videos of one command.

    On a terminal, several videos are printed at the end, in the order of the command, unless it has no end.

    :param spool: keeps JSON documents until the end; None to print videos for people, or a line for each at once
    :param is_single: there is one video, and its JSON is not an array
    :param is_endless: the command runs until it is interrupted
    :param has_links: the addresses of the videos work after the command has ended
    """

    def __init__(
        self,
        spool: JsonSpool | None,
        *,
        is_single: bool,
        has_links: bool = True,
        is_endless: bool = False,
    ) -> None:
        self._spool = spool
        self._is_single = is_single
        self._has_links = has_links
        self._is_for_people = spool is None and is_terminal(sys.stdout)
        self._is_table = self._is_for_people and not (is_single or is_endless)
        self._rows: dict[int, VideoRow] = {}
        self._limiter = anyio.CapacityLimiter(1)
        self._failure: OutputError | None = None
        self._unprinted: dict[int, tuple[str, str]] = {}
        self._reported: set[int] = set()

    async def add_video(self, number: int, video: Mapping[str, Any], name: str) -> None:
        """Print a finished video, or keep it for the JSON document.

        :param video: as the service returned it
        :param name: the display name of its source
        """
        self._unprinted[number] = video["videoId"], name
        if self._spool is not None:
            self._keep(number, video)
            return
        if self._is_for_people:
            row = VideoRow.of(video, name, has_link=self._has_links)
            if self._is_table:
                self._rows[number] = row
                return
            lines = _lines_for_people([row])
        else:
            lines = [format_video(video, name, has_link=self._has_links)]
        # In a thread: a pager that is not scrolled stops reading, and must not block other uploads.
        await anyio.to_thread.run_sync(self._print_lines, lines, limiter=self._limiter, abandon_on_cancel=True)
        if self._failure is None:
            del self._unprinted[number]
        elif not self._is_single:  # otherwise the message of the failure has the id
            self._report(number)

    def add_error(self, number: int, document: Mapping[str, Any]) -> None:
        """Keep the error of a source for the JSON document."""
        if self._spool is not None:
            self._keep(number, document)

    def print_document(self) -> None:
        """Print the JSON document, or the table for people, if there is one."""
        if self._rows:
            self._print_lines(_lines_for_people([row for _, row in sorted(self._rows.items())]))
            if self._failure is None:
                self._unprinted.clear()
        if self._spool is None or self._failure is not None:
            return
        try:
            if self._is_single:
                print_json(*self._spool)
            else:
                print_json_array(self._spool)
            self._unprinted.clear()
        except OutputError as exc:
            self._failure = exc

    def report_unprinted(self) -> None:
        """Print to standard error which finished videos have not been printed."""
        for number in sorted(self._unprinted.keys() - self._reported):
            self._report(number)

    @property
    def unprinted_ids(self) -> set[str]:
        """The ids of finished videos that have not been printed."""
        return {video_id for video_id, _ in self._unprinted.values()}

    @property
    def has_failed(self) -> bool:
        """Whether standard output could not be written."""
        return self._failure is not None

    def failure(self, kept_ids: Collection[str] | None) -> OutputError:
        """The error of standard output, with advice; also reports the videos that have not been printed.

        :param kept_ids: the videos that the same command prints again without uploading them; None if the service
            that had the videos no longer exists
        """
        assert self._failure is not None
        ids = self.unprinted_ids
        if kept_ids is None or not ids:
            return OutputError(self._failure.reason)
        if self._is_single:
            (video_id,) = ids
            state, them = f"Video {video_id} is uploaded.", "it"
        else:
            self.report_unprinted()
            state, them = "The videos above are uploaded.", "them"
        if ids <= set(kept_ids):
            advice = f"Run the same command again to print {them} without uploading."
        elif ids.isdisjoint(kept_ids):
            advice = f"The same command would upload {them} again."
        else:
            lost = ", ".join(sorted(ids - set(kept_ids)))
            advice = f"The same command would print them without uploading, except that it uploads again: {lost}."
        return OutputError(self._failure.reason, f"{state} {advice}")

    def _print_lines(self, lines: Sequence[str]) -> None:
        # Nothing is written after a failure: the buffer still has the line that failed, and would print it first.
        if self._failure is None:
            try:
                print_lines(lines) if self._is_for_people else print_line(lines[0])
            except OutputError as exc:
                self._failure = exc

    def _keep(self, number: int, document: Mapping[str, Any]) -> None:
        assert self._spool is not None
        try:
            self._spool[number] = document
        except OSError as exc:  # the disk of temporary files is full
            self._failure = self._failure or OutputError(exc)
            if number in self._unprinted and not self._is_single:
                self._report(number)

    def _report(self, number: int) -> None:
        self._reported.add(number)
        print_message("  ".join(self._unprinted[number]))


def print_video(video: Mapping[str, Any], source: str) -> None:
    """Print one finished video: for people on a terminal, as a line otherwise.

    :raises OutputError: standard output cannot be written
    """
    if is_terminal(sys.stdout):
        print_lines(_lines_for_people([VideoRow.of(video, source, has_link=True)]))
    else:
        print_line(format_video(video, source))


def _lines_for_people(rows: Sequence[VideoRow]) -> list[str]:
    columns = columns_of(sys.stdout) or _USUAL_COLUMNS
    return list(format_rows(rows, columns, has_hyperlinks=supports_hyperlinks()))
