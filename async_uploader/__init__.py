"""Upload videos to api.video in concurrent parts.

>>> import asyncio
>>> from async_uploader import upload
>>> video = asyncio.run(upload("movie.mp4", title="Holidays"))  # doctest: +SKIP

Only the names in ``__all__``, and those of the modules ``events``, ``emulator``, ``telemetry`` and
``pytest_plugin``, are public. Names are loaded when they are first used, so that ``import async_uploader`` is
fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from ._client import Client, upload
    from ._control import UploadControl
    from ._errors import (
        ApiError,
        AuthenticationError,
        ConfigurationError,
        ConflictError,
        SlowConnectionError,
        SourceError,
        SourceFailed,
        SourceUnavailable,
        TransportError,
        UploaderError,
        UploadFailed,
    )
    from ._models import (
        BytesRange,
        Encoding,
        EncodingMetadata,
        Ingest,
        Metadata,
        Model,
        Quality,
        ReceivedParts,
        UploadToken,
        Video,
        VideoAssets,
        VideoSource,
        VideoStatus,
    )
    from ._progress import OnProgress, Progress
    from ._resume.unfinished import UnfinishedUpload, forget_unfinished, list_unfinished
    from ._types import (
        ContainerDetails,
        Failed,
        Fetch,
        ImportOptions,
        OnStatus,
        OnVideo,
        Ranges,
        RemoteFile,
        ResumeMode,
        SidecarOptions,
        Source,
        SupportsRead,
        Uploaded,
        UploadItem,
        UploadOptions,
        UploadResult,
    )
    from ._uploads.many import Uploads
    from ._uploads.session import UploadSession
    from .events import OnEvent

_MODULES = {
    "_client": ("Client", "upload"),
    "_control": ("UploadControl",),
    "_errors": (
        "ApiError",
        "AuthenticationError",
        "ConfigurationError",
        "ConflictError",
        "SlowConnectionError",
        "SourceError",
        "SourceFailed",
        "SourceUnavailable",
        "TransportError",
        "UploadFailed",
        "UploaderError",
    ),
    "_models": (
        "BytesRange",
        "Encoding",
        "EncodingMetadata",
        "Ingest",
        "Metadata",
        "Model",
        "Quality",
        "ReceivedParts",
        "UploadToken",
        "Video",
        "VideoAssets",
        "VideoSource",
        "VideoStatus",
    ),
    "_progress": ("OnProgress", "Progress"),
    "_resume.unfinished": ("UnfinishedUpload", "forget_unfinished", "list_unfinished"),
    "_types": (
        "ContainerDetails",
        "Failed",
        "ImportOptions",
        "OnStatus",
        "OnVideo",
        "Fetch",
        "Ranges",
        "RemoteFile",
        "ResumeMode",
        "SidecarOptions",
        "Source",
        "SupportsRead",
        "UploadItem",
        "UploadOptions",
        "UploadResult",
        "Uploaded",
    ),
    "_uploads.many": ("Uploads",),
    "_uploads.session": ("UploadSession",),
    "events": ("OnEvent",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = (
    "ApiError",
    "AuthenticationError",
    "BytesRange",
    "Client",
    "ConfigurationError",
    "ConflictError",
    "ContainerDetails",
    "Encoding",
    "EncodingMetadata",
    "Failed",
    "Fetch",
    "ImportOptions",
    "Ingest",
    "Metadata",
    "Model",
    "OnEvent",
    "OnProgress",
    "OnStatus",
    "OnVideo",
    "Progress",
    "Quality",
    "Ranges",
    "ReceivedParts",
    "RemoteFile",
    "ResumeMode",
    "SidecarOptions",
    "SlowConnectionError",
    "Source",
    "SourceError",
    "SourceFailed",
    "SourceUnavailable",
    "SupportsRead",
    "TransportError",
    "UnfinishedUpload",
    "UploadControl",
    "UploadFailed",
    "UploadItem",
    "UploadOptions",
    "UploadResult",
    "UploadSession",
    "UploadToken",
    "Uploaded",
    "UploaderError",
    "Uploads",
    "Video",
    "VideoAssets",
    "VideoSource",
    "VideoStatus",
    "__version__",
    "forget_unfinished",
    "list_unfinished",
    "upload",
)


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{module}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
