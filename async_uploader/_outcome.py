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
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import Final

from ._errors import ApiError, TransportError, UploaderError
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
# Words of `ingest.status` that say that the source is whole. Others, known or not, say nothing.
_WHOLE: Final = frozenset({"uploaded", "ingested"})


class Verdict(Enum):
    """The outcomes of an attempt; the module's text tells which is which."""

    STORED = auto()
    CONFLICT = auto()
    UNKNOWN = auto()
    NOT_STORED = auto()
    REFUSED = auto()


def judge(error: UploaderError | None, *, maybe_received: bool) -> Verdict:
    """The verdict on an attempt that ended in ``error``, or in a 2xx (None).

    :param maybe_received: an earlier attempt at the same part ended UNKNOWN
    """
    match error:
        case None:
            return Verdict.STORED
        case ApiError() if error.slug in _ALREADY:
            return Verdict.STORED if maybe_received else Verdict.CONFLICT
        case ApiError() if error.status == 408 or error.status >= 500:
            return Verdict.UNKNOWN
        case ApiError() if error.status == 429:
            return Verdict.NOT_STORED
        case TransportError():
            return Verdict.UNKNOWN if error.maybe_received else Verdict.NOT_STORED
        case _:
            return Verdict.REFUSED


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
