"""Concurrent, verified progressive uploads to api.video.

>>> import asyncio
>>> from async_uploader import upload
>>> video = asyncio.run(upload("movie.mp4", title="Holidays"))  # doctest: +SKIP

Only what is listed here is public. The names are loaded when they are first used, so that importing the package
costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from ._client import Client, upload
    from ._errors import (
        ApiError,
        AuthenticationError,
        ConfigurationError,
        SourceError,
        SourceFailed,
        TransportError,
        UploaderError,
        UploadFailed,
    )
    from ._models import UploadToken, Video, VideoAssets, VideoStatus
    from ._options import ContainerDetails, UploadOptions
    from ._progress import Progress
    from ._resume.unfinished import UnfinishedUpload, forget_unfinished, list_unfinished
    from ._uploads.many import UploadItem, UploadResult
    from ._uploads.session import UploadSession

__all__ = (
    "ApiError",
    "AuthenticationError",
    "Client",
    "ConfigurationError",
    "ContainerDetails",
    "Progress",
    "SourceError",
    "SourceFailed",
    "TransportError",
    "UnfinishedUpload",
    "UploadFailed",
    "UploadItem",
    "UploadOptions",
    "UploadResult",
    "UploadSession",
    "UploadToken",
    "UploaderError",
    "Video",
    "VideoAssets",
    "VideoStatus",
    "__version__",
    "forget_unfinished",
    "list_unfinished",
    "upload",
)

_HOMES = {
    "_client": ("Client", "upload"),
    "_models": ("UploadToken", "Video", "VideoAssets", "VideoStatus"),
    "_options": ("ContainerDetails", "UploadOptions"),
    "_uploads.many": ("UploadItem", "UploadResult"),
    "_progress": ("Progress",),
    "_uploads.session": ("UploadSession",),
    "_resume.unfinished": ("UnfinishedUpload", "forget_unfinished", "list_unfinished"),
}


def __getattr__(name: str) -> object:
    if name in __all__:
        home = next((module for module, names in _HOMES.items() if name in names), "_errors")
        value = globals()[name] = getattr(import_module(f".{home}", __name__), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
