"""Reading the JSON of the service, which never fails on new fields."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from rich.pretty import pretty_repr

from async_uploader import Model, UploadToken, Video, VideoStatus

RESPONSE = {
    "videoId": "vi1",
    "title": "Holidays",
    "mp4Support": True,
    "tags": ["a", "b"],
    "metadata": [{"key": "k", "value": "v"}],
    "assets": {"hls": "https://h", "newKind": "https://n"},
    "brandNew": {"x": 1},
}


def test_python_names() -> None:
    video = Video.from_response(RESPONSE)
    assert (video.video_id, video.mp4_support, video.tags) == ("vi1", True, ("a", "b"))
    assert (video.assets.hls, video.metadata[0].key) == ("https://h", "k")


def test_unknown_fields_can_be_read() -> None:
    video = Video.from_response(RESPONSE)
    assert video.raw == RESPONSE
    assert video.brand_new == {"x": 1}
    with pytest.raises(AttributeError, match="Video has no field 'nothing'"):
        _ = video.nothing


def test_unknown_fields_of_nested_models_are_kept_too() -> None:
    assert Video.from_response(RESPONSE).assets.new_kind == "https://n"


def test_a_field_of_an_unexpected_shape_breaks_nothing() -> None:
    video = Video.from_response({**RESPONSE, "tags": "one", "assets": 7})
    assert (video.title, video.tags, video.assets.hls) == ("Holidays", (), None)
    assert video.raw["tags"] == "one"


def test_status() -> None:
    status = VideoStatus.from_response(
        {
            "ingest": {"status": "last_chunck_uploaded", "receivedParts": {"parts": [1, 2], "total": None}},
            "encoding": {"playable": False, "qualities": [{"type": "hls", "quality": "1080p", "status": "new"}]},
        }
    )
    assert status.ingest.received_parts is not None
    assert status.ingest.received_parts.parts == (1, 2)
    assert status.encoding.qualities[0].status == "new"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2019-12-16T08:25:51.000Z", datetime(2019, 12, 16, 8, 25, 51, tzinfo=UTC)),
        ("2019-12-16T08:25:51+00:00", datetime(2019, 12, 16, 8, 25, 51, tzinfo=UTC)),
        ("2019-12-16T09:25:51+01:00", datetime(2019, 12, 16, 8, 25, 51, tzinfo=UTC)),
        ("2019-12-16T08:25:51", datetime(2019, 12, 16, 8, 25, 51, tzinfo=UTC)),
        ("yesterday", None),
        ("", None),
        ("0001-01-01T00:00:00+14:00", None),  # before year 1 in UTC
        (1576484751, None),
        (None, None),
    ],
)
def test_dates(text: Any, read: datetime | None) -> None:
    """Points in time are in UTC. One that cannot be read is None, and stays in ``raw``."""
    names = ("createdAt", "publishedAt", "updatedAt", "discardedAt", "deletesAt")
    video = Video.from_response({"videoId": "vi1", **dict.fromkeys(names, text)})
    dates = [video.created_at, video.published_at, video.updated_at, video.discarded_at, video.deletes_at]
    token = UploadToken.from_response({"token": "to1", "createdAt": text, "expiresAt": text})
    for date in (*dates, token.created_at, token.expires_at):
        assert date == read
        assert date is None or date.tzinfo is UTC
    assert video.raw["createdAt"] == token.raw["expiresAt"] == text


LONG = {
    "videoId": "vi1",
    "title": "Holidays\n" * 100,
    "description": "x" * 5_000,
    "source": {"type": "upload", "uri": "https://host.example/?signature=SECRET"},
    "assets": dict.fromkeys(("hls", "player", "iframe", "mp4"), "https://host.example/token/SECRET"),
}
STATUS = {
    "ingest": {"status": "uploading", "receivedParts": {"parts": list(range(1, 5_001)), "total": 10_000}},
    "encoding": {"playable": False, "qualities": [{"type": "hls", "quality": "1080p", "status": "waiting"}] * 50},
}


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (Video.from_response(RESPONSE), "Video(video_id='vi1', title='Holidays')"),
        (Video.from_response({"videoId": "vi1"}), "Video(video_id='vi1')"),
        (Video.from_response(LONG), None),
        (Video.from_response(LONG).assets, "VideoAssets(hls='…', iframe='…', player='…', mp4='…')"),
        (Video.from_response(LONG).source, "VideoSource(type='upload')"),
        (Video.from_response(RESPONSE).metadata[0], "Metadata(key='k', value='v')"),
        (
            VideoStatus.from_response(STATUS),
            (
                "VideoStatus(ingest=Ingest(status='uploading', received_parts=ReceivedParts(parts=(1, 2, 3, ...), "
                "total=10000)), encoding=Encoding(playable=False))"
            ),
        ),
        (
            UploadToken.from_response({"token": "SECRET", "ttl": 60, "expiresAt": "2019-12-16T08:25:51Z"}),
            "UploadToken(token='***', ttl=60, expires_at=2019-12-16T08:25:51+00:00)",
        ),
    ],
)
def test_repr(model: Model, text: str | None) -> None:
    """One short line without secrets, in rich, too."""
    assert text is None or repr(model) == text
    assert len(repr(model)) < 200
    assert repr(model).isprintable()
    for shown in (repr(model), str(model), f"{model}", pretty_repr(model)):
        assert "SECRET" not in shown


def test_an_upload_token_has_its_secret() -> None:
    assert UploadToken.from_response({"token": "toSECRET", "ttl": 0}).token == "toSECRET"
