"""The meaning of errors and statuses: for a part, for its container, and for the stored parts. Pure.

Workers, the journal and the final error depend on outcomes, not on status codes.

**Outcome of an attempt to send a part** (:func:`classify`):

====================================================  ==================================  ==========
result of the attempt                                 did an earlier one end UNKNOWN?     outcome
====================================================  ==================================  ==========
any 2xx                                               (any)                               STORED
``part-already-sent``, ``range-overlap``,             yes                                 STORED
``video-source-already-uploaded``                     no                                  CONFLICT
408 or 5xx: the part may have been stored before      (any)                               UNKNOWN
connection lost, stalled, response incomplete         (any)                               UNKNOWN
no connection                                         (any)                               NOT_STORED
429                                                   (any)                               NOT_STORED
a remote source failed for a moment                   (any)                               NOT_STORED
any other response, or the source failed              (any)                               REFUSED
====================================================  ==================================  ==========

UNKNOWN and NOT_STORED are retried. CONFLICT and REFUSED end the upload.

**Fate of the container when an upload fails** (:func:`container_fate`). Stored parts are discarded only if the
service refuses this source, or the source has changed:

====================================================  ===============================================
cause                                                 fate
====================================================  ===============================================
4xx ``video-source-*``, ``video-content-range-*``     DISCARD: the service refuses this source
or ``uploaded-file-*``
the source has changed, is deleted, ended early, …    DISCARD: the parts are useless
404 ``resource-not-found``                            GONE
another client writes to the container                LEAVE
any other status or problem (302, 413 or 421 of a     KEEP: the upload can be resumed
proxy, …), no response, a source that is temporarily
unreadable, an error in a callback, cancellation
====================================================  ===============================================

If the upload cannot be resumed (``resume="off"``, for example), KEEP means DISCARD.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from enum import Enum, auto
from typing import Final

from ._errors import (
    ApiError,
    ConflictError,
    SourceError,
    SourceUnavailable,
    TransportError,
    UploaderError,
    is_transient,
)
from ._models import VideoStatus
from ._plan import Part

#: The problem with which a finished container refuses every part.
ALREADY_COMPLETE: Final = "video-source-already-uploaded"
_ALREADY_STORED: Final = frozenset(
    {
        "video-content-range-by-part-part-already-sent",
        "video-content-range-by-bytes-range-overlap",
        ALREADY_COMPLETE,
    }
)
# Problems with the source itself.
_SOURCE_PROBLEMS: Final = ("video-source-", "video-content-range-", "uploaded-file-")
_NOT_FOUND: Final = "resource-not-found"
# The file no longer exists. Other errors can be temporary, on a network drive for example.
_NO_FILE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP})
# Values of `ingest.status` for a complete source. Unknown values are ignored.
_COMPLETE: Final = frozenset({"uploaded", "ingested"})
# Values of `ingest.status` before the source is complete.
_INCOMPLETE: Final = frozenset({None, "missing", "uploading"})


class Outcome(Enum):
    """The outcome of an attempt to send a part; see the module's first table."""

    STORED = auto()
    CONFLICT = auto()
    UNKNOWN = auto()
    NOT_STORED = auto()
    REFUSED = auto()


def classify(error: UploaderError | None, *, maybe_received: bool) -> Outcome:
    """The outcome of an attempt to send a part.

    :param error: the error of the attempt; None after a 2xx
    :param maybe_received: an earlier attempt to send the same part ended UNKNOWN
    """
    match error:
        case None:
            return Outcome.STORED
        case ApiError() if error.slug in _ALREADY_STORED:
            return Outcome.STORED if maybe_received else Outcome.CONFLICT
        case ApiError() if is_transient(error):
            return Outcome.NOT_STORED if error.status == 429 else Outcome.UNKNOWN
        case TransportError():
            return Outcome.UNKNOWN if error.maybe_received else Outcome.NOT_STORED
        case SourceUnavailable():
            return Outcome.NOT_STORED  # the body was not complete
        case _:
            return Outcome.REFUSED


class Fate(Enum):
    """What happens to the container of a failed upload; see the module's second table."""

    KEEP = auto()
    DISCARD = auto()
    LEAVE = auto()
    GONE = auto()


def container_fate(cause: BaseException) -> Fate:
    """What happens to the container when ``cause`` has ended its upload."""
    match cause:
        case ConflictError():
            return Fate.LEAVE
        case ApiError() if is_not_found(cause):
            return Fate.GONE
        case ApiError() if 400 <= cause.status < 500 and cause.slug.startswith(_SOURCE_PROBLEMS):
            return Fate.DISCARD
        case SourceUnavailable():
            return Fate.KEEP
        case SourceError():
            reason = cause.__cause__
            is_temporary = isinstance(reason, OSError) and reason.errno not in _NO_FILE
            return Fate.KEEP if is_temporary else Fate.DISCARD
        case _:
            return Fate.KEEP


def is_not_found(error: UploaderError) -> bool:
    """Whether the service says that the video does not exist. A proxy's 404 does not count."""
    return isinstance(error, ApiError) and error.status == 404 and error.slug == _NOT_FOUND


def may_have_succeeded(error: UploaderError) -> bool:
    """Whether the service may have executed the request that failed with ``error``."""
    match error:
        case ApiError() | TransportError():
            return classify(error, maybe_received=False) is Outcome.UNKNOWN
        case _:  # a 2xx whose body cannot be read
            return True


def is_empty(status: VideoStatus) -> bool:
    """Whether a container has no parts and is not being processed."""
    ingest = status.ingest
    has_parts = ingest.received_parts is not None and bool(ingest.received_parts.parts)
    return ingest.status in _INCOMPLETE and not (ingest.filesize or has_parts or ingest.received_bytes)


def is_closed(status: VideoStatus) -> bool:
    """Whether the service has a complete source in a container, of whatever size."""
    return status.ingest.status in _COMPLETE


def received_parts(status: VideoStatus, parts: Iterable[Part], *, ranges: str) -> frozenset[int]:
    """The numbers of those ``parts`` that the service lists as received.

    :param ranges: ``"part"`` or ``"bytes"``, the kind of ranges with which the parts were sent
    """
    if ranges == "part":
        listed = status.ingest.received_parts
        numbers = frozenset(listed.parts if listed else ())
        return frozenset(part.number for part in parts if part.number in numbers)
    spans = [(span.first, span.last) for span in status.ingest.received_bytes]
    return frozenset(
        part.number
        for part in parts
        if any(first <= part.offset and part.end - 1 <= last for first, last in spans)
    )


def is_complete(status: VideoStatus, *, total_bytes: int | None) -> bool | None:
    """Whether the service has the complete source.

    :param total_bytes: the size of the source; None while it is unknown, because its stream has not ended
    :returns: True, None while this is undecided, or False if the service has completed a source of another size
    """
    ingest = status.ingest
    if total_bytes is None:
        return None
    if ingest.status in _COMPLETE:
        return ingest.filesize in (None, total_bytes)
    return True if ingest.filesize == total_bytes else None
