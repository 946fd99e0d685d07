"""``--sidecars``: finds captions, chapters and thumbnails beside the sources."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

from async_uploader import SidecarOptions
from async_uploader._catalogue.item import Item
from async_uploader._sidecars import LANGUAGE_TAG

_TRACK: Final = re.compile(
    rf"(?P<stem>.+)\.(?P<language>{LANGUAGE_TAG.pattern})(?P<chapters>\.chapters)?\.vtt", re.IGNORECASE
)
_PICTURE: Final = re.compile(r"(?P<stem>.+)\.(?:jpe?g|png)", re.IGNORECASE)


class SidecarIndex:
    """The sidecars in directories, each of which is read once."""

    def __init__(self) -> None:
        self._directories: dict[str, dict[str, dict[str, Any]]] = {}

    def beside(self, source: str) -> SidecarOptions:
        """The sidecars of a source."""
        directory, name = os.path.split(source)
        if directory not in self._directories:
            self._directories[directory] = _read_directory(directory)
        return cast("SidecarOptions", self._directories[directory].get(Path(name).stem, {}))

    def without_sidecars(self, paths: Iterable[str]) -> list[str]:
        """The paths that are not sidecars of another one."""
        paths = list(paths)
        sources = [path for path in paths if not _is_sidecar_name(path)]
        sidecars = {os.path.realpath(file) for source in sources for file in _files(self.beside(source))}
        return [path for path in paths if os.path.realpath(path) not in sidecars]

    def added_to(self, item: Item) -> Item:
        """An item with the sidecars beside it; those of a manifest take precedence."""
        if item.is_url or item.is_stream or item.problem:
            return item
        return replace(item, sidecars=self.beside(item.source))


def _read_directory(directory: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    names: list[str] = []
    with suppress(OSError):
        # Reversed, so that movie.jpg replaces movie.png.
        names = sorted(os.listdir(directory or "."), reverse=True)
    for name in names:
        path = os.path.join(directory, name)
        if (match := _TRACK.fullmatch(name)) is not None:
            kind = "chapters" if match["chapters"] else "captions"
            found.setdefault(match["stem"], {}).setdefault(kind, {})[match["language"]] = path
        elif (match := _PICTURE.fullmatch(name)) is not None:
            found.setdefault(match["stem"], {})["thumbnail"] = path
    return found


def _is_sidecar_name(path: str) -> bool:
    name = os.path.basename(path)
    return _TRACK.fullmatch(name) is not None or _PICTURE.fullmatch(name) is not None


def _files(sidecars: SidecarOptions) -> Iterable[str]:
    for tracks in (sidecars.get("captions"), sidecars.get("chapters")):
        yield from (os.fspath(path) for path in (tracks or {}).values())
    if (thumbnail := sidecars.get("thumbnail")) is not None:
        yield os.fspath(thumbnail)
