"""The JSON objects of the service as frozen structs with Python names.

The service adds fields over time, and proxies and other implementations vary the JSON that they send. So reading
is tolerant for each field, at every depth: a field that cannot be read keeps its default, and the fields beside it
are read. Unknown fields are kept: they can be read as attributes with their Python names.
"""
# No `from __future__ import annotations`: see `_public`.

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import cache
from reprlib import Repr
from typing import Any, ClassVar, Final, Self, TypeVar

import msgspec

from ._errors import UploaderError
from ._parsing import number, shape_of, timestamp, whole_number
from ._public import public

# Metadata entries of a container whose upload can be resumed from any machine. Two, because the service finds a
# container only by the exact value of an entry, and the machine that looks for it does not know the plan.
MARK_SOURCE: Final = "async-uploader-source"
MARK_PLAN: Final = "async-uploader-plan"
# Entries that a video with an idempotency key keeps: the key, and the content hash of the source with its plan.
MARK_KEY: Final = "async-uploader-key"
MARK_CONTENT: Final = "async-uploader-content"
# Entry of a container that may not be in the journal yet: a random id, which the journal has.
MARK_INTENT: Final = "async-uploader-intent"
# Entry that a video uploaded with ``checksum`` keeps: the SHA-256 of the bytes that were sent, in hexadecimal.
MARK_SHA256: Final = "sha256"


def camel(name: str) -> str:
    """Return a Python name as the service spells it: ``mp4Support`` for ``mp4_support``."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


class _ShortRepr(Repr):
    """Keeps ``repr()`` of a model on one short line."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 80
        self.maxtuple = 3

    def repr1(self, value: object, level: int) -> str:
        return repr(value) if isinstance(value, Model) else super().repr1(value, level)

    def repr_datetime(self, value: datetime, level: int) -> str:  # noqa: ARG002 - called by `reprlib`
        return value.isoformat()


_SHORT_REPR: Final = _ShortRepr()


@public
class Model(msgspec.Struct, rename=camel, frozen=True, kw_only=True):
    """Base class of all models.

    Points in time are aware ``datetime`` objects in UTC, durations are seconds. A field that is missing, or that
    cannot be read, is None or empty. ``repr()`` shows the most important fields, and no secrets.

    :ivar raw: JSON object of the service, unchanged
    """

    raw: Mapping[str, Any] = {}

    #: The fields in `repr()`.
    _repr_fields: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def from_response(cls, response: Mapping[str, Any]) -> Self:
        """Read a JSON object of the service.

        :param response: the object; fields that cannot be read keep their defaults
        :raises UploaderError: a required field is missing or cannot be read
        """
        model = _model(response, cls)
        if model is None:
            missing = ", ".join(map(camel, sorted(_required(cls))))
            raise UploaderError(f"The service's response cannot be read as {cls.__name__}: it has no {missing}.")
        return model

    def __getattr__(self, name: str) -> Any:
        # Only called for names that the type does not have.
        if not name.startswith("_"):
            for spelling in (camel(name), name):
                if spelling in self.raw:
                    return self.raw[spelling]
        raise AttributeError(f"{type(self).__name__} has no field {name!r}")

    def __repr__(self) -> str:
        shown = (f"{name}={_SHORT_REPR.repr(value)}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({', '.join(shown)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # Without it, rich would show all fields of a struct.
        fields = ((name, getattr(self, name)) for name in self._repr_fields)
        return [(name, value) for name, value in fields if value is not None]


M = TypeVar("M", bound=Model)


@cache
def _fields(model: type[Model]) -> Mapping[str, msgspec.structs.FieldInfo]:
    """Return the fields of a model by their names in JSON."""
    return {field.encode_name: field for field in msgspec.structs.fields(model) if field.name != "raw"}


def _model(value: object, model: type[M]) -> M | None:
    """Read a JSON object as a model; None if it is not an object, or if a required field cannot be read."""
    if value == []:  # PHP writes empty objects like this
        value = {}
    if not isinstance(value, Mapping):
        return None
    fields = _fields(model)
    read = {
        field.name: readable
        for name, field in fields.items()
        if name in value and (readable := _readable(value[name], field.type)) is not None
    }
    if _required(model) - read.keys():
        return None
    return model(**read, raw=value)


@cache
def _required(model: type[Model]) -> frozenset[str]:
    """Return the names of the fields without which a model cannot be read."""
    return frozenset(field.name for field in _fields(model).values() if field.required)


def _readable(value: object, kind: Any) -> Any:
    """Read a JSON value as the type of a field; None if it cannot be read."""
    kind, is_list = shape_of(kind)
    if is_list:
        return tuple(item for each in _items(value) if (item := _readable(each, kind)) is not None)
    if issubclass(kind, Model):
        return _model(value, kind)
    if kind in _READERS:
        return _READERS[kind](value)
    return value if isinstance(value, kind) else None


def _items(value: object) -> Iterable[object]:
    if isinstance(value, Mapping) and all(isinstance(key, str) and key.isdigit() for key in value):
        return value.values()  # PHP writes lists with gaps like this
    return value if isinstance(value, list | tuple) else ()


_READERS: Final[Mapping[type, Callable[[object], object]]] = {
    int: whole_number,
    float: number,
    datetime: timestamp,
}


@public
class Metadata(Model, frozen=True, kw_only=True):
    """A metadata entry of a video."""

    key: str | None = None
    value: str | None = None

    _repr_fields: ClassVar[tuple[str, ...]] = ("key", "value")


@public
class VideoAssets(Model, frozen=True, kw_only=True):
    """URLs of a video.

    The URLs of a private video contain a token, so ``repr()`` does not show them.

    :ivar hls: HLS manifest
    :ivar iframe: HTML of an iframe with the player
    :ivar player: page of the player
    :ivar thumbnail: thumbnail
    :ivar mp4: MP4 file
    """

    hls: str | None = None
    iframe: str | None = None
    player: str | None = None
    thumbnail: str | None = None
    mp4: str | None = None

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        names = ("hls", "iframe", "player", "thumbnail", "mp4")
        return [(name, "…") for name in names if getattr(self, name) is not None]


@public
class VideoSource(Model, frozen=True, kw_only=True):
    """Origin of a video.

    :ivar uri: URI of the source
    :ivar type: such as ``"upload"``
    """

    uri: str | None = None
    type: str | None = None

    _repr_fields: ClassVar[tuple[str, ...]] = ("type",)


@public
class Video(Model, frozen=True, kw_only=True):
    """A video, or its container while the video is not complete.

    :ivar video_id: id of the video
    :ivar title: title
    :ivar description: description
    :ivar public: whether everybody can watch the video
    :ivar panoramic: whether it is a 360° video
    :ivar mp4_support: whether there is also an MP4
    :ivar player_id: id of the player
    :ivar language: language tag of the audio
    :ivar language_origin: whether the language was set (``"api"``) or detected (``"auto"``)
    :ivar tags: tags
    :ivar metadata: metadata entries
    :ivar source: origin of the video
    :ivar assets: URLs of the video
    :ivar created_at: time of creation
    :ivar published_at: time of publication
    :ivar updated_at: time of the last change
    :ivar discarded_at: time at which the video was discarded
    :ivar deletes_at: time at which the service deletes the discarded video
    :ivar discarded: whether the video is discarded
    """

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
    created_at: datetime | None = None
    published_at: datetime | None = None
    updated_at: datetime | None = None
    discarded_at: datetime | None = None
    deletes_at: datetime | None = None
    discarded: bool | None = None

    _repr_fields: ClassVar[tuple[str, ...]] = ("video_id", "title")

    @property
    def sha256(self) -> str | None:
        """The metadata entry ``sha256``: of the bytes sent, in hexadecimal, if uploaded with ``checksum=True``."""
        return next((entry.value for entry in self.metadata if entry.key == MARK_SHA256), None)


@public
class ReceivedParts(Model, frozen=True, kw_only=True):
    """The parts that the service has received.

    :ivar parts: numbers of the received parts, in ascending order
    :ivar total: number of all parts; None while it is not known
    """

    parts: tuple[int, ...] = ()
    total: int | None = None

    _repr_fields: ClassVar[tuple[str, ...]] = ("parts", "total")


@public
class BytesRange(Model, frozen=True, kw_only=True):
    """A range of bytes that the service has received.

    :ivar first: offset of the first byte (``from`` in JSON)
    :ivar last: offset of the last byte, inclusive (``to`` in JSON)
    :ivar total: size of the source in bytes; None while it is not known
    """

    first: int = msgspec.field(name="from")
    last: int = msgspec.field(name="to")
    total: int | None = None

    _repr_fields: ClassVar[tuple[str, ...]] = ("first", "last", "total")


@public
class Ingest(Model, frozen=True, kw_only=True):
    """Progress of the ingest: the parts or bytes of a video that the service has received.

    :ivar status: ``"uploading"``, ``"uploaded"``, ``"ingesting"``, ``"ingested"``, or a value that is not
        documented yet; None if nothing was received
    :ivar filesize: size of the complete source in bytes
    :ivar received_parts: received parts, if the upload uses part numbers
    :ivar received_bytes: received ranges, if the upload uses byte ranges
    """

    status: str | None = None
    filesize: int | None = None
    received_parts: ReceivedParts | None = None
    received_bytes: tuple[BytesRange, ...] = ()

    _repr_fields: ClassVar[tuple[str, ...]] = ("status", "filesize", "received_parts")


@public
class Quality(Model, frozen=True, kw_only=True):
    """One encoding of a video.

    :ivar type: format, such as ``"hls"``
    :ivar quality: such as ``"720p"``
    :ivar status: ``"waiting"``, ``"encoding"``, ``"encoded"`` or ``"failed"``
    """

    type: str | None = None
    quality: str | None = None
    status: str | None = None

    _repr_fields: ClassVar[tuple[str, ...]] = ("type", "quality", "status")


@public
class EncodingMetadata(Model, frozen=True, kw_only=True):
    """Properties of the source's streams, as the service has detected them.

    :ivar width: width in pixels
    :ivar height: height in pixels
    :ivar bitrate: bits per second
    :ivar duration: length in seconds
    :ivar framerate: frames per second
    :ivar samplerate: audio samples per second
    :ivar video_codec: name of the video codec
    :ivar audio_codec: name of the audio codec
    :ivar aspect_ratio: such as ``"16/9"``
    """

    width: int | None = None
    height: int | None = None
    bitrate: float | None = None
    duration: float | None = None
    framerate: float | None = None
    samplerate: float | None = None
    video_codec: str | None = None
    audio_codec: str | None = None
    aspect_ratio: str | None = None

    _repr_fields: ClassVar[tuple[str, ...]] = ("width", "height", "duration")


@public
class Encoding(Model, frozen=True, kw_only=True):
    """Progress of the encoding.

    :ivar playable: whether the video can be played
    :ivar qualities: the encodings
    :ivar metadata: properties of the source's streams
    """

    playable: bool | None = None
    qualities: tuple[Quality, ...] = ()
    metadata: EncodingMetadata | None = None

    _repr_fields: ClassVar[tuple[str, ...]] = ("playable",)


@public
class VideoStatus(Model, frozen=True, kw_only=True):
    """Status of a video: the response of ``GET /videos/{videoId}/status``.

    :ivar ingest: progress of the ingest
    :ivar encoding: progress of the encoding
    """

    ingest: Ingest = Ingest()
    encoding: Encoding = Encoding()

    _repr_fields: ClassVar[tuple[str, ...]] = ("ingest", "encoding")


@public
class UploadToken(Model, frozen=True, kw_only=True):
    """An upload token: it can upload videos, and do nothing else.

    :ivar token: the secret; ``repr()`` does not show it
    :ivar ttl: lifetime in seconds; 0 for an unlimited one
    :ivar created_at: time of creation
    :ivar expires_at: time of expiry; None if the token does not expire
    """

    token: str
    ttl: int | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("token", "***"), ("ttl", self.ttl), ("expires_at", self.expires_at)]
