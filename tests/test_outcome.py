"""The table of outcomes, row by row."""

from __future__ import annotations

import pytest

from async_uploader import ApiError, AuthenticationError, SourceError, TransportError, UploaderError, VideoStatus
from async_uploader._outcome import Verdict, is_whole, judge, received_parts
from async_uploader._plan import plan_parts

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
    ("error", "maybe_received", "verdict"),
    [
        (None, False, Verdict.STORED),
        (None, True, Verdict.STORED),
        *[(refused(400, slug), True, Verdict.STORED) for slug in ALREADY],
        *[(refused(400, slug), False, Verdict.CONFLICT) for slug in ALREADY],
        (TransportError("cut", maybe_received=True), False, Verdict.UNKNOWN),
        (TransportError("refused", maybe_received=False), False, Verdict.NOT_STORED),
        (refused(408), False, Verdict.UNKNOWN),
        (refused(500), False, Verdict.UNKNOWN),
        (refused(503), True, Verdict.UNKNOWN),
        (refused(429), False, Verdict.NOT_STORED),
        (refused(400, "uploaded-file-too-large"), True, Verdict.REFUSED),
        (refused(413), False, Verdict.REFUSED),
        (AuthenticationError(status=401, title="No"), False, Verdict.REFUSED),
        (SourceError("gone"), False, Verdict.REFUSED),
        (UploaderError("?"), False, Verdict.REFUSED),
    ],
)
def test_verdict(error: UploaderError | None, maybe_received: bool, verdict: Verdict) -> None:
    assert judge(error, maybe_received=maybe_received) is verdict


@pytest.mark.parametrize(
    ("ingest", "whole"),
    [
        ({"status": "uploading", "filesize": None}, None),
        ({"status": "uploading", "filesize": 4}, None),
        ({"status": "uploaded", "filesize": 10}, True),
        ({"status": "ingested"}, True),
        ({"status": "uploaded", "filesize": 11}, False),
        ({"status": "merging", "filesize": 10}, True),
        ({"status": "a word of tomorrow"}, None),
        ({}, None),
    ],
)
def test_whole(ingest: dict[str, object], whole: bool | None) -> None:
    assert is_whole(VideoStatus.from_answer({"ingest": ingest}), total_bytes=10) is whole


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
def test_received(ingest: dict[str, object], ranges: str, numbers: set[int]) -> None:
    status = VideoStatus.from_answer({"ingest": ingest})
    parts = plan_parts(15 * MIB, part_bytes=5 * MIB).parts()
    assert received_parts(status, parts, ranges=ranges) == numbers
