"""The attributes that clients send as JSON, and their validation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from async_uploader._limits import MAX_UPLOAD_TOKEN_TTL_SECONDS
from async_uploader.emulator._problems import Problem

Attributes: TypeAlias = dict[str, object]
Validator: TypeAlias = Callable[[object], bool]

_LANGUAGES: Final = re.compile(
    "ar|ca|cs|da|de|el|en|es|fa|fi|fr|he|hi|hr|hu|it|ja|ko|ml|nl|nn|no|pl|pt|ru|sk|sl|te|tr|uk|ur|vi|zh"
)
_WEBHOOK_EVENTS: Final = {
    "live-stream.broadcast.started",
    "live-stream.broadcast.ended",
    "video.source.recorded",
    "video.encoding.quality.completed",
    "video.caption.generated",
    "video.summary.generated",
}
_URL: Final = re.compile(r"https?://[^\s/?#@]+(?:[/?#]\S*)?")
_TIMECODE: Final = re.compile(r"(?:[0-9]{2,3}:[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,3}|:[0-9]{1,2})?|[0-9]{1,7})")
_WATERMARK: Final = {"id", "top", "left", "bottom", "right", "width", "height", "opacity"}


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_title(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_text_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_metadata(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, dict)
        and item.keys() == {"key", "value"}
        and all(isinstance(text, str) for text in item.values())
        for item in value
    )


def _is_language(value: object) -> bool:
    return value is None or (isinstance(value, str) and _LANGUAGES.fullmatch(value) is not None)


def _is_summary(value: object) -> bool:
    return isinstance(value, list) and all(item in ("abstract", "takeaways") for item in value)


def _is_watermark(value: object) -> bool:
    return isinstance(value, dict) and value.keys() <= _WATERMARK and all(map(_is_text, value.values()))


def _is_clip(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() <= {"startTimecode", "endTimecode"}
        and all(map(_is_timecode, value.values()))
    )


def _is_timecode(value: object) -> bool:
    return isinstance(value, str) and _TIMECODE.fullmatch(value) is not None


def _is_false(value: object) -> bool:
    return value is False


def _is_event_list(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_text(e) and e in _WEBHOOK_EVENTS for e in value)


def _is_url(value: object) -> bool:
    return isinstance(value, str) and _URL.fullmatch(value) is not None


def _is_ttl(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_UPLOAD_TOKEN_TTL_SECONDS


UPDATE: Final[Mapping[str, Validator]] = {
    "title": _is_title,
    "description": _is_text,
    "public": _is_flag,
    "panoramic": _is_flag,
    "mp4Support": _is_flag,
    "tags": _is_text_list,
    "metadata": _is_metadata,
    "playerId": _is_text,
    "language": _is_language,
    "transcript": _is_flag,
    "transcriptSummary": _is_flag,
    "transcriptSummaryAttributes": _is_summary,
}
CREATE: Final[Mapping[str, Validator]] = {
    **UPDATE,
    "source": _is_title,
    "clip": _is_clip,
    "watermark": _is_watermark,
}
UPLOAD_TOKEN: Final[Mapping[str, Validator]] = {"ttl": _is_ttl}
CAPTION: Final[Mapping[str, Validator]] = {"default": _is_flag}
TIMECODE: Final[Mapping[str, Validator]] = {"timecode": _is_timecode}
RESTORE: Final[Mapping[str, Validator]] = {"discarded": _is_false}
WEBHOOK: Final[Mapping[str, Validator]] = {"events": _is_event_list, "url": _is_url}
LOGIN: Final[Mapping[str, Validator]] = {"apiKey": _is_text}
REFRESH: Final[Mapping[str, Validator]] = {"refreshToken": _is_text}

DEFAULTS: Final[Mapping[str, object]] = {
    "description": "",
    "public": True,
    "panoramic": False,
    "mp4Support": True,
    "tags": [],
    "metadata": [],
}


def check_attributes(
    payload: object, validators: Mapping[str, Validator], *, required: tuple[str, ...] = ()
) -> Attributes:
    """Check that a payload is an object with valid attributes.

    :raises Problem: attributes are missing, unknown or invalid; the first is the problem, with the others in
        `problems`
    """
    if not isinstance(payload, dict):
        raise Problem("invalid-payload")
    problems = [Problem("attribute-required", name=name) for name in required if name not in payload]
    problems += [
        Problem("invalid-attribute", name=name)
        for name, value in payload.items()
        if name not in validators or not validators[name](value)
    ]
    if problems:
        first, *others = problems
        raise Problem(first.slug, name=first.name, problems=tuple(others))
    return payload
