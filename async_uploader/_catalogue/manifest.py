"""Reads a manifest: a file that lists many sources, one per line, with the details of their videos.

A manifest is CSV with a header (separated by comma, semicolon or tab) or one JSON object per line. The suffix of
the file selects the format, otherwise its first character. The columns are ``source`` (or ``path``, ``file``,
``url``) and the keys of :class:`~async_uploader.ImportOptions` and :class:`~async_uploader.SidecarOptions`, in the
spelling of Python or of the service. Paths are relative to the manifest.
Empty cells and ``null`` are ignored. In CSV, ``tags`` are separated by ``|``, flags are true or false, and a
mapping is a JSON object or has one column for each key, such as ``metadata.place``.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, Final, TextIO, cast, get_origin, get_type_hints

from async_uploader import ConfigurationError, ImportOptions, SidecarOptions, SourceError, UploadOptions
from async_uploader._models import camel
from async_uploader._options import import_options, split_options
from async_uploader._urls import remote_scheme

from .input_file import read_file
from .item import Item
from .os_errors import describe_os_error

Fields = dict[str, Any]

_TYPES: Final[Mapping[str, Any]] = {**get_type_hints(ImportOptions), **get_type_hints(SidecarOptions)}
_SOURCE_COLUMNS: Final = ("source", "path", "file", "url")
_COLUMNS: Final = {
    spelling.lower(): name for name in (*_SOURCE_COLUMNS, *_TYPES) for spelling in (name, camel(name))
}
_BOOLEANS: Final = {
    **dict.fromkeys(("true", "yes", "1"), True),
    **dict.fromkeys(("false", "no", "0"), False),
}


def read_manifest(path: Path) -> list[Item]:
    """All sources of a manifest. An invalid line becomes an item with a problem.

    :raises SourceError: the file as a whole cannot be used
    """
    try:
        file = StringIO(read_file(path).decode("utf-8-sig"), newline="")
        lines = _csv_lines(file) if _is_csv(path, file) else _json_lines(file)
        items = [_parse_item(f"{path}, line {number}", parse, path.parent) for number, parse in lines]
    except (UnicodeDecodeError, csv.Error, ConfigurationError) as exc:
        reason = "it is not UTF-8 text." if isinstance(exc, UnicodeDecodeError) else exc
        raise SourceError(f"Cannot use the manifest {path}: {reason}") from exc
    except OSError as exc:
        raise SourceError(f"Cannot read the manifest {path}: {describe_os_error(exc)}.") from exc
    if not items:
        raise SourceError(f"The manifest {path} lists no sources.")
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
    columns = [_parse_column(text) for text in next(rows, [])]
    if len(set(columns)) < len(columns):
        raise ConfigurationError("its header has a column twice.")
    # A row may span several lines; its number is that of its first line.
    number = rows.line_num + 1
    for row in rows:
        if row:
            yield number, partial(_parse_cells, columns, row)
        number = rows.line_num + 1


def _parse_cells(columns: Sequence[tuple[str, str]], cells: Sequence[str]) -> Fields:
    if len(cells) != len(columns):
        raise ConfigurationError(f"the line has {len(cells)} cells, but the header has {len(columns)}.")
    return _collect_fields(
        (name, key, cell if key else _parse_cell(name, cell.strip()))
        for (name, key), cell in zip(columns, cells, strict=True)
        if cell.strip()
    )


def _parse_cell(name: str, text: str) -> object:
    """The value of a cell. An invalid text is returned as it is; validation reports it."""
    kind = _TYPES.get(name, str)
    if kind is bool:
        return _BOOLEANS.get(text.lower(), text)
    if get_origin(kind) is Sequence:
        return [part for part in map(str.strip, text.split("|")) if part]
    if get_origin(kind) is Mapping:
        with suppress(ValueError):
            return json.loads(text)
    return text


def _json_lines(file: TextIO) -> Iterator[tuple[int, Callable[[], Fields]]]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield number, partial(_parse_json_line, line)


def _parse_json_line(line: str) -> Fields:
    try:
        document = json.loads(line)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ConfigurationError("this is not a JSON object.")
    return _collect_fields((*_parse_column(text), value) for text, value in document.items() if value is not None)


def _collect_fields(values: Iterable[tuple[str, str, object]]) -> Fields:
    fields: Fields = {}
    for name, key, value in values:
        if not key:
            fields.setdefault(name, value)
        elif isinstance(mapping := fields.setdefault(name, {}), dict):
            mapping[key] = value
    return fields


def _parse_column(text: str) -> tuple[str, str]:
    """The name of a column and, for a column such as ``metadata.place``, its key."""
    head, dot, key = text.strip().partition(".")
    name = _COLUMNS.get(head.lower(), "")
    if not name or (dot and (not key or get_origin(_TYPES.get(name)) is not Mapping)):
        nearest = get_close_matches(head.lower(), _COLUMNS, n=1, cutoff=0)[0]
        raise ConfigurationError(f"there is no column {text!r}; did you mean {_COLUMNS[nearest]!r}?")
    return name, key


def _parse_item(location: str, parse: Callable[[], Fields], directory: Path) -> Item:
    try:
        fields = parse()
        sources = [fields.pop(name) for name in _SOURCE_COLUMNS if name in fields]
        if len(sources) != 1 or not isinstance(sources[0], str):
            raise ConfigurationError("exactly one source is required, in the column 'source'.")
        if remote_scheme(sources[0]) in ("http", "https"):
            import_options(cast("UploadOptions", fields))
        else:
            split_options(fields)
            _resolve_sidecars(fields, directory)
    except ConfigurationError as exc:
        return Item(source="", location=location, problem=str(exc))
    source = sources[0] if remote_scheme(sources[0]) else os.path.join(directory, sources[0])
    return Item(source=source, location=location, details=cast("ImportOptions", fields))


def _resolve_sidecars(fields: Fields, directory: Path) -> None:
    """Make the paths of captions, chapters and the thumbnail relative to the current directory."""
    for name in ("captions", "chapters"):
        if name in fields:
            fields[name] = {
                language: os.path.join(directory, path.strip()) for language, path in fields[name].items()
            }
    if "thumbnail" in fields:
        fields["thumbnail"] = os.path.join(directory, fields["thumbnail"])
