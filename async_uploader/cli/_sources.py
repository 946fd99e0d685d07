"""Finds the sources of an ``upload`` command, without opening them."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fnmatch import translate
from typing import Any, BinaryIO, Final

from async_uploader import SourceError
from async_uploader._catalogue.item import STDIN, STDIN_NAME, Item
from async_uploader._catalogue.os_errors import describe_os_error
from async_uploader._options import DEFAULT_MAX_ATTEMPTS, DEFAULT_STALL_TIMEOUT_SECONDS
from async_uploader._urls import STORE_SCHEMES, remote_scheme

from ._listing import Listing
from ._params import usage_error
from ._sidecar_files import SidecarIndex
from ._upload_flags import UploadFlags


def collect_sources(flags: UploadFlags) -> list[Item | Listing]:
    """All sources of a command, in order. Nothing is requested.

    :raises SourceError: a directory, or the manifest as a whole, cannot be used
    :raises UsageError: the arguments contradict each other
    """
    if flags.manifest is not None:
        from async_uploader._catalogue.manifest import read_manifest

        listed = (replace(item, is_fetched=flags.fetch == "here") for item in read_manifest(flags.manifest))
        return _with_sidecars(_mark_duplicates(listed), flags)
    sources = flags.sources or []
    if sources == [STDIN]:
        return [Item(source=STDIN)]
    if STDIN in sources:
        raise usage_error("Standard input (-) cannot be used with other sources.")
    if flags.selects_files and not any(os.path.isdir(source) or _is_store(source) for source in sources):
        raise usage_error("--recursive, --include and --exclude require a directory as a source.")
    return _with_sidecars(_mark_duplicates(each for source in sources for each in _expand(source, flags)), flags)


def _with_sidecars(sources: Iterable[Item | Listing], flags: UploadFlags) -> list[Item | Listing]:
    if not flags.sidecars:
        return list(sources)
    index = SidecarIndex()
    return [index.added_to(each) if isinstance(each, Item) else each for each in sources]


def _mark_duplicates(sources: Iterable[Item | Listing]) -> Iterator[Item | Listing]:
    locations: dict[str, str] = {}
    for item in sources:
        if isinstance(item, Listing):
            yield item
            continue
        path = item.real_path
        if "idempotency_key" in item.details:  # the key says whether it becomes another video
            yield item
        elif path in locations and not item.problem:
            first = f"; it is also in {locations[path]}" if locations[path] else ""
            yield replace(item, problem=f"{item.display_path} is listed twice{first}.")
        else:
            locations[path] = item.location
            yield item


def _expand(source: str, flags: UploadFlags) -> Iterable[Item | Listing]:
    if flags.selects_files and _is_store(source):
        return [_listing_of(source, flags)]
    is_fetched = flags.fetch == "here"
    return [Item(source=path, is_fetched=is_fetched) for path in _expand_path(source, flags)]


def _expand_path(source: str, flags: UploadFlags) -> list[str]:
    if remote_scheme(source) or not os.path.isdir(source):
        return [source]
    if not flags.selects_files:
        raise SourceError(
            f"{source} is a directory. Add --recursive to upload all files below it, "
            "or --include GLOB to upload files in it."
        )
    paths = list(files_in(source, flags))
    if flags.sidecars:
        paths = SidecarIndex().without_sidecars(paths)
    if not paths:
        raise SourceError(f"{source} has no files to upload.")
    return paths


def _is_store(source: str) -> bool:
    return remote_scheme(source) in STORE_SCHEMES


def _listing_of(url: str, flags: UploadFlags) -> Listing:
    is_selected = _selector(flags)
    return Listing(
        url,
        is_selected=lambda key: (flags.recursive or "/" not in key) and is_selected(key),
        stall_seconds=flags.stall_timeout or DEFAULT_STALL_TIMEOUT_SECONDS,
        max_attempts=flags.max_attempts or DEFAULT_MAX_ATTEMPTS,
    )


def _raise_source_error(error: OSError) -> None:
    raise SourceError(f"Cannot read {error.filename}: {describe_os_error(error)}.") from error


def files_in(
    directory: str, flags: UploadFlags, *, on_error: Callable[[OSError], object] = _raise_source_error
) -> Iterator[str]:
    """Selected files, sorted; without hidden files, special files and directories behind symbolic links.

    A symbolic link to another file that is found is skipped: it would upload that file twice.

    :param on_error: called with the error of a directory that cannot be read; default: raise a SourceError
    """
    paths = list(_matching_paths(directory, flags, on_error))
    targets = {os.path.realpath(path) for path in paths if not os.path.islink(path)}
    for path in paths:
        if not os.path.islink(path):
            yield path
        elif (target := os.path.realpath(path)) not in targets:
            targets.add(target)
            yield path


def _matching_paths(directory: str, flags: UploadFlags, on_error: Callable[[OSError], object]) -> Iterator[str]:
    is_selected = _selector(flags)
    # Files that an earlier run of the same command has written.
    outputs = {os.path.realpath(path) for path in (flags.report, flags.results) if path is not None}
    for parent, directories, names in os.walk(directory, onerror=on_error):
        directories[:] = sorted(name for name in directories if name[0] != "." and flags.recursive)
        for name in sorted(names):
            path = os.path.join(parent, name)
            relative = os.path.relpath(path, directory)
            if not is_selected(relative) or not os.path.isfile(path):
                continue
            if not (outputs and os.path.realpath(path) in outputs):
                yield path


def _selector(flags: UploadFlags) -> Callable[[str], bool]:
    """Whether ``--include`` and ``--exclude`` select a file that is not hidden, by its path below the source."""
    is_included, is_excluded = _glob_matcher(flags.include or ["*"]), _glob_matcher(flags.exclude or [])

    def is_selected(path: str) -> bool:
        return os.path.basename(path)[0] != "." and is_included(path) and not is_excluded(path)

    return is_selected


def _glob_matcher(globs: Iterable[str]) -> Callable[[str], bool]:
    patterns = [("/" in glob, re.compile(translate(glob), re.IGNORECASE)) for glob in globs]

    def matches(path: str) -> bool:
        name = os.path.basename(path)
        return any(pattern.match(path if is_path else name) for is_path, pattern in patterns)

    return matches


class StandardInput:
    """Standard input as a binary file object that computes the SHA-256 of what is read.

    :ivar name: the default title of the video
    """

    name: Final = STDIN_NAME

    def __init__(self) -> None:
        if sys.stdin is None:
            raise usage_error("Standard input is closed.")
        self._file: BinaryIO = sys.stdin.buffer
        if self._file.isatty():
            raise usage_error("Standard input is a terminal. Redirect a file or a pipe to it.")
        self._digest = hashlib.sha256()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, count_bytes: int) -> bytes:
        """Read the bytes that are available, at most ``count_bytes``; empty at the end."""
        chunk: bytes = self._file.read1(count_bytes)  # type: ignore[attr-defined]
        self._digest.update(chunk)
        return chunk

    read1 = read

    @property
    def sha256(self) -> str:
        """The SHA-256 of all bytes read so far, in hexadecimal."""
        return self._digest.hexdigest()
