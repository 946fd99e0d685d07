"""``--report``: collects what uploads tell, and makes a page of it. It knows nothing but events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio.to_thread

from async_uploader import events
from async_uploader._errors import ConfigurationError

from ._output import say, say_error
from ._target import Target

# More would make a page that no browser likes to open; the others are counted.
MAX_UPLOADS: Final = 50


class Report:
    """What has happened in uploads; itself an ``on_event``.

    :ivar stories: the events of each upload, by its number, in order of time; of the first 50 uploads
    :ivar left_out: the numbers of the others
    """

    def __init__(self) -> None:
        self.stories: dict[int, list[events.UploadEvent]] = {}
        self.left_out: set[int] = set()

    def __call__(self, event: events.UploadEvent) -> None:
        if event.upload in self.stories:
            self.stories[event.upload].append(event)
        elif len(self.stories) < MAX_UPLOADS:
            self.stories[event.upload] = [event]
        else:
            self.left_out.add(event.upload)

    def write(self, to: Path | Target) -> None:
        """Make the page, and write it: a file is there as a whole, or as it was before.

        :raises OSError: it cannot be written
        """
        from ._report_page import page

        target = to if isinstance(to, Target) else Target(to, name="The report")
        target.write(page(list(self.stories.values()), left_out=len(self.left_out)).encode())


@asynccontextmanager
async def reporting(path: Path, *, quiet: bool) -> AsyncIterator[None]:
    """Write a report in the end, whatever that is: done, failed or interrupted.

    :param quiet: do not say where it is
    :raises ConfigurationError: what draws it is not installed
    :raises SourceError: it cannot be written there
    """
    target = await anyio.to_thread.run_sync(check, path)
    report = Report()
    try:
        with events.listen(report):
            yield
    finally:
        if report.stories:
            with anyio.CancelScope(shield=True):
                await _write(report, target, quiet=quiet)
        target.close()


async def _write(report: Report, target: Target, *, quiet: bool) -> None:
    """Write the page. The uploads are what counts: a report that cannot be written is an error message only."""
    try:
        await anyio.to_thread.run_sync(report.write, target)
    except OSError as exc:
        say_error(OSError(f"The report {target.path} could not be written: {exc.strerror}."))
    else:
        if not quiet:
            say(f"The report is in {target.path}.")


def check(path: Path) -> Target:
    """See that a report can be made, before anything is sent.

    :returns: where it goes
    :raises ConfigurationError: what draws it is not installed
    :raises SourceError: it cannot be written there
    """
    try:
        from . import _report_page  # noqa: F401 - now, as an upload that is interrupted has no time for it
    except ModuleNotFoundError:
        raise ConfigurationError("--report needs plotly: pip install 'async-uploader[report]'.") from None
    return Target(path, name="The report")
