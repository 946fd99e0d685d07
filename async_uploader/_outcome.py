"""What an attempt to send a part has come to. Pure.

Every hard case is a row here; the coordinator, the journal and the final answer know only the verdicts.

======================================================  ====================  =============
what came back                                          an earlier attempt    verdict
======================================================  ====================  =============
any 2xx                                                 (any)                 STORED
``part-already-sent``, ``range-overlap``,               may have arrived      STORED
``video-source-already-uploaded``                       did not               CONFLICT
nothing: connection lost, stalled, answer cut off       (any)                 UNKNOWN
408, 5xx: it may have been stored before that           (any)                 UNKNOWN
nothing: never connected                                (any)                 NOT_STORED
429                                                     (any)                 NOT_STORED
any other refusal, or the source failed                 (any)                 REFUSED
======================================================  ====================  =============

UNKNOWN and NOT_STORED are tried again, CONFLICT and REFUSED end the upload.

What ended an upload also decides what becomes of its container (:func:`fate`). Only the service's own verdict on
this source, or a source that is not the same any more, discards parts that are stored:

======================================================  =====================================
what ended the upload                                   fate
======================================================  =====================================
4xx ``video-source-*``, ``video-content-range-*``,      DISCARD: the service refuses this
``uploaded-file-*``                                     source
the source has changed, is gone, ended early, …         DISCARD: the parts are of no use
404 ``resource-not-found``                              GONE
someone else writes to the container                    LEAVE
any other status or slug (a proxy's 302, 413, 421, …),  KEEP: it can be resumed
no response, a source that cannot be read at the
moment, a listener's error, cancellation
======================================================  =====================================

An upload that cannot be resumed (``resume=False``, say) is discarded where this says KEEP.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from enum import Enum, auto
from typing import Final

from ._errors import ApiError, SourceError, TransportError, UploaderError, is_transient
from ._models import VideoStatus
from ._plan import Part

#: A finished container says so to everything that is sent to it.
ALREADY_WHOLE: Final = "video-source-already-uploaded"
_ALREADY: Final = frozenset(
    {
        "video-content-range-by-part-part-already-sent",
        "video-content-range-by-bytes-range-overlap",
        ALREADY_WHOLE,
    }
)
# What the service calls its problems with the source that it was sent for a container.
_ABOUT_THE_SOURCE: Final = ("video-source-", "video-content-range-", "uploaded-file-")
_NOT_FOUND: Final = "resource-not-found"
# The path leads to no file any more. Other errors of the system may pass: a network drive comes back.
_NO_FILE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP})
# Words of `ingest.status` that say that the source is whole. Others, known or not, say nothing.
_WHOLE: Final = frozenset({"uploaded", "ingested"})
# Words of a container that nothing was sent to.
_WAITING: Final = frozenset({None, "missing", "uploading"})


class Conflict(UploaderError):
    """The container holds, or may hold, what this upload did not put there: hands off."""


class Outcome(Enum):
    """The outcomes of an attempt; the module's text tells which is which."""

    STORED = auto()
    CONFLICT = auto()
    UNKNOWN = auto()
    NOT_STORED = auto()
    REFUSED = auto()


def classify(error: UploaderError | None, *, maybe_received: bool) -> Outcome:
    """The verdict on an attempt that ended in ``error``, or in a 2xx (None).

    :param maybe_received: an earlier attempt at the same part ended UNKNOWN
    """
    match error:
        case None:
            return Outcome.STORED
        case ApiError() if error.slug in _ALREADY:
            return Outcome.STORED if maybe_received else Outcome.CONFLICT
        case ApiError() if is_transient(error):
            return Outcome.NOT_STORED if error.status == 429 else Outcome.UNKNOWN
        case TransportError():
            return Outcome.UNKNOWN if error.maybe_received else Outcome.NOT_STORED
        case _:
            return Outcome.REFUSED


class Fate(Enum):
    """What becomes of the container of an upload that has ended; the module's text tells when."""

    KEEP = auto()
    DISCARD = auto()
    LEAVE = auto()
    GONE = auto()


def fate(cause: BaseException) -> Fate:
    """What becomes of the container when ``cause`` has ended its upload."""
    match cause:
        case Conflict():
            return Fate.LEAVE
        case ApiError() if is_gone(cause):
            return Fate.GONE
        case ApiError() if 400 <= cause.status < 500 and cause.slug.startswith(_ABOUT_THE_SOURCE):
            return Fate.DISCARD
        case SourceError():
            reason = cause.__cause__
            is_passing = isinstance(reason, OSError) and reason.errno not in _NO_FILE
            return Fate.KEEP if is_passing else Fate.DISCARD
        case _:
            return Fate.KEEP


def is_gone(error: UploaderError) -> bool:
    """Whether the service itself says that there is no such video; a proxy's 404 says nothing about it."""
    return isinstance(error, ApiError) and error.status == 404 and error.slug == _NOT_FOUND


def may_have_acted(error: UploaderError) -> bool:
    """Whether a request that ended in ``error`` may have done at the service what it asked for."""
    match error:
        case ApiError() | TransportError():
            return classify(error, maybe_received=False) is Outcome.UNKNOWN
        case _:  # a 2xx that cannot be understood
            return True


def is_empty(status: VideoStatus) -> bool:
    """Whether nothing has arrived in a container, and nothing is being made of it."""
    ingest = status.ingest
    has_parts = ingest.received_parts is not None and bool(ingest.received_parts.parts)
    return ingest.status in _WAITING and not (ingest.filesize or has_parts or ingest.received_bytes)


def received_parts(status: VideoStatus, parts: Iterable[Part], *, ranges: str) -> frozenset[int]:
    """The numbers of those ``parts`` that the service has, by what it lists of parts or of byte ranges."""
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


def is_whole(status: VideoStatus, *, total_bytes: int | None) -> bool | None:
    """Whether the service has the whole source: None while it cannot be told yet.

    False means that it never will be: the service has put together something of another size.

    :param total_bytes: the source's size; None while its end is not known, so that there can be no whole
    """
    ingest = status.ingest
    if total_bytes is None:
        return None
    if ingest.status in _WHOLE:
        return ingest.filesize in (None, total_bytes)
    return True if ingest.filesize == total_bytes else None
