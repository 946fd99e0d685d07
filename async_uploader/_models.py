"""The service's JSON objects as frozen types with Python names.

The service adds fields as it grows, and proxies and other implementations write JSON in their own ways. So reading
is tolerant per field, at every depth: a field that cannot be read keeps its default, and its siblings keep their
values. A field that a type does not know is kept; its Python name finds it. :attr:`Model.raw` is the whole object.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Final, Self, TypeVar, get_args, get_origin

import msgspec

from ._errors import UploaderError

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

    #: The service's JSON object, with the values that the model cannot read.
    raw: Mapping[str, Any] = {}

    @classmethod
    def from_answer(cls, answer: Mapping[str, Any]) -> Self:
        """Read a JSON object of the service.

        :param answer: the object; fields that cannot be read keep their defaults
        :raises UploaderError: a required field is missing or cannot be read
        """
        model = _model(answer, cls)
        if model is None:
            missing = ", ".join(name for name, field in _fields(cls).items() if field.required)
            raise UploaderError(f"The service's answer cannot be read as {cls.__name__}: it has no {missing}.")
        return model

    def __getattr__(self, name: str) -> Any:
        # Only asked for names that the type does not have.
        if not name.startswith("_"):
            for spelling in (camel(name), name):
                if spelling in self.raw:
                    return self.raw[spelling]
        raise AttributeError(f"{type(self).__name__} has no field {name!r}")


M = TypeVar("M", bound=Model)

# The largest number that is read: what fits into 64 bits. No size, count or time of the service comes near it, and
# a larger one overflows what it is written to.
_MAX_WHOLE_NUMBER: Final = 2**63 - 1
_MAX_DIGITS: Final = 40


@cache
def _fields(model: type[Model]) -> Mapping[str, msgspec.structs.FieldInfo]:
    """The fields of a model by their names in JSON."""
    return {field.encode_name: field for field in msgspec.structs.fields(model) if field.name != "raw"}


def _model(value: object, model: type[M]) -> M | None:
    """A JSON object as a model; None if it is no object, or if a required field cannot be read."""
    if value == []:  # how PHP writes an empty object
        value = {}
    if not isinstance(value, Mapping):
        return None
    fields = _fields(model)
    read = {
        field.name: readable
        for name, field in fields.items()
        if name in value and (readable := _readable(value[name], field.type)) is not None
    }
    if any(field.required and field.name not in read for field in fields.values()):
        return None
    return model(**read, raw=value)


def _readable(value: object, kind: Any) -> Any:
    """A JSON value as what the field's type says, or None."""
    if isinstance(kind, types.UnionType):  # every union here is `kind | None`
        kind = get_args(kind)[0]
    if get_origin(kind) is tuple:
        items = (_readable(item, get_args(kind)[0]) for item in _items(value))
        return tuple(item for item in items if item is not None)
    if issubclass(kind, Model):
        return _model(value, kind)
    if kind in _NUMBERS:
        return _NUMBERS[kind](value)
    return value if isinstance(value, kind) else None


def _items(value: object) -> Iterable[object]:
    if isinstance(value, Mapping) and all(isinstance(key, str) and key.isdigit() for key in value):
        return value.values()  # how PHP writes a list with gaps
    return value if isinstance(value, list | tuple) else ()


def whole_number(value: object) -> int | None:
    """A JSON value as a whole number; None if it is none.

    A fraction of zero and digits as text are read as numbers. Nothing that the service counts is negative.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_WHOLE_NUMBER:
        return None
    return value


def number(value: object) -> float | None:
    """A JSON value as a finite number: also its digits as text. None: it is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        read = float(value)
    except (ValueError, OverflowError):
        return None
    return read if math.isfinite(read) else None


_NUMBERS: Final[Mapping[type, Callable[[object], float | None]]] = {int: whole_number, float: number}


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
