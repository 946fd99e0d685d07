"""``--report``: records the events of uploads, and writes an HTML page about them at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio.to_thread

from async_uploader import ConfigurationError, events
from async_uploader._catalogue.os_errors import describe_os_error
from async_uploader._catalogue.output_file import OutputFile

from ._bounds import bound_sentence
from ._output import print_error, print_message

# Browsers are slow with larger pages. Further uploads are only counted.
MAX_UPLOADS: Final = 50

_NAME: Final = "the report"


class ReportRecorder:
    """Records the events of uploads; is an ``on_event`` callback.

    :ivar timelines: the events of each of the first 50 uploads, in order of time, by the upload's number
    :ivar omitted: the numbers of further uploads
    """

    def __init__(self) -> None:
        self.timelines: dict[int, list[events.UploadEvent]] = {}
        self.omitted: set[int] = set()

    def __call__(self, event: events.UploadEvent) -> None:
        if event.upload in self.timelines:
            self.timelines[event.upload].append(event)
        elif len(self.timelines) < MAX_UPLOADS:
            self.timelines[event.upload] = [event]
        else:
            self.omitted.add(event.upload)

    def write(self, to: Path | OutputFile) -> None:
        """Render the page and write it.

        :raises OSError: it cannot be written; a regular file is unchanged
        """
        from ._report_page import render_page

        file = to if isinstance(to, OutputFile) else OutputFile(to, name=_NAME)
        file.write(render_page(list(self.timelines.values()), omitted=len(self.omitted)).encode())


@asynccontextmanager
async def write_report(path: Path, *, quiet: bool) -> AsyncIterator[None]:
    """Record the events of a block, and write the report when it ends, fails or is cancelled.

    :param quiet: do not print the path of the report
    :raises ConfigurationError: plotly is not installed
    :raises SourceError: the path cannot be written
    """
    file = await anyio.to_thread.run_sync(open_report, path)
    recorder = ReportRecorder()
    try:
        with events.listen(recorder, measure=True):
            yield
    finally:
        if recorder.timelines:
            with anyio.CancelScope(shield=True):
                await _write(recorder, file, quiet=quiet)
        file.close()


async def _write(recorder: ReportRecorder, file: OutputFile, *, quiet: bool) -> None:
    """Write the report. If that fails, an error is printed, but the exit code is that of the uploads."""
    try:
        await anyio.to_thread.run_sync(recorder.write, file)
    except OSError as exc:
        print_error(OSError(f"Cannot write {_NAME} to {file.path}: {describe_os_error(exc)}."))
    else:
        if not quiet:
            print_message(f"Report: {file.path}")
            if (sentence := bound_sentence(list(recorder.timelines.values()))) is not None:
                print_message(sentence)


def open_report(path: Path) -> OutputFile:
    """Check that a report can be written, before anything is sent.

    :raises ConfigurationError: plotly is not installed
    :raises SourceError: the path cannot be written
    """
    try:
        from . import _report_page  # noqa: F401 - imported now, as there is no time for it after Ctrl-C
    except ModuleNotFoundError:
        raise ConfigurationError(
            "--report requires plotly. Install it with pip install 'async-uploader[report]'."
        ) from None
    return OutputFile(path, name=_NAME)
