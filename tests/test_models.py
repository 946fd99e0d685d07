"""What the service tells, read without ever failing on what is new."""

from __future__ import annotations

import pytest

from async_uploader import UploadToken, Video, VideoStatus

ANSWER = {
    "videoId": "vi1",
    "title": "Holidays",
    "mp4Support": True,
    "tags": ["a", "b"],
    "metadata": [{"key": "k", "value": "v"}],
    "assets": {"hls": "https://h", "newKind": "https://n"},
    "brandNew": {"x": 1},
}


def test_python_names() -> None:
    video = Video.from_answer(ANSWER)
    assert (video.video_id, video.mp4_support, video.tags) == ("vi1", True, ("a", "b"))
    assert (video.assets.hls, video.metadata[0].key) == ("https://h", "k")


def test_unknown_fields_are_kept_and_can_be_asked_for() -> None:
    video = Video.from_answer(ANSWER)
    assert video.raw == ANSWER
    assert video.brand_new == {"x": 1}
    with pytest.raises(AttributeError, match="Video has no field 'nothing'"):
        _ = video.nothing


def test_unknown_fields_of_nested_models_are_kept_too() -> None:
    assert Video.from_answer(ANSWER).assets.new_kind == "https://n"


def test_a_field_of_an_unexpected_shape_breaks_nothing() -> None:
    video = Video.from_answer({**ANSWER, "tags": "one", "assets": 7})
    assert (video.title, video.tags, video.assets.hls) == ("Holidays", (), None)
    assert video.raw["tags"] == "one"


def test_status() -> None:
    status = VideoStatus.from_answer(
        {
            "ingest": {"status": "last_chunck_uploaded", "receivedParts": {"parts": [1, 2], "total": None}},
            "encoding": {"playable": False, "qualities": [{"type": "hls", "quality": "1080p", "status": "new"}]},
        }
    )
    assert status.ingest.received_parts is not None
    assert status.ingest.received_parts.parts == (1, 2)
    assert status.encoding.qualities[0].status == "new"


def test_an_upload_token_is_not_shown() -> None:
    token = UploadToken.from_answer({"token": "toSECRET", "ttl": 0})
    assert token.token == "toSECRET"
    assert "SECRET" not in repr(token) + str(token) + f"{token}"
