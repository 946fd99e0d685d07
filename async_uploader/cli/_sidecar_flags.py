"""The options for captions, chapters and thumbnails."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from ._flags import ServiceFlags
from ._params import PANELS, flags, option

_DETAILS, *_ = PANELS

#: Options that name the files of one video.
SIDECAR_OPTIONS: Final = ("captions", "chapters", "thumbnail")


@flags
class SidecarFlags(ServiceFlags):
    """Files to add to the finished video. The fields are those of ``SidecarOptions``, and ``sidecars``."""

    captions: Annotated[
        list[str] | None,
        option(
            metavar="LANG=FILE",
            panel=_DETAILS,
            help="Add captions: a .vtt or .srt file, such as en=movie.en.vtt (default: none). May be repeated.",
        ),
    ] = None
    chapters: Annotated[
        list[str] | None,
        option(
            metavar="LANG=FILE",
            panel=_DETAILS,
            help="Add chapters: a .vtt file, such as en=movie.en.chapters.vtt (default: none). May be repeated.",
        ),
    ] = None
    thumbnail: Annotated[
        Path | None,
        option(
            metavar="FILE", panel=_DETAILS, help="Thumbnail: a .jpg or .png file (default: a frame of the video)"
        ),
    ] = None
    sidecars: Annotated[
        bool,
        option(
            "--sidecars",
            panel=_DETAILS,
            help="Add the files beside each source: movie.en.vtt, movie.en.chapters.vtt, movie.jpg or movie.png",
        ),
    ] = False
