"""Every row of the tables in ``_outcome``."""

from __future__ import annotations

import errno
import os

import pytest

from async_uploader import (
    ApiError,
    AuthenticationError,
    ConflictError,
    SourceError,
    TransportError,
    UploaderError,
    VideoStatus,
)
from async_uploader._outcome import (
    Fate,
    Outcome,
    classify,
    container_fate,
    is_complete,
    is_empty,
    may_have_succeeded,
    received_parts,
)
from async_uploader._plan import plan_parts
from async_uploader.emulator._problems import CATALOGUE

MIB = 1024 * 1024
DOCS = "https://docs.api.video/reference/"


def refused(status: int, slug: str = "") -> ApiError:
    return ApiError(status=status, title="No", type=DOCS + slug if slug else None)


ALREADY = (
    "video-content-range-by-part-part-already-sent",
    "video-content-range-by-bytes-range-overlap",
    "video-source-already-uploaded",
)


@pytest.mark.parametrize(
    ("error", "maybe_received", "outcome"),
    [
        (None, False, Outcome.STORED),
        (None, True, Outcome.STORED),
        *[(refused(400, slug), True, Outcome.STORED) for slug in ALREADY],
        *[(refused(400, slug), False, Outcome.CONFLICT) for slug in ALREADY],
        (TransportError("cut", maybe_received=True), False, Outcome.UNKNOWN),
        (TransportError("refused", maybe_received=False), False, Outcome.NOT_STORED),
        (refused(408), False, Outcome.UNKNOWN),
        (refused(500), False, Outcome.UNKNOWN),
        (refused(503), True, Outcome.UNKNOWN),
        (refused(429), False, Outcome.NOT_STORED),
        (refused(400, "uploaded-file-too-large"), True, Outcome.REFUSED),
        (refused(413), False, Outcome.REFUSED),
        (AuthenticationError(status=401, title="No"), False, Outcome.REFUSED),
        (SourceError("deleted"), False, Outcome.REFUSED),
        (UploaderError("?"), False, Outcome.REFUSED),
    ],
)
def test_classify(error: UploaderError | None, maybe_received: bool, outcome: Outcome) -> None:
    assert classify(error, maybe_received=maybe_received) is outcome


def unreadable(number: int) -> SourceError:
    error = SourceError("it can no longer be read")
    error.__cause__ = OSError(number, os.strerror(number))
    return error


@pytest.mark.parametrize(
    ("cause", "fate"),
    [
        *[(refused(400, slug), Fate.DISCARD) for slug in sorted(CATALOGUE) if slug.startswith("uploaded-file-")],
        *[(refused(400, slug), Fate.DISCARD) for slug in sorted(CATALOGUE) if slug.startswith("video-")],
        (refused(413, "uploaded-file-too-large"), Fate.DISCARD),
        (refused(302, "uploaded-file-too-large"), Fate.KEEP),
        (refused(503, "uploaded-file-too-large"), Fate.KEEP),
        (refused(404, "resource-not-found"), Fate.GONE),
        (refused(404, "unrecognized-request-url"), Fate.KEEP),
        (refused(400, "resource-not-found"), Fate.KEEP),
        *[(refused(status), Fate.KEEP) for status in (302, 400, 403, 404, 408, 413, 421, 429, 500, 503)],
        (refused(400, "invalid-payload"), Fate.KEEP),
        (refused(400, "a-future-problem"), Fate.KEEP),
        (refused(403, "account-suspended"), Fate.KEEP),
        (AuthenticationError(status=401, title="No"), Fate.KEEP),
        (TransportError("cut", maybe_received=True), Fate.KEEP),
        (UploaderError("?"), Fate.KEEP),
        (RuntimeError("in a callback"), Fate.KEEP),
        (ConflictError("another client"), Fate.LEAVE),
        (SourceError("changed"), Fate.DISCARD),
        (unreadable(errno.ENOENT), Fate.DISCARD),
        (unreadable(errno.EIO), Fate.KEEP),
        (unreadable(errno.ESTALE), Fate.KEEP),
    ],
)
def test_container_fate(cause: Exception, fate: Fate) -> None:
    assert container_fate(cause) is fate


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (refused(400, "invalid-attribute"), False),
        (refused(429), False),
        (refused(503), True),
        (TransportError("refused", maybe_received=False), False),
        (TransportError("cut", maybe_received=True), True),
        (UploaderError("200 with a body that is not a video"), True),
    ],
)
def test_may_have_succeeded(error: UploaderError, expected: bool) -> None:
    assert may_have_succeeded(error) is expected


@pytest.mark.parametrize(
    ("ingest", "empty"),
    [
        ({}, True),
        ({"status": None, "receivedParts": {"parts": [], "total": None}, "receivedBytes": []}, True),
        ({"status": "missing"}, True),
        ({"status": "uploading"}, True),
        ({"status": "uploading", "receivedParts": {"parts": [2], "total": None}}, False),
        ({"status": "uploading", "receivedBytes": [{"from": 0, "to": 9, "total": 10}]}, False),
        ({"status": "uploading", "filesize": 10}, False),
        ({"status": "uploaded"}, False),
        ({"status": "a future status"}, False),
    ],
)
def test_is_empty(ingest: dict[str, object], empty: bool) -> None:
    assert is_empty(VideoStatus.from_response({"ingest": ingest})) is empty


@pytest.mark.parametrize(
    ("ingest", "complete"),
    [
        ({"status": "uploading", "filesize": None}, None),
        ({"status": "uploading", "filesize": 4}, None),
        ({"status": "uploaded", "filesize": 10}, True),
        ({"status": "ingested"}, True),
        ({"status": "uploaded", "filesize": 11}, False),
        ({"status": "merging", "filesize": 10}, True),
        ({"status": "a future status"}, None),
        ({}, None),
    ],
)
def test_is_complete(ingest: dict[str, object], complete: bool | None) -> None:
    assert is_complete(VideoStatus.from_response({"ingest": ingest}), total_bytes=10) is complete


@pytest.mark.parametrize(
    ("ingest", "ranges", "numbers"),
    [
        ({"receivedParts": {"parts": [1, 3], "total": None}}, "part", {1, 3}),
        ({"receivedParts": {"parts": [1, 3, 99], "total": None}}, "part", {1, 3}),
        ({"receivedBytes": [{"from": 0, "to": 10 * MIB - 1, "total": 15 * MIB}]}, "bytes", {1, 2}),
        ({"receivedBytes": [{"from": 0, "to": 10 * MIB - 2, "total": 15 * MIB}]}, "bytes", {1}),
        ({"receivedBytes": [{"from": "x"}]}, "bytes", set()),
        ({}, "part", set()),
        ({}, "bytes", set()),
    ],
)
def test_received_parts(ingest: dict[str, object], ranges: str, numbers: set[int]) -> None:
    status = VideoStatus.from_response({"ingest": ingest})
    parts = plan_parts(15 * MIB, part_bytes=5 * MIB).parts()
    assert received_parts(status, parts, ranges=ranges) == numbers
