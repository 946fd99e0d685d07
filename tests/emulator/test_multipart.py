"""The form reader: the same events however the bytes are cut."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_uploader.emulator._multipart import Data, End, Field, FormReader, Malformed, boundary_of


@dataclass
class Read:
    fields: list[tuple[str, str | None, bytes]] = field(default_factory=list)
    finished: bool = False


def read(body: bytes, cuts: list[int] | None = None, boundary: bytes = b"XX") -> Read:
    """All fields of a body that arrives cut at these places."""
    reader, result = FormReader(boundary), Read()
    edges = [0, *sorted(cuts or []), len(body)]
    name, file_name, value = "", None, b""
    for start, end in pairwise(edges):
        for event in reader.feed(body[start:end]):
            if isinstance(event, Field):
                name, file_name, value = event.name, event.file_name, b""
            elif isinstance(event, Data):
                value += bytes(event.block)
            elif event is End.FIELD:
                result.fields.append((name, file_name, value))
    result.finished = reader.is_finished
    return result


def form(*parts: tuple[str, bytes], boundary: str = "XX") -> bytes:
    """A body from Content-Disposition parameters and contents."""
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {parameters}\r\n\r\n".encode() + value + b"\r\n"
        for parameters, value in parts
    )
    return body + f"--{boundary}--\r\n".encode()


def test_fields_and_files() -> None:
    """A field without a file name is no file."""
    body = form(('name="videoId"', b"vi1"), ('name="file"; filename="a b.mp4"', b"bytes"))
    assert read(body) == Read([("videoId", None, b"vi1"), ("file", "a b.mp4", b"bytes")], finished=True)


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
    """Names come through as they were meant, in each client's way of writing them."""
    assert read(form((parameters, b"x"))).fields == [(name, file_name, b"x")]


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
    """What is no form is said to be none."""
    with pytest.raises(Malformed):
        read(body)
    with pytest.raises(Malformed):
        read(body, list(range(1, len(body), 7)))


@pytest.mark.parametrize("end", [b"", b"--", b"\r\n--XX", b"\r\n--XX-", b"\r\n--XX\r\n", b"\r\n--XY--"])
def test_unfinished(end: bytes) -> None:
    """A body without its closing boundary is not finished."""
    assert not read(b"--XX\r\nContent-Disposition: form-data; name=a\r\n\r\ncontent" + end).finished


def test_preamble_and_epilogue_are_skipped() -> None:
    """RFC 2046 allows text around the form."""
    assert read(b"hello\r\n" + form(("name=a", b"x")) + b"bye").fields == [("a", None, b"x")]


def test_empty_body() -> None:
    """Nothing at all is not a finished form."""
    assert read(b"") == Read([], finished=False)


@given(
    st.lists(
        st.binary(max_size=60) | st.sampled_from([b"\r\n--X", b"\r\n--", b"\r", b"--XX", b"\r\n\r\n--XX"]),
        max_size=5,
    ),
    st.lists(st.integers(0, 600), max_size=12),
)
def test_any_content_however_cut(contents: list[bytes], cuts: list[int]) -> None:
    """Contents come through byte for byte wherever the blocks end, near-boundaries included."""
    if any(b"\r\n--XX" in b"\r\n" + content for content in contents):
        return
    body = form(*((f'name="{number}"; filename="f"', content) for number, content in enumerate(contents)))
    cuts = [cut for cut in cuts if cut < len(body)]
    expected: list[tuple[str, str | None, bytes]] = [
        (str(number), "f", content) for number, content in enumerate(contents)
    ]
    assert read(body, cuts) == Read(expected, finished=True)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_garbage_never_breaks_it(body: bytes, cuts: list[int]) -> None:
    """Any bytes are either read or refused."""
    try:
        read(b"--XX\r\n" + body, [cut for cut in cuts if cut < len(body)])
    except Malformed:
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
    """Only a form with a boundary that RFC 2046 allows has one."""
    assert boundary_of(content_type) == boundary
