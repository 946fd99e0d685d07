"""An incremental reader of `multipart/form-data` (RFC 7578): bytes in, events out, nothing held.

aiohttp's own reader hands out 8 KiB pieces through several awaits each; this one looks for the boundary in
whatever block the socket gave, with `bytes.find`, and passes the block on uncopied where no boundary is in
it. It is strict: what is not a well-formed form ends in `Malformed`.
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


class Malformed(Exception):
    """The body is no form; the message says why."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field begins; `file_name` is None for one that is no file."""

    name: str
    file_name: str | None


@dataclass(frozen=True, slots=True)
class Data:
    """A piece of the current field."""

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
    """The boundary of a `multipart/form-data` media type; None for anything else."""
    kind, _, rest = content_type.encode("utf-8", "surrogateescape").partition(b";")
    if kind.strip().lower() != b"multipart/form-data":
        return None
    boundary = _parameters(b";" + rest).get("boundary", b"")
    return boundary if _BOUNDARY.fullmatch(boundary) else None


class FormReader:
    """Feed it blocks, take the events; `End.FORM` is the last, and what follows it is ignored."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._kept = b"\r\n"  # so that a boundary at the very start is a delimiter like any other
        self._state = _State.PREAMBLE
        self._fields = 0
        self._skipped = 0

    @property
    def is_finished(self) -> bool:
        return self._state is _State.EPILOGUE

    def feed(self, block: bytes) -> Iterator[Event]:
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
        """One event, or a silent step (None, position); None when more bytes are needed."""
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
                raise Malformed("There is no boundary in the body.")
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
            raise Malformed("A boundary is followed by something else than a line's end.")
        self._state = _State.HEADERS
        return None, line_end  # the line's end stays: a header block may be empty

    def _headers(self, data: bytes, start: int) -> tuple[Event | None, int] | None:
        end = data.find(b"\r\n\r\n", start)
        if (end if end >= 0 else len(data)) - start > MAX_HEADER_BYTES:
            raise Malformed("A field's headers are too long.")
        if end < 0:
            self._kept = data[start:]
            return None
        self._fields += 1
        if self._fields > MAX_FIELDS:
            raise Malformed("There are too many fields.")
        self._state = _State.CONTENT
        return _field(data[start + 2 : end]), end + 4

    def _held_from(self, data: bytes, start: int) -> int:
        """Where an unfinished delimiter at the end of `data` begins; `len(data)` if there is none."""
        position = max(start, len(data) - len(self._delimiter) + 1)
        while (position := data.find(b"\r", position)) >= 0:
            if self._delimiter.startswith(data[position:]):
                return position
            position += 1
        return len(data)


def _slice(data: bytes, start: int, end: int) -> Data:
    return Data(data if start == 0 and end == len(data) else memoryview(data)[start:end])


def _field(headers: bytes) -> Field:
    for line in headers.split(b"\r\n"):
        key, colon, value = line.partition(b":")
        if not colon:
            raise Malformed("A field's header has no colon.")
        if key.strip().lower() == b"content-disposition":
            kind, _, rest = value.partition(b";")
            if kind.strip().lower() != b"form-data":
                raise Malformed("A field's Content-Disposition is not form-data.")
            return _named(_parameters(b";" + rest))
    raise Malformed("A field has no Content-Disposition.")


def _named(parameters: dict[str, bytes]) -> Field:
    if "name" not in parameters:
        raise Malformed("A field has no name.")
    file_name = parameters.get("filename")
    if (extended := parameters.get("filename*")) is not None:
        file_name = unquote_to_bytes(extended.split(b"'", 2)[-1])
    elif file_name is not None:
        # The three characters that the HTML standard has clients percent-encode in a file name.
        for code, plain in ((b"%22", b'"'), (b"%0D", b"\r"), (b"%0A", b"\n")):
            file_name = file_name.replace(code, plain)
    return Field(_text(parameters["name"]), None if file_name is None else _text(file_name))


def _parameters(text: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    position = 0
    while match := _PARAMETER.match(text, position):
        quoted, plain = match[2], match[3]
        value = plain if quoted is None else re.sub(rb'\\(["\\])', rb"\1", quoted)
        found.setdefault(match[1].decode().lower(), value)
        position = match.end()
    return found


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
