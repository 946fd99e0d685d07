"""The form parser returns the same fields however the body is split."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_uploader.emulator._api.multipart import Data, End, Field, FormParser, MalformedForm, boundary_of


@dataclass
class ParsedForm:
    fields: list[tuple[str, str | None, bytes]] = field(default_factory=list)
    finished: bool = False


def parse(body: bytes, cuts: list[int] | None = None, boundary: bytes = b"XX") -> ParsedForm:
    """All fields of a body that is split at these positions."""
    parser, result = FormParser(boundary), ParsedForm()
    edges = [0, *sorted(cuts or []), len(body)]
    name, file_name, value = "", None, b""
    for start, end in pairwise(edges):
        for event in parser.feed(body[start:end]):
            if isinstance(event, Field):
                name, file_name, value = event.name, event.file_name, b""
            elif isinstance(event, Data):
                value += bytes(event.block)
            elif event is End.FIELD:
                result.fields.append((name, file_name, value))
    result.finished = parser.is_finished
    return result


def form(*parts: tuple[str, bytes], boundary: str = "XX") -> bytes:
    """A body with these Content-Disposition parameters and contents."""
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {parameters}\r\n\r\n".encode() + value + b"\r\n"
        for parameters, value in parts
    )
    return body + f"--{boundary}--\r\n".encode()


def test_fields_and_files() -> None:
    """A field without a file name is not a file."""
    body = form(('name="videoId"', b"vi1"), ('name="file"; filename="a b.mp4"', b"bytes"))
    assert parse(body) == ParsedForm([("videoId", None, b"vi1"), ("file", "a b.mp4", b"bytes")], finished=True)


@pytest.mark.parametrize(
    ("parameters", "name", "file_name"),
    [
        ("name=file; filename=plain.mp4", "file", "plain.mp4"),
        ('filename="order.mp4"; name="file"', "file", "order.mp4"),
        ('name="file"; filename="a\\"b\\\\c.mp4"', "file", 'a"b\\c.mp4'),
        ('name="file"; filename="a%22b%0D%0Ac%41.mp4"', "file", 'a"b\r\nc%41.mp4'),
        ('name="file"; filename="C:\\dir\\x.mp4"', "file", "C:\\dir\\x.mp4"),
        ('name="file"; filename="../../etc/passwd"', "file", "../../etc/passwd"),
        ('name="file"; filename="x"; filename*=UTF-8\'\'na%C3%AFve.mp4', "file", "naïve.mp4"),
        ('name="日本"; filename="日本.mp4"', "日本", "日本.mp4"),
        ('NAME="file"; FileName="x"', "file", "x"),
        ('name="file"; filename=""', "file", ""),
        ('name="a;b"; filename="c;d"', "a;b", "c;d"),
    ],
)
def test_names(parameters: str, name: str, file_name: str) -> None:
    """Names are decoded in the notation of each client."""
    assert parse(form((parameters, b"x"))).fields == [(name, file_name, b"x")]


@pytest.mark.parametrize(
    "body",
    [
        b"--XX\r\nContent-Disposition: attachment; name=a\r\n\r\nx\r\n--XX--",
        b"--XX\r\nContent-Disposition: form-data\r\n\r\nx\r\n--XX--",
        b"--XX\r\nContent-Type: text/plain\r\n\r\nx\r\n--XX--",
        b"--XX\r\nno colon\r\n\r\nx\r\n--XX--",
        b"--XX\r\n\r\nx\r\n--XX--",
        b"--XXgarbage\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--XX--",
        b"--XX-\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--XX--",
        b"--XX\r\nContent-Disposition: form-data; name=a\r\nX: " + b"y" * 20_000,
        b"--XX" + b" " * 20_000,
        b"preamble without end " * 5_000,
        form(*[("name=a", b"")] * 101),
    ],
)
def test_malformed(body: bytes) -> None:
    """A malformed form is refused."""
    with pytest.raises(MalformedForm):
        parse(body)
    with pytest.raises(MalformedForm):
        parse(body, list(range(1, len(body), 7)))


@pytest.mark.parametrize("end", [b"", b"--", b"\r\n--XX", b"\r\n--XX-", b"\r\n--XX\r\n", b"\r\n--XY--"])
def test_unfinished(end: bytes) -> None:
    """A body without a closing boundary is incomplete."""
    assert not parse(b"--XX\r\nContent-Disposition: form-data; name=a\r\n\r\ncontent" + end).finished


def test_preamble_and_epilogue_are_skipped() -> None:
    """Text before and after the form is skipped, as RFC 2046 allows."""
    assert parse(b"hello\r\n" + form(("name=a", b"x")) + b"bye").fields == [("a", None, b"x")]


def test_empty_body() -> None:
    """An empty body is an incomplete form."""
    assert parse(b"") == ParsedForm([], finished=False)


@given(
    st.lists(
        st.binary(max_size=60) | st.sampled_from([b"\r\n--X", b"\r\n--", b"\r", b"--XX", b"\r\n\r\n--XX"]),
        max_size=5,
    ),
    st.lists(st.integers(0, 600), max_size=12),
)
def test_any_content_and_any_split(contents: list[bytes], cuts: list[int]) -> None:
    """Contents are unchanged wherever the body is split, also if they resemble a boundary."""
    if any(b"\r\n--XX" in b"\r\n" + content for content in contents):
        return
    body = form(*((f'name="{number}"; filename="f"', content) for number, content in enumerate(contents)))
    cuts = [cut for cut in cuts if cut < len(body)]
    expected: list[tuple[str, str | None, bytes]] = [
        (str(number), "f", content) for number, content in enumerate(contents)
    ]
    assert parse(body, cuts) == ParsedForm(expected, finished=True)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_random_bytes(body: bytes, cuts: list[int]) -> None:
    """Any bytes are either parsed or refused."""
    try:
        parse(b"--XX\r\n" + body, [cut for cut in cuts if cut < len(body)])
    except MalformedForm:
        return


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data; charset=utf-8; boundary="a b"', b"a b"),
        ("multipart/form-data", None),
        ("multipart/form-data; boundary=", None),
        ("multipart/form-data; boundary=" + "a" * 71, None),
        ('multipart/form-data; boundary="a\r\n"', None),
        ("multipart/mixed; boundary=abc", None),
        ("application/json", None),
        ("", None),
        ("multipart/form-data; boundary=\udcff", None),
    ],
)
def test_boundary(content_type: str, boundary: bytes | None) -> None:
    """Only `multipart/form-data` with a boundary that RFC 2046 allows is accepted."""
    assert boundary_of(content_type) == boundary
