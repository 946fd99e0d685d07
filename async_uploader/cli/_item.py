"""One thing to upload, as a command or a line of a manifest names it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

from async_uploader._types import ContainerDetails, UploadOptions

K = TypeVar("K", ContainerDetails, UploadOptions)

STDIN: Final = "-"
STDIN_NAME: Final = "stdin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing to upload.

    :param source: a path or a URL; ``-`` for standard input
    :param place: where it was named, if that was a line of a manifest
    :param details: what that line tells about the video
    :param problem: what is known to be wrong with it
    """

    source: str
    place: str = ""
    details: ContainerDetails = field(default_factory=ContainerDetails)
    problem: str = ""

    @property
    def is_url(self) -> bool:
        """Whether the service fetches it by itself."""
        return is_url(self.source)

    @property
    def is_stream(self) -> bool:
        """Whether it can be read only once: standard input, or a named pipe."""
        if self.source == STDIN:
            return True
        with suppress(OSError, ValueError):
            return stat.S_ISFIFO(os.stat(self.source).st_mode)
        return False

    @property
    def shown(self) -> str:
        """The source for a message."""
        return STDIN_NAME if self.source == STDIN else self.source

    @property
    def path(self) -> str:
        """What tells it from others: the absolute path, or the URL."""
        return self.source if self.is_url or self.source == STDIN else os.path.abspath(self.source)

    @property
    def real_path(self) -> str:
        """The same for all names of a file: without symbolic links, as the journal has it."""
        return self.source if self.is_url or self.source == STDIN else os.path.realpath(self.source)

    def over(self, options: K) -> K:
        """What a command says of all videos, and over it what is said of this one; metadata is joined."""
        told: dict[str, Any] = {**cast("dict[str, Any]", options), **self.details}
        if "metadata" in told:
            told["metadata"] = {**cast("dict[str, Any]", options).get("metadata", {}), **told["metadata"]}
        return cast("K", told)


def is_url(source: str) -> bool:
    """Whether a source is no file."""
    return source.startswith(("http://", "https://"))
