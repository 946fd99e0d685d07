"""What a caller may ask for, checked before anything is sent.

:class:`UploadOptions` is the one list of keywords that ``upload()`` and ``Client.upload()`` share;
:class:`TransferOptions` and :func:`container_payload` are its two halves, validated.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypedDict

import msgspec
from msgspec import Struct

from ._errors import ConfigurationError
from ._limits import MAX_PART_BYTES, MIN_PART_BYTES
from ._models import Video, camel
from ._progress import OnProgress
from ._units import format_size
from .events import OnEvent

OnVideo = Callable[[Video], Awaitable[object] | object]

MAX_CONCURRENCY: Final = 256
MAX_ATTEMPTS: Final = 1_000
DEFAULT_MAX_ATTEMPTS: Final = 8
DEFAULT_STALL_TIMEOUT_SECONDS: Final = 30.0


class ContainerDetails(TypedDict, total=False):
    """What ``POST /videos`` takes beside a source, with Python names."""

    title: str
    description: str
    tags: Sequence[str]
    metadata: Mapping[str, str]
    public: bool
    panoramic: bool
    mp4_support: bool
    player_id: str
    language: str
    transcript: bool
    transcript_summary: bool
    transcript_summary_attributes: Sequence[str]
    watermark: Mapping[str, str]
    clip: Mapping[str, str]


class UploadOptions(ContainerDetails, total=False):
    """Keywords of ``upload()``: the container's details, and how it is filled."""

    video_id: str | None
    ranges: Literal["part", "bytes"]
    part_size: int | None
    concurrency: int | None
    max_attempts: int
    stall_timeout: float
    resume: bool | Literal["local"]
    keep_finished: bool
    max_latency: float | None
    on_progress: OnProgress | None
    on_video: OnVideo | None
    on_event: OnEvent | None


class TransferOptions(Struct, frozen=True, kw_only=True):
    """How a container is filled. See ``upload()`` for what each means.

    :raises ConfigurationError: a value is out of its range
    """

    video_id: str | None = None
    ranges: Literal["part", "bytes"] = "part"
    part_size: int | None = None
    concurrency: int | None = None
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    stall_timeout: float = DEFAULT_STALL_TIMEOUT_SECONDS
    resume: bool | Literal["local"] = False
    keep_finished: bool = False
    max_latency: float | None = None
    on_progress: OnProgress | None = None
    on_video: OnVideo | None = None
    on_event: OnEvent | None = None

    def __post_init__(self) -> None:
        if self.ranges not in ("part", "bytes"):
            raise ConfigurationError(f"ranges must be 'part' or 'bytes', not {self.ranges!r}.")
        if self.part_size is not None:
            _check_whole("part_size", self.part_size, MIN_PART_BYTES, MAX_PART_BYTES, unit="bytes")
        if self.concurrency is not None:
            _check_whole("concurrency", self.concurrency, 1, MAX_CONCURRENCY, unit="parts at once")
        _check_whole("max_attempts", self.max_attempts, 1, MAX_ATTEMPTS, unit="tries")
        if not _is_positive(self.stall_timeout):
            raise ConfigurationError(
                f"stall_timeout must be a number of seconds above 0, not {self.stall_timeout!r}."
            )
        if self.max_latency is not None and not _is_positive(self.max_latency):
            raise ConfigurationError(f"max_latency must be a number of seconds above 0, not {self.max_latency!r}.")
        if self.resume not in (True, False, "local"):
            raise ConfigurationError(f"resume must be True, False or 'local', not {self.resume!r}.")
        if not isinstance(self.keep_finished, bool):
            raise ConfigurationError(f"keep_finished must be True or False, not {self.keep_finished!r}.")
        if self.video_id is not None and not str(self.video_id).isalnum():
            raise ConfigurationError(f"video_id must be letters and digits, not {self.video_id!r}.")


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf


def _check_whole(name: str, value: object, low: int, high: int, *, unit: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        span = f"{low:,} to {high:,} {unit}"
        if unit == "bytes":
            span += f" ({format_size(low)} to {format_size(high)})"
        raise ConfigurationError(f"{name} must be a whole number from {span}, not {value!r}.")


_TRANSFER_FIELDS: Final = frozenset(TransferOptions.__struct_fields__)
_DETAIL_TYPES: Final[Mapping[str, tuple[Any, str]]] = {
    "title": (str, "text that is not empty"),
    "description": (str, "text"),
    "tags": (list[str], "a list of texts"),
    "metadata": (dict[str, str], "a mapping of texts to texts, with no empty key"),
    "public": (bool, "True or False"),
    "panoramic": (bool, "True or False"),
    "mp4_support": (bool, "True or False"),
    "player_id": (str, "text"),
    "language": (str, "a language tag such as 'en'"),
    "transcript": (bool, "True or False"),
    "transcript_summary": (bool, "True or False"),
    "transcript_summary_attributes": (list[str], "a list of 'abstract' and 'takeaways'"),
    "watermark": (dict[str, str], "a mapping of texts to texts"),
    "clip": (dict[str, str], "a mapping of texts to texts"),
}


def split_options(options: Mapping[str, Any]) -> tuple[TransferOptions, dict[str, Any]]:
    """The two halves of :class:`UploadOptions`: how to fill the container, and its JSON payload.

    :raises TypeError: a keyword that is not there
    :raises ConfigurationError: a value that cannot be meant
    """
    unknown = sorted(options.keys() - _TRANSFER_FIELDS - _DETAIL_TYPES.keys())
    if unknown:
        raise TypeError(f"upload() got an unexpected keyword argument {unknown[0]!r}")
    transfer = TransferOptions(**{key: options[key] for key in options.keys() & _TRANSFER_FIELDS})
    return transfer, container_payload({key: options[key] for key in options.keys() & _DETAIL_TYPES.keys()})


def container_payload(details: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object of ``POST /videos`` for details with Python names. None means: not given.

    :raises ConfigurationError: a detail has the wrong type, or is empty where it must not be
    """
    payload: dict[str, Any] = {}
    for name, value in details.items():
        if value is None:
            continue
        kind, words = _DETAIL_TYPES[name]
        try:
            checked = msgspec.convert(value, kind)
        except msgspec.ValidationError as exc:
            raise ConfigurationError(f"{name} must be {words}, not {value!r}.") from exc
        if (name == "title" and not checked.strip()) or (name == "metadata" and not all(map(str.strip, checked))):
            raise ConfigurationError(f"{name} must be {words}, not {value!r}.")
        if name == "metadata":
            checked = [{"key": key, "value": text} for key, text in checked.items()]
        payload[camel(name)] = checked
    return payload


def check_delegated(options: TransferOptions, payload: Mapping[str, Any]) -> None:
    """An upload token cannot say anything about the container: do not pretend that it can.

    :raises ConfigurationError: something was said
    """
    named = sorted(payload)
    if named:
        raise ConfigurationError(
            f"An upload token cannot set {', '.join(named)}: its videos are named after the file. Use an API key."
        )
    if options.video_id is not None:
        raise ConfigurationError("An upload token makes its own video; video_id needs an API key.")
