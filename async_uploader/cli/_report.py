"""``--report``: collects what uploads tell, and makes a page of it. It knows nothing but events."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

import anyio.to_thread

from async_uploader import events
from async_uploader._errors import ConfigurationError, SourceError

from ._output import say, say_error

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

    def write(self, path: Path) -> None:
        """Make the page; it is there as a whole, or as it was before.

        :raises OSError: it cannot be written
        """
        from ._report_page import page

        text = page(list(self.stories.values()), left_out=len(self.left_out))
        with NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
        ) as file:
            try:
                file.write(text)
                file.close()
                os.chmod(file.name, 0o666 & ~_umask())
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise


@asynccontextmanager
async def reporting(path: Path, *, quiet: bool) -> AsyncIterator[None]:
    """Write a report in the end, whatever that is: done, failed or interrupted.

    :param quiet: do not say where it is
    :raises ConfigurationError: what draws it is not installed
    :raises SourceError: it cannot be written there
    """
    await anyio.to_thread.run_sync(check, path)
    report = Report()
    try:
        with events.listen(report):
            yield
    finally:
        if report.stories:
            with anyio.CancelScope(shield=True):
                await _write(report, path, quiet=quiet)


async def _write(report: Report, path: Path, *, quiet: bool) -> None:
    """The uploads are what counts: that there is no report is said, and is no failure."""
    try:
        await anyio.to_thread.run_sync(report.write, path)
    except OSError as exc:
        say_error(OSError(f"The report {path} could not be written: {exc.strerror}."))
    else:
        if not quiet:
            say(f"The report is in {path}.")


def check(path: Path) -> None:
    """See that a report can be made, before anything is sent.

    :raises ConfigurationError: what draws it is not installed
    :raises SourceError: it cannot be written there
    """
    try:
        from . import _report_page  # noqa: F401 - now, as an upload that is interrupted has no time for it
    except ModuleNotFoundError:
        raise ConfigurationError("--report needs plotly: pip install 'async-uploader[report]'.") from None
    if path.is_dir():
        raise SourceError(f"The report {path} cannot be written: it is a directory.")
    if not path.parent.is_dir():
        raise SourceError(f"The report {path} cannot be written: there is no directory {path.parent}.")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise SourceError(f"The report {path} cannot be written: permission denied.")


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
