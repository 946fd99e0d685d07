"""The messages between coordinator and workers. They contain no credentials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from msgspec import Struct

from async_uploader import Progress, UploaderError
from async_uploader.events import UploadEvent

#: The topic of Dask to which workers send their reports. The scheduler keeps the last 1,000 of them.
TOPIC: Final = "async_uploader"

#: The video as the service returned it, or the error.
Outcome: TypeAlias = Mapping[str, Any] | UploaderError


class ClientOptions(Struct, frozen=True, kw_only=True):
    """Keyword arguments of a worker's client.

    :param limit_rate: bytes per second of each worker process
    :param concurrency: parts in flight in each worker process; None: adaptive
    """

    base_url: str
    allow_plain_http: bool
    limit_rate: float | None
    concurrency: int | None


class UploadTask(Struct, frozen=True, kw_only=True):
    """An upload or an import.

    :param fleet: identifies the coordinator
    :param number: identifies the item in the fleet
    :param is_import: the service downloads the source itself
    :param client: the options of the client to use
    :param is_remote: the worker may be on another machine: it asks the scheduler for permits, and errors name it
    :param has_listeners: whether events or progress are observed
    """

    fleet: str
    number: int
    source: str
    options: Mapping[str, Any]
    is_import: bool
    client: ClientOptions
    is_remote: bool
    has_listeners: bool

    def __repr__(self) -> str:
        # Dask logs the arguments of tasks that fail. The query of a URL may be a signature.
        return f"UploadTask(number={self.number})"

    @property
    def key(self) -> tuple[str, int]:
        """Dask's key of the task. Dashboards and logs show it, so it names no source."""
        return f"upload-{self.fleet}", self.number


class ItemReport(Struct, kw_only=True):
    """What has happened to an item since the last report.

    :param number: see :class:`UploadTask`
    :param events: the events, oldest first
    :param progress: the latest progress; None if it has not changed
    :param outcome: the outcome, in the last report of the item
    """

    number: int
    events: Sequence[UploadEvent] = ()
    progress: Progress | None = None
    outcome: Outcome | None = None


class WorkerReport(Struct, kw_only=True):
    """The report of a worker to one fleet.

    :param worker: address of the worker
    :param at_seconds: when it was made, by the clock of the worker's event loop
    :param uploads: number of items of this fleet that the worker is uploading
    :param parts_in_flight: number of their parts in flight
    :param delivered_bytes: bytes that the worker has delivered for this fleet
    :param items: the news of each item
    """

    worker: str
    at_seconds: float
    uploads: int
    parts_in_flight: int
    delivered_bytes: int
    items: list[ItemReport]
