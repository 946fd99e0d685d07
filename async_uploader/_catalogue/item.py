"""One source of an upload, as a command or a line of a manifest names it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

from async_uploader import ImportOptions, SidecarOptions, UploadOptions
from async_uploader._urls import display_url, distinct_url, remote_scheme

K = TypeVar("K", ImportOptions, UploadOptions)

STDIN: Final = "-"
STDIN_NAME: Final = "stdin"
_MERGED: Final = frozenset({"metadata", "captions", "chapters"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One source of an upload.

    :param source: a path or a URL; ``-`` for standard input
    :param location: the line of the manifest that names it; empty if there is no manifest
    :param details: the details of the video in that line, and its key
    :param is_fetched: a web URL is streamed through this process, instead of being imported by the service
    :param sidecars: the files beside the source that ``--sidecars`` has found
    :param problem: why it cannot be uploaded, if that is known already
    """

    source: str
    location: str = ""
    details: ImportOptions = field(default_factory=ImportOptions)
    is_fetched: bool = False
    problem: str = ""
    sidecars: SidecarOptions = field(default_factory=SidecarOptions)

    @property
    def is_url(self) -> bool:
        """Whether the source is a URL: of the web, or of an object store."""
        return bool(remote_scheme(self.source))

    @property
    def is_import(self) -> bool:
        """Whether the service downloads the source itself."""
        return is_web_url(self.source) and not self.is_fetched

    @property
    def is_remote(self) -> bool:
        """Whether the source is streamed from an object store or the web."""
        return self.is_url and not self.is_import

    @property
    def is_stream(self) -> bool:
        """Whether the source can be read only once: standard input, or a FIFO."""
        if self.source == STDIN:
            return True
        if self.is_url:
            return False
        with suppress(OSError, ValueError):
            return stat.S_ISFIFO(os.stat(self.source).st_mode)
        return False

    @property
    def display_name(self) -> str:
        """The source in messages."""
        return STDIN_NAME if self.source == STDIN else self._without_query

    @property
    def display_path(self) -> str:
        """The source in results: as the command names it, but without secrets."""
        return self._without_query

    @property
    def absolute_path(self) -> str:
        """The identity of the source in the results file: its absolute path, or its URL."""
        if self.is_url or self.source == STDIN:
            return self._distinct
        return os.path.abspath(self.source)

    @property
    def real_path(self) -> str:
        """The path without symbolic links, which is the same for all names of a file."""
        if self.is_url or self.source == STDIN:
            return self._distinct
        return os.path.realpath(self.source)

    @property
    def _without_query(self) -> str:
        """A URL without its query and its credentials, which are secret."""
        return display_url(self.source) if self.is_url else self.source

    @property
    def _distinct(self) -> str:
        """The same, but different for URLs whose queries name different objects."""
        return distinct_url(self.source) if self.is_url else self.source

    def merged_options(self, options: K) -> K:
        """The options of the command, overridden by the details of this source; mappings are merged."""
        levels = [cast("dict[str, Any]", level) for level in (self.sidecars, options, self.details)]
        merged: dict[str, Any] = {name: value for level in levels for name, value in level.items()}
        for name in _MERGED & merged.keys():
            merged[name] = {key: value for level in levels for key, value in level.get(name, {}).items()}
        return cast("K", merged)


def is_web_url(source: str) -> bool:
    """Whether a source is an http(s) URL."""
    return remote_scheme(source) in ("http", "https")
