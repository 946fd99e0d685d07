"""Sidecars: captions, chapters and a thumbnail, which are added to a finished video."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from ._errors import ConfigurationError, SourceError
from ._limits import MAX_THUMBNAIL_BYTES
from ._units import format_size

# IETF language tags with dashes, as the service takes them (BCP 47): en, fr-CA, zh-Hans-CN.
LANGUAGE_TAG: Final = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,3}")


class SidecarKind(StrEnum):
    """Kinds of sidecars, as the service names them in paths."""

    THUMBNAIL = "thumbnail"
    CAPTIONS = "captions"
    CHAPTERS = "chapters"


SUFFIXES: Final = {
    SidecarKind.THUMBNAIL: (".jpg", ".jpeg", ".png"),
    SidecarKind.CAPTIONS: (".vtt", ".srt"),
    SidecarKind.CHAPTERS: (".vtt",),
}
# How the files of each kind begin. SubRip has no header, but times soon.
_START_BYTES: Final = 4096
_FORMATS: Final = {
    SidecarKind.THUMBNAIL: re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n"),
    SidecarKind.CAPTIONS: re.compile(rb"(\xef\xbb\xbf)?WEBVTT|.*?-->", re.DOTALL),
    SidecarKind.CHAPTERS: re.compile(rb"(\xef\xbb\xbf)?WEBVTT"),
}
_FORMAT_NAMES: Final = {
    SidecarKind.THUMBNAIL: "a JPEG or PNG file",
    SidecarKind.CAPTIONS: "a WebVTT or SubRip file",
    SidecarKind.CHAPTERS: "a WebVTT file",
}


class Sidecar(Struct, frozen=True, kw_only=True):
    """A file to add to a video.

    :param language: its language tag; None for a thumbnail
    """

    kind: SidecarKind
    path: Path
    language: str | None = None

    @property
    def label(self) -> str:
        """The sidecar in messages: ``captions en``."""
        return self.kind if self.language is None else f"{self.kind} {self.language}"

    def check_file(self) -> None:
        """Check that the file can be sent. Blocks.

        :raises SourceError: it is missing, empty, unreadable, too large, not a regular file, or in a wrong format
        """
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                start = file.read(_START_BYTES) if stat.S_ISREG(status.st_mode) else b""
        except OSError as exc:
            reason = "there is no such file" if isinstance(exc, FileNotFoundError) else _lowered(exc)
            raise SourceError(f"Cannot read {self.path} ({self.label}): {reason}.") from exc
        if not stat.S_ISREG(status.st_mode):
            raise SourceError(f"{self.path} ({self.label}) is not a regular file.")
        if not status.st_size:
            raise SourceError(f"{self.path} ({self.label}) is empty.")
        if self.kind is SidecarKind.THUMBNAIL and status.st_size > MAX_THUMBNAIL_BYTES:
            limit = format_size(MAX_THUMBNAIL_BYTES)
            raise SourceError(f"{self.path} is too large for a thumbnail: the limit is {limit}.")
        if not _FORMATS[self.kind].match(start):
            raise SourceError(f"{self.path} ({self.label}) is not {_FORMAT_NAMES[self.kind]}.")


def _lowered(error: OSError) -> str:
    reason = error.strerror or str(error)
    return reason[:1].lower() + reason[1:]


def parse_sidecars(captions: object, chapters: object, thumbnail: object) -> tuple[Sidecar, ...]:
    """The sidecars of the options with these names, in the order in which they are added.

    :raises ConfigurationError: a value has the wrong type, a language tag is invalid, or a file has a wrong suffix
    """
    found = [] if thumbnail is None else [_parse(SidecarKind.THUMBNAIL, None, thumbnail)]
    for kind, tracks in ((SidecarKind.CAPTIONS, captions), (SidecarKind.CHAPTERS, chapters)):
        if tracks is not None and not isinstance(tracks, Mapping):
            raise ConfigurationError(f"{kind} must be a mapping of language tags to files, not {tracks!r}.")
        found += [_parse(kind, language, path) for language, path in (tracks or {}).items()]
    return tuple(found)


def _parse(kind: SidecarKind, language: object, path: Any) -> Sidecar:
    if language is not None and not (isinstance(language, str) and LANGUAGE_TAG.fullmatch(language)):
        raise ConfigurationError(
            f"{kind} has {language!r} as a language; use a tag with dashes, such as en, fr-CA or zh-Hans-CN."
        )
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise ConfigurationError(f"{kind} must name a file, not {path!r}.")
    if not os.fspath(path).lower().endswith(SUFFIXES[kind]):
        raise ConfigurationError(f"{kind} must be a file that ends with {_alternatives(kind)}, not {path}.")
    return Sidecar(kind=kind, language=language, path=Path(path))


def _alternatives(kind: SidecarKind) -> str:
    *others, last = SUFFIXES[kind]
    return f"{', '.join(others)} or {last}" if others else last


def check_files(sidecars: Iterable[Sidecar]) -> None:
    """Check that all files can be sent. Blocks.

    :raises SourceError: one of them cannot
    """
    for sidecar in sidecars:
        sidecar.check_file()
