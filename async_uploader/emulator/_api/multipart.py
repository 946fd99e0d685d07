"""An incremental parser of `multipart/form-data` (RFC 7578): takes bytes, returns events, and buffers nothing.

aiohttp's reader returns blocks of 8 KiB and needs several awaits for each. This parser searches each block from
the socket for the boundary with `bytes.find`, and returns blocks without a boundary uncopied. It is strict: a
malformed form raises `MalformedForm`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_HEADER_BYTES: Final = 16 * 1024
MAX_PREAMBLE_BYTES: Final = 64 * 1024
MAX_FIELDS: Final = 100

_PARAMETER: Final = re.compile(rb';\s*([A-Za-z0-9*_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s";]*))\s*', re.DOTALL)
_BOUNDARY: Final = re.compile(rb"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")


class MalformedForm(Exception):
    """The body is not a valid form; the message says why."""


@dataclass(frozen=True, slots=True)
class Field:
    """The start of a field. `file_name` is None if the field is not a file."""

    name: str
    file_name: str | None


@dataclass(frozen=True, slots=True)
class Data:
    """A block of the current field's value."""

    block: bytes | memoryview


class End(Enum):
    FIELD = auto()
    FORM = auto()


Event: TypeAlias = Field | Data | End


class _State(Enum):
    PREAMBLE = auto()
    AFTER_BOUNDARY = auto()
    HEADERS = auto()
    CONTENT = auto()
    EPILOGUE = auto()


def boundary_of(content_type: str) -> bytes | None:
    """The boundary of a `multipart/form-data` media type; None for any other media type."""
    kind, _, rest = content_type.encode("utf-8", "surrogateescape").partition(b";")
    if kind.strip().lower() != b"multipart/form-data":
        return None
    boundary = _parameters(b";" + rest).get("boundary", b"")
    return boundary if _BOUNDARY.fullmatch(boundary) else None


class FormParser:
    """Parses blocks into events. `End.FORM` is the last event; everything after it is ignored."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._kept = b"\r\n"  # makes a boundary at the start of the body a delimiter like any other
        self._state = _State.PREAMBLE
        self._fields = 0
        self._skipped = 0

    @property
    def is_finished(self) -> bool:
        return self._state is _State.EPILOGUE

    def feed(self, block: bytes) -> Iterator[Event]:
        """Parse the next block.

        :raises MalformedForm: the body is not a valid form
        """
        data = self._kept + block if self._kept else block
        self._kept = b""
        position = 0
        while True:
            step = self._step(data, position)
            if step is None:
                return
            event, position = step
            if event is not None:
                yield event

    def _step(self, data: bytes, start: int) -> tuple[Event | None, int] | None:
        """Parse one step: an event (or None) and the next position; None if more bytes are needed."""
        match self._state:
            case _State.PREAMBLE:
                return self._preamble(data, start)
            case _State.CONTENT:
                return self._content(data, start)
            case _State.AFTER_BOUNDARY:
                return self._after_boundary(data, start)
            case _State.HEADERS:
                return self._headers(data, start)
            case _State.EPILOGUE:
                return None

    def _preamble(self, data: bytes, start: int) -> tuple[Event | None, int] | None:
        found = data.find(self._delimiter, start)
        if found < 0:
            self._kept = data[self._held_from(data, start) :]
            self._skipped += len(data) - len(self._kept)
            if self._skipped > MAX_PREAMBLE_BYTES:
                raise MalformedForm("The body contains no boundary.")
            return None
        self._state = _State.AFTER_BOUNDARY
        return None, found + len(self._delimiter)

    def _content(self, data: bytes, start: int) -> tuple[Event | None, int] | None:
        found = data.find(self._delimiter, start)
        if found < 0:
            end = self._held_from(data, start)
            if end > start:
                return _slice(data, start, end), end
            self._kept = data[end:]
            return None
        if found > start:
            return _slice(data, start, found), found
        self._state = _State.AFTER_BOUNDARY
        return End.FIELD, found + len(self._delimiter)

    def _after_boundary(self, data: bytes, start: int) -> tuple[Event | None, int] | None:
        if data.startswith(b"--", start):
            self._state = _State.EPILOGUE
            return End.FORM, start + 2
        line_end = data.find(b"\r\n", start)
        padding = data[start:] if line_end < 0 else data[start:line_end]
        if line_end < 0 and len(padding) < MAX_HEADER_BYTES and padding.strip(b" \t\r") in (b"", b"-"):
            self._kept = padding
            return None
        if line_end < 0 or padding.strip(b" \t"):
            raise MalformedForm("A boundary is not followed by the end of the line.")
        self._state = _State.HEADERS
        return None, line_end  # keeps the end of the line: a header block may be empty

    def _headers(self, data: bytes, start: int) -> tuple[Event | None, int] | None:
        end = data.find(b"\r\n\r\n", start)
        if (end if end >= 0 else len(data)) - start > MAX_HEADER_BYTES:
            raise MalformedForm("The headers of a field are too long.")
        if end < 0:
            self._kept = data[start:]
            return None
        self._fields += 1
        if self._fields > MAX_FIELDS:
            raise MalformedForm("The form has too many fields.")
        self._state = _State.CONTENT
        return _parse_field(data[start + 2 : end]), end + 4

    def _held_from(self, data: bytes, start: int) -> int:
        """Where an incomplete delimiter at the end of `data` starts; `len(data)` if there is none."""
        position = max(start, len(data) - len(self._delimiter) + 1)
        while (position := data.find(b"\r", position)) >= 0:
            if self._delimiter.startswith(data[position:]):
                return position
            position += 1
        return len(data)


def _slice(data: bytes, start: int, end: int) -> Data:
    return Data(data if start == 0 and end == len(data) else memoryview(data)[start:end])


def _parse_field(headers: bytes) -> Field:
    for line in headers.split(b"\r\n"):
        key, colon, value = line.partition(b":")
        if not colon:
            raise MalformedForm("A header of a field has no colon.")
        if key.strip().lower() == b"content-disposition":
            kind, _, rest = value.partition(b";")
            if kind.strip().lower() != b"form-data":
                raise MalformedForm("The Content-Disposition of a field is not form-data.")
            return _make_field(_parameters(b";" + rest))
    raise MalformedForm("A field has no Content-Disposition.")


def _make_field(parameters: dict[str, bytes]) -> Field:
    if "name" not in parameters:
        raise MalformedForm("A field has no name.")
    file_name = parameters.get("filename")
    if (extended := parameters.get("filename*")) is not None:
        file_name = unquote_to_bytes(extended.split(b"'", 2)[-1])
    elif file_name is not None:
        # The HTML standard requires clients to percent-encode these three characters in a file name.
        for code, plain in ((b"%22", b'"'), (b"%0D", b"\r"), (b"%0A", b"\n")):
            file_name = file_name.replace(code, plain)
    return Field(_text(parameters["name"]), None if file_name is None else _text(file_name))


def _parameters(text: bytes) -> dict[str, bytes]:
    parameters: dict[str, bytes] = {}
    position = 0
    while match := _PARAMETER.match(text, position):
        quoted, plain = match[2], match[3]
        value = plain if quoted is None else re.sub(rb'\\(["\\])', rb"\1", quoted)
        parameters.setdefault(match[1].decode().lower(), value)
        position = match.end()
    return parameters


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
