"""What the service tells, as frozen types with Python names.

The service adds fields as it grows. So a field that a type does not know is kept and can be asked for by its
Python name all the same; one of an unexpected shape is left at its default instead of failing an upload that
has worked; and :attr:`Model.raw` is always the whole answer as it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self

import msgspec

# Metadata entries of a container that can be gone on with from anywhere. Two, because the service finds a
# container only by an entry's exact value, and the plan is not known to who looks for it.
MARK_SOURCE: Final = "async-uploader-source"
MARK_PLAN: Final = "async-uploader-plan"
# Entry of a container that may not be in the journal yet: a random id that is.
MARK_INTENT: Final = "async-uploader-intent"


def camel(name: str) -> str:
    """``mp4_support`` as the service spells it: ``mp4Support``."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


class Model(msgspec.Struct, rename=camel, frozen=True, kw_only=True):
    """Base of all models."""

    #: The service's JSON object, untouched.
    raw: Mapping[str, Any] = {}

    @classmethod
    def from_answer(cls, answer: Mapping[str, Any]) -> Self:
        """Read a JSON object of the service. Never fails on one that has the required fields."""
        fields = _each_with_raw(answer)
        try:
            return msgspec.convert(fields, cls)
        except msgspec.ValidationError:
            return msgspec.convert(_readable(fields, cls), cls)

    def __getattr__(self, name: str) -> Any:
        # Only asked for names that the type does not have.
        if not name.startswith("_"):
            for spelling in (camel(name), name):
                if spelling in self.raw:
                    return self.raw[spelling]
        raise AttributeError(f"{type(self).__name__} has no field {name!r}")


def _each_with_raw(value: Any) -> Any:
    if isinstance(value, list):
        return [_each_with_raw(item) for item in value]
    if isinstance(value, Mapping):
        return {**{key: _each_with_raw(item) for key, item in value.items()}, "raw": value}
    return value


def _readable(fields: Mapping[str, Any], model: type[Model]) -> dict[str, Any]:
    readable = {}
    for field in msgspec.structs.fields(model):
        if field.encode_name in fields:
            value = fields[field.encode_name]
            try:
                msgspec.convert(value, field.type)
            except msgspec.ValidationError:
                if field.required:
                    raise
            else:
                readable[field.encode_name] = value
    return readable


class Metadata(Model, frozen=True, kw_only=True):
    """One key and value that describe a video."""

    key: str | None = None
    value: str | None = None


class VideoAssets(Model, frozen=True, kw_only=True):
    """Where a video can be seen, as URLs (``iframe`` is a piece of HTML)."""

    hls: str | None = None
    iframe: str | None = None
    player: str | None = None
    thumbnail: str | None = None
    mp4: str | None = None


class VideoSource(Model, frozen=True, kw_only=True):
    """Where a video came from."""

    uri: str | None = None
    type: str | None = None


class Video(Model, frozen=True, kw_only=True):
    """A container and what is in it. Times are ATOM strings in UTC, as the service gives them."""

    video_id: str
    title: str | None = None
    description: str | None = None
    public: bool | None = None
    panoramic: bool | None = None
    mp4_support: bool | None = None
    player_id: str | None = None
    language: str | None = None
    language_origin: str | None = None
    tags: tuple[str, ...] = ()
    metadata: tuple[Metadata, ...] = ()
    source: VideoSource | None = None
    assets: VideoAssets = VideoAssets()
    created_at: str | None = None
    published_at: str | None = None
    updated_at: str | None = None
    discarded_at: str | None = None
    deletes_at: str | None = None
    discarded: bool | None = None


class ReceivedParts(Model, frozen=True, kw_only=True):
    """The numbers of the parts that have arrived, sorted, and how many there will be (None: not known yet)."""

    parts: tuple[int, ...] = ()
    total: int | None = None


class BytesRange(Model, frozen=True, kw_only=True):
    """A range of bytes that has arrived, both ends inclusive."""

    # `from` is no Python name.
    first: int = msgspec.field(name="from")
    last: int = msgspec.field(name="to")
    total: int | None = None


class Ingest(Model, frozen=True, kw_only=True):
    """How far the service is with taking a video in.

    ``status`` is ``uploading``, ``uploaded``, ``ingesting``, ``ingested``, or a word that is not documented yet.
    """

    status: str | None = None
    filesize: int | None = None
    received_parts: ReceivedParts | None = None
    received_bytes: tuple[BytesRange, ...] = ()


class Quality(Model, frozen=True, kw_only=True):
    """One encoding of a video; ``status`` is ``waiting``, ``encoding``, ``encoded`` or ``failed``."""

    type: str | None = None
    quality: str | None = None
    status: str | None = None


class EncodingMetadata(Model, frozen=True, kw_only=True):
    """What the service found out about the video's streams."""

    width: int | None = None
    height: int | None = None
    bitrate: float | None = None
    duration: float | None = None
    framerate: float | None = None
    samplerate: float | None = None
    video_codec: str | None = None
    audio_codec: str | None = None
    aspect_ratio: str | None = None


class Encoding(Model, frozen=True, kw_only=True):
    """Whether a video can be played, and in which qualities."""

    playable: bool | None = None
    qualities: tuple[Quality, ...] = ()
    metadata: EncodingMetadata | None = None


class VideoStatus(Model, frozen=True, kw_only=True):
    """Answer of ``GET /videos/{videoId}/status``."""

    ingest: Ingest = Ingest()
    encoding: Encoding = Encoding()


class UploadToken(Model, frozen=True, kw_only=True):
    """A token that lets its bearer upload, and nothing else. ``ttl`` is in seconds, 0 = for ever."""

    token: str
    ttl: int | None = None
    created_at: str | None = None
    expires_at: str | None = None

    def __repr__(self) -> str:
        return f"UploadToken(token='***', ttl={self.ttl}, expires_at={self.expires_at!r})"
