"""Every response of a service or proxy can be parsed: models, JSON, headers, tokens."""

from __future__ import annotations

import copy
import json
import pickle
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any, Final

import anyio
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from async_uploader import (
    ApiError,
    Client,
    TransportError,
    UploaderError,
    UploadFailed,
    UploadToken,
    Video,
    VideoStatus,
)
from async_uploader._errors import SourceFailed
from async_uploader._limits import MIB
from async_uploader._models import Model
from async_uploader._parsing import credential, header_count, header_seconds, identifier, json_object
from async_uploader._units import format_duration
from async_uploader.emulator import Emulator

REQUIRED: Final = {Video: "videoId", UploadToken: "token", VideoStatus: None}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text() | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def responses() -> dict[type[Model], dict[str, Any]]:
    """Responses of the emulator, one for each model."""

    async def ask() -> dict[type[Model], dict[str, Any]]:
        async with Emulator() as emulator, Client(api_key="local-key", base_url=emulator.url) as client:
            video = await client.upload(
                bytes(6 * MIB), metadata={"a": "b", "c": "d"}, tags=["x", "y"], part_size=5 * MIB
            )
            byte_ranges = await client.upload(bytes(6 * MIB), ranges="bytes", part_size=5 * MIB)
            status = dict((await client.wait_until_playable(video.video_id, timeout=20)).raw)
            status["ingest"] = dict(status["ingest"])
            by_bytes = await client.get_status(byte_ranges.video_id)
            status["ingest"]["receivedBytes"] = by_bytes.raw["ingest"]["receivedBytes"]
            token = await client.create_upload_token(ttl_seconds=60)
            return {Video: dict(video.raw), VideoStatus: status, UploadToken: dict(token.raw)}

    return anyio.run(ask)


def paths_of(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all values within a JSON document."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield (*path, key)
        yield from paths_of(inner, (*path, key))


def changed(document: Any, path: tuple[str | int, ...], value: object) -> Any:
    """A copy with another value at a path."""
    document = copy.deepcopy(document)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return document


def field_values(model: object) -> dict[str, object]:
    """The values of a model's fields, by path."""
    found: dict[str, object] = {}

    def look(value: object, path: str) -> None:
        if isinstance(value, Model):
            for field in msgspec.structs.fields(value):
                if field.name != "raw":
                    look(getattr(value, field.name), f"{path}/{field.encode_name}")
        elif isinstance(value, tuple):
            found[f"{path}#"] = len(value)
            for number, item in enumerate(value):
                look(item, f"{path}/{number}")
        else:
            found[path] = value

    look(model, "")
    return found


def check_works(model: Model) -> None:
    """Check that a program can use the model."""
    assert repr(model)
    assert model == model  # noqa: PLR0124 - must not raise
    json.dumps(model.raw)


@pytest.mark.parametrize("kind", REQUIRED)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_an_unreadable_field_does_not_affect_the_others(
    kind: type[Model], responses: dict[type[Model], dict[str, Any]], data: st.DataObject
) -> None:
    response = responses[kind]
    path = data.draw(st.sampled_from(list(paths_of(response))))
    mutated = changed(response, path, data.draw(JSON))
    try:
        model = kind.from_response(mutated)
    except UploaderError:
        assert path == (REQUIRED[kind],)
        return
    check_works(model)
    before, after = field_values(kind.from_response(response)), field_values(model)
    changed_path = "/" + "/".join(map(str, path))
    lists = [place for place in before if place.endswith("#") and changed_path.startswith(place[:-1])]
    for place in lists:
        if after.get(place) != before[place]:  # an item was skipped, so the indexes of later ones have changed
            changed_path = place[:-1]
            break
    for place, value in before.items():
        is_changed = place == changed_path or place.startswith((f"{changed_path}/", f"{changed_path}#"))
        assert is_changed or after.get(place) == value, (place, path)


@pytest.mark.parametrize("kind", REQUIRED)
@settings(max_examples=100, deadline=None)
@given(
    response=st.dictionaries(st.sampled_from(["videoId", "token", "ingest", "assets", "metadata", "tags"]), JSON)
)
def test_any_object_is_a_model_or_an_uploader_error(kind: type[Model], response: dict[str, Any]) -> None:
    if isinstance(response.get(str(REQUIRED[kind])), str) or REQUIRED[kind] is None:
        check_works(kind.from_response(response))
    else:
        with pytest.raises(UploaderError, match=str(REQUIRED[kind])):
            kind.from_response(response)


ODD_INGEST: Final = [
    ({"receivedBytes": None}, ()),
    ({"receivedBytes": {}}, ()),
    ({"receivedBytes": [None, 7, {"from": 0, "to": 4}, {"from": 1}]}, ((0, 4),)),
    ({"receivedParts": []}, ()),
    ({"receivedParts": None}, ()),
    ({"receivedParts": "1,2"}, ()),
    ({"receivedParts": {"parts": None, "total": []}}, ()),
]


@pytest.mark.parametrize(("odd", "spans"), ODD_INGEST)
@pytest.mark.parametrize("filesize", [11, "11", 11.0])
def test_an_unreadable_field_of_ingest(odd: dict[str, Any], spans: tuple[Any, ...], filesize: object) -> None:
    status = VideoStatus.from_response({"ingest": {"status": "uploaded", "filesize": filesize, **odd}})
    assert (status.ingest.status, status.ingest.filesize) == ("uploaded", 11)
    assert tuple((span.first, span.last) for span in status.ingest.received_bytes) == spans
    assert not (status.ingest.received_parts and status.ingest.received_parts.parts)


def test_lists_that_php_encodes_as_objects() -> None:
    status = VideoStatus.from_response({"ingest": {"receivedParts": {"parts": {"0": 1, "2": "3", "3": None}}}})
    assert status.ingest.received_parts is not None
    assert status.ingest.received_parts.parts == (1, 3)


@pytest.mark.parametrize(
    "number", [True, "x", "٣", "1" * 5000, 10**400, float("nan"), float("inf"), -(2**64), [1]]
)
def test_an_invalid_number_is_none(number: object) -> None:
    status = VideoStatus.from_response(
        {"ingest": {"filesize": number}, "encoding": {"metadata": {"bitrate": number}}}
    )
    assert status.ingest.filesize is None


# JSON


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": NaN, "b": 1}', {"a": None, "b": 1}),
        (b'{"a": -Infinity, "b": 1}', {"a": None, "b": 1}),
        (b'{"a": 1e999, "b": 1}', {"a": None, "b": 1}),
        (b'{"a": ' + b"9" * 5000 + b', "b": 1}', {"a": None, "b": 1}),
        (b'{"a": "\\ud800x", "b": 1}', {"a": "\ufffdx", "b": 1}),
        (b'{"\\udcff": 1}', {"\ufffd": 1}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b'{"a": ' + b"[" * 100_000, {}),
        (b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}", {}),
        (b'{"a": ' + b"[" * 20 + b"]" * 20 + b"}", None),
        (b"[]", {}),
        (b"<html>", {}),
        (b"\xff\xfe{", {}),
        (b"", {}),
    ],
)  # fmt: skip
def test_json(body: bytes, value: object) -> None:
    read = json_object(body)
    assert value is None or read == value
    json.dumps(read, allow_nan=False).encode()
    assert repr(read).encode()


@given(st.binary(max_size=40))
def test_any_body_results_in_an_object(body: bytes) -> None:
    assert isinstance(json_object(body), dict)


# Headers


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0), ("2.5", 2.5), (" 3 ", 3.0), ("-5", 0.0), ("1e300", 1e9), ("9" * 400, 1e9), ("9" * 5000, 1e9),
        ("nan", None), ("inf", None), ("soon", None), ("", None), (None, None), ("٣", 3.0), ("²", None),
        ("Fri, 99 Foo 2026 99:99:99 GMT", None), ("Mon, 01 Jan 99999 00:00:00 GMT", None), ("1 2 3 4 5", None),
    ],
)  # fmt: skip
def test_header_seconds(text: str | None, seconds: float | None) -> None:
    assert header_seconds(text) == seconds


def test_a_date_is_relative_to_the_date_of_the_response() -> None:
    """The clock of this machine may be wrong."""
    other_clock = time.time() - 86_400
    there = formatdate(other_clock + 30, usegmt=True)
    assert header_seconds(there, date=formatdate(other_clock, usegmt=True)) == 30
    assert header_seconds(formatdate(time.time() + 30, usegmt=True)) == pytest.approx(30, abs=3)
    assert header_seconds(there) == 0


@given(st.text(alphabet=st.characters(codec="latin-1"), max_size=40))
@example("Wed, 01 Jan 0001 00:00:00 -2359")
def test_any_header_results_in_a_value(text: str) -> None:
    wait, count = header_seconds(text, date=text), header_count(text)
    assert wait is None or 0 <= wait <= 1e9
    assert count is None or 0 <= count < 10**15


@pytest.mark.parametrize(
    "token", ["a\r\nX-Evil: 1", "a b", "é", "\ud800", "", "a\x00", "a" * 10_000, 7, None, ["a"]]
)
def test_a_token_that_cannot_be_sent_in_a_header_is_none(token: object) -> None:
    assert credential(token) is None


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "é", "\n", "a" * 1000, 7, None])
def test_an_id_that_cannot_be_part_of_a_path_is_none(name: object) -> None:
    assert identifier(name) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.25, "0.25 s"), (59, "59 s"), (90, "1.5 min"), (3600, "1 h"), (1e9, "11,600 days")]
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


# Errors


@pytest.mark.parametrize(
    "error",
    [
        UploaderError("It did not work."),
        TransportError("nothing moved", maybe_received=True),
        ApiError(status=429, title="Busy", retry_after_seconds=7.0, problems=[{"title": "x"}]),
        UploadFailed("Part 1 failed.", video_id="vi1", parts_done=3),
        SourceFailed("It has changed.", video_id="vi1"),
    ],
)
def test_errors_can_be_pickled(error: UploaderError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_the_message_of_a_refusal_is_printable_and_short() -> None:
    problems: list[dict[str, Any]] = [
        {"title": {"a": 1}},
        {"name": 7, "title": "Bad\x1b[31m"},
        {},
        *[{"title": "more"}] * 100,
    ]
    text = str(ApiError(status=400, title="No", problems=problems))
    assert text.isprintable()
    assert len(text) < 200
