"""Every rule of the contract's "Sending the bytes", as data: received parts, a request, and the problem."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_uploader._limits import MAX_PART_BYTES, MAX_PARTS, MAX_VIDEO_BYTES, MIN_PART_BYTES
from async_uploader.emulator._problems import CATALOGUE, Problem
from async_uploader.emulator._rules import (
    ByteRange,
    PartRange,
    ReceivedPart,
    Upload,
    WholeFile,
    check_body_length,
    check_content_range,
    check_size,
    is_last,
    parse_content_range,
)

P = MIN_PART_BYTES


def upload_of(*headers: str | None, size: int = P) -> Upload:
    """An upload that has received these parts."""
    upload = Upload()
    for header in headers:
        requested = parse_content_range(header)
        part = ReceivedPart(requested, requested.length if isinstance(requested, ByteRange) else size)
        upload.reserve(part)
        upload.mark_stored(part)
    return upload


def refusal(upload: Upload, header: str | None, size: int | None = None) -> str | None:
    """The slug of the problem with this request; None if it is accepted."""
    try:
        requested = parse_content_range(header)
        check_content_range(upload, requested)
        if size is not None:
            check_size(upload, requested, size)
    except Problem as problem:
        return problem.slug
    return None


PART = "video-content-range-by-part-"
BYTES = "video-content-range-by-bytes-"
MALFORMED = "video-content-range-malformed"


@pytest.mark.parametrize(
    "header",
    [
        "", "part", "part 1", "part 1/", "part /1", "part a/b", "part 1/2/3", "part -1/2", "part 1.0/2",
        "Part 1/2", "part  1/2", "part 1/2 ", "part ١/٢", "part */2", "part " + "1" * 30 + "/*", "bytes 0-1",
        "bytes 1/2", "bytes 0-/2", "bytes -1/2", "bytes */2", "bytes 0-1/2;", "bytes=0-1/2", "items 0-1/2",
    ],
)  # fmt: skip
def test_malformed_header(header: str) -> None:
    """A header that does not exactly match one of the two forms is malformed."""
    assert refusal(Upload(), header) == MALFORMED


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, WholeFile()),
        ("part 1/*", PartRange(1, None)),
        ("part 007/12", PartRange(7, 12)),
        ("bytes 0-4/5", ByteRange(0, 4, 5)),
        ("bytes 0-4/*", ByteRange(0, 4, None)),
    ],
)
def test_well_formed_header(header: str | None, expected: object) -> None:
    """The forms of the contract are parsed."""
    assert parse_content_range(header) == expected


@pytest.mark.parametrize(
    ("received", "header", "size", "slug"),
    [
        # whole
        ([], None, 1, None),
        ([], None, MAX_PART_BYTES, None),
        ([], None, MAX_PART_BYTES + 1, "uploaded-file-too-large"),
        ([], None, 0, "uploaded-file-empty"),
        ([None], None, 1, "video-source-already-uploaded"),
        ([None], "part 1/1", 1, "video-source-already-uploaded"),
        # the three ways do not mix
        (["part 1/*"], None, 1, "video-content-range-already-initiated"),
        (["bytes 0-9/*"], None, 1, "video-content-range-already-initiated"),
        (["part 1/*"], "bytes 0-9/10", 10, "video-content-range-started-with-part"),
        (["bytes 0-9/*"], "part 1/1", 1, "video-content-range-started-with-bytes"),
        # part numbers
        ([], "part 0/*", P, PART + "part-zero"),
        ([], "part 0/3", P, PART + "part-zero"),
        ([], f"part {MAX_PARTS}/*", P, None),
        ([], f"part {MAX_PARTS + 1}/*", P, PART + "part-too-high-allowed"),
        ([], "part 4/3", P, PART + "part-too-high-total"),
        (["part 3/3"], "part 4/*", P, PART + "part-too-high-total"),
        (["part 1/*"], "part 1/*", P, PART + "part-already-sent"),
        (["part 3/3"], "part 3/3", P, PART + "part-already-sent"),
        (["part 2/3"], "part 2/*", P, PART + "part-already-sent"),
        # number of parts
        ([], "part 1/0", P, PART + "total-parts-zero"),
        ([], f"part 1/{MAX_PARTS}", P, None),
        ([], f"part 1/{MAX_PARTS + 1}", P, PART + "total-parts-too-high"),
        (["part 3/*"], "part 2/3", P, PART + "total-parts-too-low"),
        (["part 3/*"], "part 2/2", P, PART + "total-parts-too-low"),
        (["part 3/*"], "part 3/3", P, PART + "total-parts-too-low"),
        (["part 3/*"], "part 4/4", P, None),
        (["part 1/3"], "part 2/4", P, PART + "different-total-parts"),
        (["part 1/3"], "part 2/*", P, None),
        # size of parts
        ([], "part 1/*", P - 1, PART + "uploaded-file-too-small"),
        ([], "part 1/2", P - 1, PART + "uploaded-file-too-small"),
        ([], "part 2/2", 1, None),
        ([], "part 1/1", 1, None),
        (["part 1/3"], "part 3/*", 1, None),
        ([], "part 1/*", MAX_PART_BYTES + 1, "uploaded-file-too-large"),
        ([], "part 2/2", 0, "uploaded-file-empty"),
        # complete
        (["part 2/2", "part 1/*"], "part 1/*", P, "video-source-already-uploaded"),
        (["part 1/*", "part 2/2"], "part 3/*", P, "video-source-already-uploaded"),
        (["bytes 0-9/10"], "bytes 0-9/10", 10, "video-source-already-uploaded"),
        # byte positions
        ([], "bytes 9-8/10", None, BYTES + "from-byte-too-high"),
        ([], "bytes 0-10/10", None, BYTES + "to-byte-too-high-total"),
        ([f"bytes 0-{P - 1}/{2 * P}"], f"bytes {P}-{2 * P}/*", None, BYTES + "to-byte-too-high-total"),
        ([], f"bytes {MAX_VIDEO_BYTES - P}-{MAX_VIDEO_BYTES}/*", None, BYTES + "to-byte-too-high-allowed"),
        ([], f"bytes {MAX_VIDEO_BYTES - P}-{MAX_VIDEO_BYTES - 1}/{MAX_VIDEO_BYTES}", P, None),
        # size of ranges
        ([], f"bytes 0-{P - 2}/{2 * P}", None, BYTES + "range-too-small"),
        ([], f"bytes 0-{P - 2}/*", None, BYTES + "range-too-small"),
        ([], f"bytes 0-{P - 1}/*", P, None),
        ([], f"bytes {P}-{P}/{P + 1}", 1, None),
        ([f"bytes 0-{P - 1}/{P + 1}"], f"bytes {P}-{P}/*", 1, None),
        ([], f"bytes 0-{MAX_PART_BYTES}/*", None, BYTES + "range-too-large"),
        ([], f"bytes 0-{MAX_PART_BYTES - 1}/*", MAX_PART_BYTES, None),
        ([], "bytes 0-9/10", 9, BYTES + "range-mismatch"),
        ([], "bytes 0-9/10", 11, BYTES + "range-mismatch"),
        # overlaps
        ([f"bytes 0-{P - 1}/*"], f"bytes 0-{P - 1}/*", None, BYTES + "range-overlap"),
        ([f"bytes 0-{P - 1}/*"], f"bytes {P - 1}-{2 * P}/*", None, BYTES + "range-overlap"),
        ([f"bytes {P}-{2 * P}/*"], f"bytes 0-{P}/*", None, BYTES + "range-overlap"),
        ([f"bytes {P}-{2 * P}/*"], f"bytes 0-{3 * P}/*", None, BYTES + "range-overlap"),
        ([f"bytes {P}-{2 * P - 1}/*"], f"bytes 0-{P - 1}/*", P, None),
        # number of bytes
        ([], "bytes 0-0/0", None, BYTES + "total-bytes-zero"),
        ([], f"bytes 0-{P}/{MAX_VIDEO_BYTES + 1}", None, BYTES + "total-bytes-too-high"),
        ([f"bytes 0-{P - 1}/*"], f"bytes {P}-{P}/{P}", None, BYTES + "total-bytes-too-low"),
        ([f"bytes 0-{P - 1}/{2 * P}"], f"bytes {P}-{P}/{P + 1}", None, BYTES + "different-total-bytes"),
    ],
)
def test_rules(received: list[str | None], header: str | None, size: int | None, slug: str | None) -> None:
    """Each rule refuses exactly the requests that it must, with its slug."""
    assert refusal(upload_of(*received), header, size) == slug


def test_maximum_video_size() -> None:
    """A part is refused if the video would become too large."""
    upload = upload_of("part 1/*", size=MAX_VIDEO_BYTES - P)
    assert refusal(upload, "part 2/*", P) is None
    assert refusal(upload, "part 2/*", P + 1) == "uploaded-file-too-large"


@pytest.mark.parametrize(
    ("header", "length", "slug"),
    [
        ("part 1/*", P - 1, PART + "uploaded-file-too-small"),
        ("part 1/*", P + 300, None),
        ("part 2/2", 300, None),
        (None, MAX_PART_BYTES + 100_000, "uploaded-file-too-large"),
        (None, MAX_PART_BYTES + 300, None),
        (f"bytes 0-{P - 1}/*", P + 300, None),
        (f"bytes 0-{P - 1}/*", P - 1, BYTES + "range-mismatch"),
        (f"bytes 0-{P - 1}/*", P + 100_000, BYTES + "range-mismatch"),
    ],
)
def test_content_length(header: str | None, length: int, slug: str | None) -> None:
    """A body is refused by its Content-Length only if no file in it can be accepted."""
    slug_found = None
    try:
        check_body_length(Upload(), parse_content_range(header), length, framing=64 * 1024)
    except Problem as problem:
        slug_found = problem.slug
    assert slug_found == slug


@pytest.mark.parametrize("header", [None, "part 1/1", "part 2/2", "bytes 5-9/10"])
def test_is_last(header: str | None) -> None:
    """The header states that the part ends the file."""
    assert is_last(parse_content_range(header))


@pytest.mark.parametrize("header", ["part 1/*", "part 1/2", "bytes 0-4/10", "bytes 0-4/*"])
def test_is_not_last(header: str) -> None:
    """The header does not state that the part ends the file."""
    assert not is_last(parse_content_range(header))


def test_release() -> None:
    """A released part can be sent again, with its total."""
    upload = upload_of("part 1/*")
    part = ReceivedPart(PartRange(2, 2), 1)
    upload.reserve(part)
    assert refusal(upload, "part 2/2") == PART + "part-already-sent"
    upload.release(part)
    assert upload.total is None
    assert refusal(upload, "part 2/2") is None


@given(st.integers(1, 60).flatmap(lambda total: st.tuples(st.just(total), st.permutations(range(1, total + 1)))))
def test_parts_complete_in_any_order(drawn: tuple[int, list[int]]) -> None:
    """In any order, exactly the last part completes the upload, and parts are joined in the order of the file."""
    total, order = drawn
    upload = Upload()
    joined = []
    for count, number in enumerate(order, start=1):
        requested = PartRange(number, total if number == total else None)
        check_content_range(upload, requested)
        part = ReceivedPart(requested, P)
        upload.reserve(part)
        upload.mark_stored(part)
        assert upload.is_complete == (count == total)
        while following := upload.next_to_join():
            upload.mark_joined(following)
            joined.append(following.range.key)
    assert joined == list(range(1, total + 1))
    assert [part.range.key for part in upload.stored_parts()] == joined


def test_every_slug_has_a_status_of_its_kind() -> None:
    """Authentication errors are 401, except for user credentials; source and header errors are 400."""
    for slug, (status, title) in CATALOGUE.items():
        assert title.endswith(".")
        if slug.startswith(("video-", "uploaded-")):
            assert status == 400
        if slug.startswith("authentication-"):
            assert status == (400 if slug.endswith("user-credentials") else 401)
