"""What the parts of one ``upload`` command share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from async_uploader import Client
from async_uploader._catalogue.item import Item
from async_uploader._catalogue.results import ResultsFile

from ._display import Display
from ._interrupt_advice import InterruptAdvice
from ._listing import Sources
from ._sources import StandardInput
from ._upload_flags import UploadFlags

if TYPE_CHECKING:
    from async_uploader.emulator import Emulator
    from async_uploader.fleet import Fleet


def is_single_source(sources: Sources, flags: UploadFlags) -> bool:
    """Whether the command names one source: its failure is the command's, and its JSON is not an array."""
    return len(sources.known) == 1 and not (flags.manifest or flags.selects_files)


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadContext:
    """The sources and services of one ``upload`` command.

    :param stdin: standard input, if it is the source
    :param emulator: the emulator of ``--local``
    :param results: the file of ``--results``
    :param fleet: runs the uploads; None: this process does
    """

    flags: UploadFlags
    sources: Sources
    client: Client
    display: Display
    interrupt_advice: InterruptAdvice
    stdin: StandardInput | None = None
    emulator: Emulator | None = None
    results: ResultsFile | None = None
    fleet: Fleet | None = None

    @property
    def is_single(self) -> bool:
        """See :func:`is_single_source`."""
        return is_single_source(self.sources, self.flags)

    def has_key(self, item: Item) -> bool:
        """Whether a source has an idempotency key, so that the same command finds its video."""
        return item.details.get("idempotency_key", self.flags.idempotency_key) is not None

    @property
    def keeps_finished(self) -> bool:
        """Whether the journal keeps finished uploads until they are printed. A results file replaces that."""
        return self.flags.resume is not False and not self.flags.local and self.results is None
