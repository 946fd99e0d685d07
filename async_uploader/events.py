"""What happens in an upload, as it happens: for pictures, traces and statistics.

``upload(..., on_event=...)`` is told of one upload, :func:`listen` of all of this process. Events are told in the
event loop, synchronously and in order; a listener must not block. What it raises ends the upload, as an error of
``on_progress`` does.

::

    UploadEvent
    ├── UploadBegan          the source was looked at, and a plan was made
    ├── ContainerReady       the video that is filled is known
    ├── PartBegan            one attempt to send a part
    ├── PartEnded            … and what it came to
    ├── RetryScheduled       something failed, and will be tried again
    ├── RateLimitWait        a request has to wait for the account's window
    ├── ConcurrencyChanged   how many parts may be in flight
    └── UploadEnded          the last one
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

__all__ = (
    "ConcurrencyChanged",
    "ContainerReady",
    "OnEvent",
    "PartBegan",
    "PartEnded",
    "RateLimitWait",
    "RetryScheduled",
    "UploadBegan",
    "UploadEnded",
    "UploadEvent",
    "listen",
)


class UploadEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened in an upload.

    :ivar upload: numbers the uploads of this process
    :ivar source: the source's name
    :ivar at_seconds: when, on the event loop's clock
    """

    upload: int = 0
    source: str = ""
    at_seconds: float = 0.0


class UploadBegan(UploadEvent, frozen=True, kw_only=True):
    """A plan was made; nothing was sent yet.

    :ivar total_bytes: the source's size; None while its end is not known
    :ivar parts_total: None likewise
    :ivar part_bytes: bytes in a part; in the first ones, if they grow
    :ivar concurrency: parts in flight at most
    :ivar adapts: how many are in flight is found out while the upload runs
    """

    total_bytes: int | None
    parts_total: int | None
    part_bytes: int
    concurrency: int
    adapts: bool


class ContainerReady(UploadEvent, frozen=True, kw_only=True):
    """The video that is filled is known: it was created, named by the caller, or begun by an earlier process.

    The plan stands now: an earlier process may have made another one, or the account's limits larger parts.

    :ivar parts_total: None while the source's end is not known
    :ivar part_bytes: bytes in a part; in the first ones, if they grow
    :ivar parts_done: parts that the service has already
    :ivar acknowledged_bytes: bytes of them
    :ivar resumable: if this process ends now, the same upload with ``resume`` goes on
    """

    video_id: str
    parts_total: int | None
    part_bytes: int
    parts_done: int
    acknowledged_bytes: int
    resumable: bool = False


class PartBegan(UploadEvent, frozen=True, kw_only=True):
    """One attempt to send a part; its turn has come.

    :ivar attempt: counts from 1
    """

    part_number: int
    size_bytes: int
    attempt: int


class PartEnded(UploadEvent, frozen=True, kw_only=True):
    """What an attempt has come to.

    :ivar began_at_seconds: when its :class:`PartBegan` was told
    :ivar connection: the local port that it went out from; None if it did not get so far
    :ivar outcome: ``"stored"``, ``"unknown"`` (it may have arrived), ``"not stored"``, ``"refused"``,
        ``"conflict"`` (somebody else writes to the video) or ``"cancelled"``
    :ivar error: why, as a sentence; None for what was accepted
    :ivar error_type: the same in a word, for counting: the status of the service's answer (``"503"``), or the name
        of the error's class
    :ivar sent_bytes: bytes of the part that have left; more than it has, if a refused token had it sent twice
    """

    part_number: int
    size_bytes: int
    attempt: int
    began_at_seconds: float
    connection: int | None
    outcome: str
    error: str | None
    error_type: str | None = None
    sent_bytes: int = 0


class RetryScheduled(UploadEvent, frozen=True, kw_only=True):
    """Something failed, and will be tried again.

    :ivar what: ``"part 12"``, or what else was asked: ``"create"``, ``"status"``, ``"video"``
    :ivar part_number: None for what is no part
    :ivar reason: the error, as a sentence
    :ivar wait_seconds: from now
    :ivar error_type: the error in a word, as in :class:`PartEnded`
    """

    what: str
    part_number: int | None
    reason: str
    wait_seconds: float
    error_type: str | None = None


class RateLimitWait(UploadEvent, frozen=True, kw_only=True):
    """A request has to wait for the account's window, or for its even share of it.

    :ivar kind: what the service counts apart: ``"upload"``, ``"write"`` or ``"read"``
    """

    kind: str
    wait_seconds: float


class ConcurrencyChanged(UploadEvent, frozen=True, kw_only=True):
    """So many parts may be in flight from now on, of all uploads that share the line. Told first as they begin."""

    connections: int


class UploadEnded(UploadEvent, frozen=True, kw_only=True):
    """The last event of an upload.

    :ivar video_id: the video; None where there is none
    :ivar error: why there is no finished video, as a sentence; None if there is one
    :ivar error_type: the same in a word, as in :class:`PartEnded`: that of the cause, where there is one
    :ivar resumable: the same upload with ``resume`` goes on, or returns the finished video (``keep_finished``)
    :ivar advice: what became of the container of an upload that failed or was cancelled, as a sentence
    """

    video_id: str | None
    error: str | None
    error_type: str | None = None
    resumable: bool = False
    advice: str = ""


OnEvent = Callable[[UploadEvent], object]

#: Who is told of every upload; changed by :func:`listen` alone.
LISTENERS: Final[list[OnEvent]] = []


@contextmanager
def listen(listener: OnEvent) -> Iterator[None]:
    """Be told of all uploads that this process begins inside the ``with`` block."""
    LISTENERS.append(listener)
    try:
        yield
    finally:
        LISTENERS.remove(listener)
