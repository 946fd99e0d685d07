"""Parses JSON, headers and text of responses. Pure: every input results in a value, never in an exception."""

from __future__ import annotations

import json
import math
import time
import types
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Final, get_args, get_origin

# The service nests four levels. Writing JSON, `repr()` and comparison recurse, and fail near a thousand levels.
_MAX_DEPTH: Final = 64
# Longer numbers overflow a float, and `int()` refuses more than 4300 digits.
_MAX_DIGITS: Final = 300
# Digits of a count in a header. No account has so many requests, and larger numbers could overflow.
_MAX_COUNT_DIGITS: Final = 15
# Longer than any wait. Larger numbers overflow clocks and timers.
_MAX_SECONDS: Final = 1e9
# Longer texts are truncated in messages.
_MAX_TEXT_LENGTH: Final = 500
# Servers refuse longer header lines. No token of the service comes near this length.
_MAX_CREDENTIAL_LENGTH: Final = 8192
_MAX_ID_LENGTH: Final = 256
# 64 bits: larger numbers would overflow the journal's database. No number of the service comes near this.
_MAX_WHOLE_NUMBER: Final = 2**63 - 1
_MAX_NUMBER_DIGITS: Final = 40


def json_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object; an empty one if the body is anything else, or is nested too deeply.

    The result can be written as JSON again: NaN, infinities and numbers of more than 300 digits become None, and
    lone surrogates become U+FFFD.
    """
    try:
        value = json.loads(body, parse_int=_int, parse_float=_float, parse_constant=lambda _: None)
        writable = _writable(value, _MAX_DEPTH)
    except (ValueError, RecursionError):
        return {}
    return writable if isinstance(writable, dict) else {}


def _int(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MAX_DIGITS else None


def _float(digits: str) -> float | None:
    return finite if math.isfinite(finite := float(digits)) else None


def _writable(value: Any, levels: int) -> Any:
    if not levels:
        raise RecursionError("nested too deeply")
    match value:
        case str():
            return _without_surrogates(value)
        case list():
            return [_writable(item, levels - 1) for item in value]
        case dict():
            return {_without_surrogates(key): _writable(item, levels - 1) for key, item in value.items()}
        case _:
            return value


def _without_surrogates(text: str) -> str:
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def single_line(value: object) -> str | None:
    """A text for a message: one line of limited length, without control characters. None if it is not text."""
    if not isinstance(value, str):
        return None
    line = " ".join(value[: 2 * _MAX_TEXT_LENGTH].split())
    line = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)
    return line if len(line) <= _MAX_TEXT_LENGTH else line[:_MAX_TEXT_LENGTH] + "…"


def identifier(value: object) -> str | None:
    """An id that can be a segment of a path; None if it cannot."""
    is_id = _is_visible_ascii(value, _MAX_ID_LENGTH) and str(value).strip(".")
    return str(value) if is_id else None


def credential(value: object) -> str | None:
    """A token that can be sent in a header; None if it cannot. A line break would start another header."""
    return str(value) if _is_visible_ascii(value, _MAX_CREDENTIAL_LENGTH) else None


def _is_visible_ascii(value: object, max_length: int) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value) <= max_length
        and value.isascii()
        and value.isprintable()
        and " " not in value
    )


def header_count(text: str | None) -> int | None:
    """The value of a header with a count, or None."""
    # `isdigit()` alone accepts characters that `int()` refuses.
    is_count = text is not None and text.isascii() and text.isdigit() and len(text) <= _MAX_COUNT_DIGITS
    return int(text or 0) if is_count else None


def retry_after_seconds(status: int, headers: Mapping[str, str]) -> float | None:
    """How long a response asks to wait; None if it does not say.

    This is ``Retry-After`` or, for a 429, ``X-RateLimit-Retry-After``, whichever is longer.
    """
    names = ["Retry-After", *(["X-RateLimit-Retry-After"] if status == 429 else [])]
    waits = [header_seconds(headers.get(name), date=headers.get("Date")) for name in names]
    return max((wait for wait in waits if wait is not None), default=None)


def header_seconds(text: str | None, *, date: str | None = None) -> float | None:
    """The seconds of a header with a number or a date (RFC 9110, section 10.2.3: proxies may send dates); or None.

    :param date: the ``Date`` of the response, to which a date is relative: the clock of this machine may be wrong
    """
    if text is None or not any(char.isdigit() for char in text):
        return None
    try:
        seconds = float(text)
    except ValueError:
        until = _timestamp(text)
        if until is None:
            return None
        now = _timestamp(date)
        seconds = until - (time.time() if now is None else now)
    return min(max(seconds, 0.0), _MAX_SECONDS)


def _timestamp(date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None


def whole_number(value: object) -> int | None:
    """Read a JSON value as a whole number: an integer, a float without a fraction, or digits; else None.

    Nothing that the service counts is negative.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MAX_NUMBER_DIGITS:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_WHOLE_NUMBER:
        return None
    return value


def number(value: object) -> float | None:
    """Read a JSON value as a finite number: a number, or its digits; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        read = float(value)
    except (ValueError, OverflowError):
        return None
    return read if math.isfinite(read) else None


def timestamp(value: object) -> datetime | None:
    """Read a JSON value as a point in time in UTC: ISO 8601 text, without an offset taken as UTC; else None."""
    try:
        read = datetime.fromisoformat(value) if isinstance(value, str) else None
        return read and (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


@cache
def shape_of(hint: Any) -> tuple[type, bool]:
    """The type of the value that a field holds, or of its items, and whether it is a list.

    Cached, because type hints are slow to analyse, and every response has many fields.
    """
    kind = get_args(hint)[0] if isinstance(hint, types.UnionType) else hint  # all unions are `kind | None`
    return (get_args(kind)[0], True) if get_origin(kind) is tuple else (kind, False)
