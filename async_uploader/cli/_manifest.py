"""A manifest: many sources in one file, a line each, with what is to be told about each video.

CSV with a header line (separated by comma, semicolon or tab), or a JSON object a line; by the file's suffix, or
else by its first character. The columns are ``source`` (``path``, ``file`` and ``url`` mean the same) and the
names of :class:`~async_uploader.ContainerDetails`, as Python or as the service spells them. An empty cell, or
``null``, says nothing. In CSV, ``tags`` are separated by ``|``, and flags are true or false; mappings are JSON
objects, or one column for each key: ``metadata.place``.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, Final, TextIO, cast, get_origin, get_type_hints

from async_uploader._errors import ConfigurationError, SourceError
from async_uploader._models import camel
from async_uploader._options import container_payload
from async_uploader._types import ContainerDetails

from ._item import Item, is_url

Fields = dict[str, Any]

_KINDS: Final[Mapping[str, Any]] = get_type_hints(ContainerDetails)
_SOURCES: Final = ("source", "path", "file", "url")
_NAMES: Final = {spelling.lower(): name for name in (*_SOURCES, *_KINDS) for spelling in (name, camel(name))}
_FLAGS: Final = {
    **dict.fromkeys(("true", "yes", "1"), True),
    **dict.fromkeys(("false", "no", "0"), False),
}


def read_manifest(path: Path) -> list[Item]:
    """All its lines; one that cannot be meant has its problem.

    :raises SourceError: the file as a whole cannot be used
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = _csv_lines(file) if _is_csv(path, file) else _json_lines(file)
            items = [_item(f"{path}, line {number}", fields, path.parent) for number, fields in lines]
    except (UnicodeDecodeError, csv.Error, ConfigurationError) as exc:
        reason = "it is not UTF-8 text." if isinstance(exc, UnicodeDecodeError) else exc
        raise SourceError(f"The manifest {path} cannot be used: {reason}") from exc
    except OSError as exc:
        raise SourceError(f"The manifest {path} cannot be read: {exc.strerror}.") from exc
    if not items:
        raise SourceError(f"The manifest {path} names nothing.")
    return items


def _is_csv(path: Path, file: TextIO) -> bool:
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return True
    start = file.read(1)
    file.seek(0)
    return suffix not in (".jsonl", ".ndjson", ".json") and start != "{"


def _csv_lines(file: TextIO) -> Iterator[tuple[int, Callable[[], Fields]]]:
    header = file.readline()
    file.seek(0)
    rows = csv.reader(file, delimiter=max(",;\t", key=header.count), strict=True)
    columns = [_column(text) for text in next(rows, [])]
    if len(set(columns)) < len(columns):
        raise ConfigurationError("its header has a column twice.")
    number = rows.line_num + 1
    for row in rows:
        if row:
            yield number, partial(_fields_of_cells, columns, row)
        number = rows.line_num + 1


def _fields_of_cells(columns: Sequence[tuple[str, str]], cells: Sequence[str]) -> Fields:
    if len(cells) != len(columns):
        raise ConfigurationError(f"there are {len(cells)} cells, and {len(columns)} columns.")
    return _fields(
        (name, key, cell if key else _value(name, cell.strip()))
        for (name, key), cell in zip(columns, cells, strict=True)
        if cell.strip()
    )


def _value(name: str, text: str) -> object:
    kind = _KINDS.get(name, str)
    if kind is bool:
        return _FLAGS.get(text.lower(), text)
    if get_origin(kind) is Sequence:
        return [part for part in map(str.strip, text.split("|")) if part]
    if get_origin(kind) is Mapping:
        with suppress(ValueError):
            return json.loads(text)
    return text


def _json_lines(file: TextIO) -> Iterator[tuple[int, Callable[[], Fields]]]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield number, partial(_fields_of_json, line)


def _fields_of_json(line: str) -> Fields:
    try:
        document = json.loads(line)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ConfigurationError("this is not a JSON object.")
    return _fields((*_column(text), value) for text, value in document.items() if value is not None)


def _fields(values: Iterable[tuple[str, str, object]]) -> Fields:
    fields: Fields = {}
    for name, key, value in values:
        if not key:
            fields.setdefault(name, value)
        elif isinstance(mapping := fields.setdefault(name, {}), dict):
            mapping[key] = value
    return fields


def _column(text: str) -> tuple[str, str]:
    """A column's name and, of one for a single key of a mapping, that key."""
    head, dot, key = text.strip().partition(".")
    name = _NAMES.get(head.lower(), "")
    if not name or (dot and (not key or get_origin(_KINDS.get(name)) is not Mapping)):
        nearest = get_close_matches(head.lower(), _NAMES, n=1, cutoff=0)[0]
        raise ConfigurationError(f"there is no column {text!r}; did you mean {_NAMES[nearest]!r}?")
    return name, key


def _item(place: str, read: Callable[[], Fields], directory: Path) -> Item:
    try:
        fields = read()
        given = [fields.pop(name) for name in _SOURCES if name in fields]
        if len(given) != 1 or not isinstance(given[0], str):
            raise ConfigurationError("one source must be named, in the column 'source'.")
        container_payload(fields)
    except ConfigurationError as exc:
        return Item(source="", place=place, problem=str(exc))
    source = given[0] if is_url(given[0]) else os.path.join(directory, given[0])
    return Item(source=source, place=place, details=cast("ContainerDetails", fields))
