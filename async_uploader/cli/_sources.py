"""What there is to upload, from a command's arguments; nothing of it is opened yet."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fnmatch import translate
from typing import Any, BinaryIO, Final

from async_uploader._errors import SourceError

from ._item import STDIN, STDIN_NAME, Item, is_url
from ._params import usage_error
from ._upload_flags import UploadFlags


def gather(flags: UploadFlags) -> list[Item]:
    """All sources of a command, in their order.

    :raises SourceError: a directory, or a manifest as a whole, cannot be used
    """
    if flags.manifest is not None:
        from ._manifest import read_manifest

        return list(_each_once(read_manifest(flags.manifest)))
    sources = flags.sources or []
    if sources == [STDIN]:
        return [Item(source=STDIN)]
    if STDIN in sources:
        raise usage_error("Standard input (-) cannot be used with other sources.")
    if flags.chooses_files and not any(map(os.path.isdir, sources)):
        raise usage_error("--recursive, --include and --exclude are for directories, and none was named.")
    return list(_each_once(Item(source=path) for source in sources for path in _files_of(source, flags)))


def _each_once(items: Iterable[Item]) -> Iterator[Item]:
    places: dict[str, str] = {}
    for item in items:
        path = item.real_path
        if path in places and not item.problem:
            where = places[path]
            yield replace(item, problem=f"{item.source} is named twice{where and f', first in {where}'}.")
        else:
            places[path] = item.place
            yield item


def _files_of(source: str, flags: UploadFlags) -> Iterable[str]:
    if is_url(source):
        raise usage_error(f"{source} is a URL; use the command 'import', or name it in a --manifest.")
    if not os.path.isdir(source):
        return [source]
    if not flags.chooses_files:
        raise SourceError(
            f"{source} is a directory; with --recursive the files in it are uploaded, "
            "with --include GLOB those of such a name."
        )
    files = list(_files_in(source, flags))
    if not files:
        raise SourceError(f"{source} has no files to upload.")
    return files


def _files_in(directory: str, flags: UploadFlags) -> Iterator[str]:
    """Regular files, sorted; no hidden ones, and no directories behind symbolic links.

    A symbolic link to another file in the directory is that file, and not a second video.
    """
    found = list(_names_in(directory, flags))
    real = {os.path.realpath(path) for path in found if not os.path.islink(path)}
    for path in found:
        if not os.path.islink(path):
            yield path
        elif (target := os.path.realpath(path)) not in real:
            real.add(target)
            yield path


def _names_in(directory: str, flags: UploadFlags) -> Iterator[str]:
    included, excluded = _matching(flags.include or ["*"]), _matching(flags.exclude or [])
    outputs = {os.path.realpath(path) for path in (flags.report, flags.results) if path is not None}
    for where, directories, names in os.walk(directory, onerror=_refuse):
        directories[:] = sorted(name for name in directories if name[0] != "." and flags.recursive)
        for name in sorted(names):
            path = os.path.join(where, name)
            below = os.path.relpath(path, directory)
            if name[0] == "." or not included(below) or excluded(below) or not os.path.isfile(path):
                continue
            # What an earlier run of the same command has written there is no source.
            if not (outputs and os.path.realpath(path) in outputs):
                yield path


def _refuse(error: OSError) -> None:
    raise SourceError(f"{error.filename} cannot be read: {error.strerror}.") from error


def _matching(globs: Iterable[str]) -> Callable[[str], bool]:
    patterns = [("/" in glob, re.compile(translate(glob), re.IGNORECASE)) for glob in globs]

    def matches(path: str) -> bool:
        name = os.path.basename(path)
        return any(pattern.match(path if whole else name) for whole, pattern in patterns)

    return matches


class StandardInput:
    """Standard input as a binary file object, with a name for the video, and its SHA-256 as it passes."""

    name: Final = STDIN_NAME

    def __init__(self) -> None:
        if sys.stdin is None:
            raise usage_error("Standard input is closed.")
        self._file: BinaryIO = sys.stdin.buffer
        if self._file.isatty():
            raise usage_error("Standard input is a terminal; let a pipe or a file flow into it.")
        self._digest = hashlib.sha256()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, count_bytes: int) -> bytes:
        """What is there, at most so much; nothing at the end."""
        chunk: bytes = self._file.read1(count_bytes)  # type: ignore[attr-defined]
        self._digest.update(chunk)
        return chunk

    read1 = read

    @property
    def sha256(self) -> str:
        """Of all that was read."""
        return self._digest.hexdigest()
