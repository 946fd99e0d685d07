"""Events of uploads, for displays, traces and statistics.

``upload(..., on_event=...)`` reports the events of one upload, :func:`listen` those of all uploads of this
process. Listeners are called in the event loop, in chronological order, and must not block. An exception that a
listener raises ends the upload, as one of ``on_progress`` does.

::

    UploadEvent
    ├── UploadBegan          the plan is made; nothing was sent yet
    ├── ContainerReady       the container is known
    ├── PartBegan            one attempt to send a part
    ├── PartEnded            the outcome of that attempt
    ├── RetryScheduled       a request failed and will be retried
    ├── RateLimitWait        a request waits for the account's rate limit
    ├── ConcurrencyChanged   the maximum number of parts in flight
    ├── UploadMeasured       what bounded the upload; only if a listener asks for it
    └── UploadEnded          the last event

All enumerations are enumerations of strings: ``event.outcome == "stored"`` is the same as
``event.outcome is PartOutcome.STORED``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

import msgspec

from ._errors import error_type

__all__ = (
    "Bound",
    "ConcurrencyChanged",
    "ContainerReady",
    "ContainerState",
    "OnEvent",
    "Operation",
    "PartBegan",
    "PartEnded",
    "PartOutcome",
    "RateLimitWait",
    "RequestKind",
    "RetryScheduled",
    "UploadBegan",
    "UploadEnded",
    "UploadEvent",
    "UploadMeasured",
    "UploadOutcome",
    "listen",
)


class RequestKind(StrEnum):
    """Kinds of requests that the service counts separately for its rate limits. ``AUTH`` has no limit."""

    UPLOAD = "upload"
    WRITE = "write"
    READ = "read"
    AUTH = "auth"


class Operation(StrEnum):
    """What a request does.

    An upload uses ``PART``, ``CREATE`` (a container), ``FIND`` (a container of an earlier run), ``STATUS``,
    ``VIDEO`` (read the video), ``UPDATE`` (remove the metadata for resuming, or record the checksum), ``DELETE``,
    and ``SIDECAR`` (add captions, chapters or a thumbnail, or list them).
    """

    PART = "part"
    CREATE = "create"
    FIND = "find"
    STATUS = "status"
    VIDEO = "video"
    DELETE = "delete"
    IMPORT = "import"
    UPDATE = "update"
    VIDEOS = "videos"
    TOKEN = "token"  # noqa: S105 - not a secret
    TOKENS = "tokens"
    SIDECAR = "sidecar"
    #: Opens a remote source.
    SOURCE = "source"


class PartOutcome(StrEnum):
    """The outcome of one attempt to send a part."""

    #: The service has the part.
    STORED = "stored"
    #: The service may have the part: the response was lost, or its status was 5xx. The part is retried.
    UNKNOWN = "unknown"
    #: The service does not have the part. The part is retried.
    NOT_STORED = "not stored"
    #: The service refused the part, or the source failed.
    REFUSED = "refused"
    #: The service already had this part, although this upload had not sent it.
    CONFLICT = "conflict"
    #: The upload was cancelled, or another part failed.
    CANCELLED = "cancelled"


class UploadOutcome(StrEnum):
    """The outcome of an upload."""

    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Bound(StrEnum):
    """What bounds an upload: what its connections, or its next part, wait for."""

    #: The account's rate limit.
    RATE_LIMIT = "rate limit"
    #: The option ``limit_rate``.
    BANDWIDTH_LIMIT = "bandwidth limit"
    #: The caller paused the upload.
    PAUSE = "pause"
    #: Bytes of the source: a disk, a stream or an object store.
    SOURCE = "source"
    #: A processor for the event loop, which also encrypts.
    CPU = "CPU"
    #: The network as a whole: more connections were not faster.
    LINK = "link"
    #: The throughput of each connection: more connections were faster, up to the largest possible number.
    CONNECTIONS = "connections"
    #: The network. Whether more connections would be faster was not measured, or it is not clear.
    NETWORK = "network"
    #: The service: new connections, and responses to requests that it has received.
    SERVICE = "service"
    #: Waits before retries of failed requests.
    BACKOFF = "backoff"
    #: Other uploads that use the same upload slots.
    OTHER_UPLOADS = "other uploads"


class ContainerState(StrEnum):
    """What happened to the container of an upload that failed or was cancelled."""

    #: The upload can be resumed.
    KEPT = "kept"
    DELETED = "deleted"
    #: It could not be deleted. The service deletes it after 7 days.
    NOT_DELETED = "not deleted"
    #: The caller named it, another program writes to it, or an upload token created it.
    UNCHANGED = "unchanged"
    #: It no longer exists.
    MISSING = "missing"


class UploadEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Base class of all events.

    :ivar upload: number of the upload in this process, from 1
    :ivar source: display name of the source
    :ivar at_seconds: time of the event in seconds, by the clock of the event loop (``loop.time()``)
    """

    upload: int = 0
    source: str = ""
    at_seconds: float = 0.0


class UploadBegan(UploadEvent, frozen=True, kw_only=True):
    """The plan is made; nothing was sent yet.

    :ivar total_bytes: size of the source in bytes; None if it is not known yet
    :ivar parts_total: number of parts; None if it is not known yet
    :ivar part_bytes: size of a part in bytes; of the first parts, if parts grow
    :ivar concurrency: maximum number of parts in flight
    :ivar adapts: whether the concurrency adapts to the network, up to that maximum
    """

    total_bytes: int | None
    parts_total: int | None
    part_bytes: int
    concurrency: int
    adapts: bool


class ContainerReady(UploadEvent, frozen=True, kw_only=True):
    """The container is known: it was created, named by the caller, or found for a resumed upload.

    The plan is final now. It can differ from that of :class:`UploadBegan`: a resumed upload keeps its part size,
    and the rate limit of the account may require larger parts.

    :ivar video_id: the container
    :ivar parts_total: number of parts; None if it is not known yet
    :ivar part_bytes: size of a part in bytes; of the first parts, if parts grow
    :ivar parts_done: number of parts that the service already has
    :ivar acknowledged_bytes: size of these parts in bytes
    :ivar resumable: whether the upload can be resumed if this process ends now
    """

    video_id: str
    parts_total: int | None
    part_bytes: int
    parts_done: int
    acknowledged_bytes: int
    resumable: bool = False


class PartBegan(UploadEvent, frozen=True, kw_only=True):
    """An attempt to send a part begins, after all waits.

    :ivar part_number: number of the part, from 1
    :ivar size_bytes: size of the part in bytes
    :ivar attempt: number of the attempt, from 1
    """

    part_number: int
    size_bytes: int
    attempt: int


class PartEnded(UploadEvent, frozen=True, kw_only=True):
    """An attempt to send a part has ended.

    :ivar part_number: number of the part, from 1
    :ivar size_bytes: size of the part in bytes
    :ivar attempt: number of the attempt, from 1
    :ivar began_at_seconds: ``at_seconds`` of its :class:`PartBegan`
    :ivar connection: local port of the connection; None if there was none
    :ivar outcome: the outcome
    :ivar error: why the part was not accepted; None if it was, or if the attempt was cancelled
    :ivar sent_bytes: bytes of the part that were sent; more than its size if an expired token required a second
        request
    """

    part_number: int
    size_bytes: int
    attempt: int
    began_at_seconds: float
    connection: int | None
    outcome: PartOutcome
    error: Exception | None
    sent_bytes: int = 0

    @property
    def error_type(self) -> str | None:
        """The error as one word: the status of a response (``"503"``), or the name of the error's class."""
        return None if self.error is None else error_type(self.error)


class RetryScheduled(UploadEvent, frozen=True, kw_only=True):
    """A request failed and will be retried.

    :ivar operation: what the request does
    :ivar part_number: number of the part, for :attr:`Operation.PART`; else None
    :ivar error: why it failed
    :ivar wait_seconds: seconds until the retry
    """

    operation: Operation
    part_number: int | None
    error: Exception
    wait_seconds: float

    @property
    def request(self) -> str:
        """Name of the request for a message, such as ``"part 12"`` or ``"create"``."""
        return str(self.operation) if self.part_number is None else f"{self.operation} {self.part_number}"

    @property
    def error_type(self) -> str:
        """The error as one word, as in :class:`PartEnded`."""
        return error_type(self.error)


class RateLimitWait(UploadEvent, frozen=True, kw_only=True):
    """A request waits for the account's rate limit, or because requests are spread evenly over the window.

    :ivar kind: the limit that it waits for
    :ivar wait_seconds: expected wait in seconds
    """

    kind: RequestKind
    wait_seconds: float


class ConcurrencyChanged(UploadEvent, frozen=True, kw_only=True):
    """The maximum number of parts in flight has changed. Also reported once when an upload begins.

    :ivar concurrency: the new maximum, for all uploads together that share it
    """

    concurrency: int


class UploadMeasured(UploadEvent, frozen=True, kw_only=True):
    """What bounded the upload, by samples of what its connections waited for; before :class:`UploadEnded`.

    Only reported if a listener was registered with ``listen(..., measure=True)``. Otherwise nothing is measured.

    :ivar seconds: duration of the measurement
    :ivar shares: share of this time by bound, the largest first; together 1
    :ivar receive_window_share: share of the time with data in flight in which the receiver's window was full, and
        so the receiver was slow, not the network; None if unknown
    """

    seconds: float
    shares: Mapping[Bound, float]
    receive_window_share: float | None = None


class UploadEnded(UploadEvent, frozen=True, kw_only=True):
    """The last event of an upload.

    :ivar video_id: the video or its container; None if there is none
    :ivar outcome: the outcome
    :ivar error: why the upload failed; None if it finished or was cancelled
    :ivar resumable: whether the upload can be resumed; if it finished, whether uploading the same source again
        returns this video (``keep_finished``)
    :ivar container: what happened to the container; None if the upload finished, or if there was no container
    :ivar advice: a sentence about the container, as in ``UploadFailed.advice``; may be empty
    """

    video_id: str | None
    outcome: UploadOutcome
    error: Exception | None
    resumable: bool = False
    container: ContainerState | None = None
    advice: str = ""

    @property
    def error_type(self) -> str | None:
        """The error as one word, as in :class:`PartEnded`; of an ``UploadFailed``, that of its cause."""
        return None if self.error is None else error_type(self.error)


#: A listener: a plain callable.
OnEvent = Callable[[UploadEvent], object]

#: The listeners of all uploads. Only :func:`listen` changes it.
LISTENERS: Final[list[OnEvent]] = []


#: Those for which uploads are measured.
MEASURING: Final[list[OnEvent]] = []


@contextmanager
def listen(listener: OnEvent, *, measure: bool = False) -> Iterator[None]:
    """Report the events of all uploads that start in this process inside the ``with`` block.

    :param listener: called with each event
    :param measure: also measure what bounds each upload, and report it as :class:`UploadMeasured` (default: False)
    """
    lists = (LISTENERS, MEASURING) if measure else (LISTENERS,)
    for listeners in lists:
        listeners.append(listener)
    try:
        yield
    finally:
        for listeners in lists:
            listeners.remove(listener)
