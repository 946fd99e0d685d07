"""The types of public signatures that are not models, errors or events: sources, callbacks, options, batches."""
# No `from __future__ import annotations`: see `_public`.

import os
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, TypedDict

from ._control import UploadControl
from ._errors import UploaderError
from ._models import Video, VideoStatus
from ._progress import OnProgress
from ._public import public
from ._urls import display_url, remote_scheme
from .events import OnEvent


@public
class SupportsRead(Protocol):
    """A binary file object, plain or asynchronous."""

    def read(self, count_bytes: int, /) -> bytes | Awaitable[bytes]:
        """Return at most ``count_bytes`` bytes; an empty result is the end."""
        ...


@public
@dataclass(frozen=True, slots=True)
class RemoteFile:
    """An object in a store that you have configured with obstore, as a source.

    For example: ``RemoteFile(obstore.store.S3Store("bucket", region="eu-west-1"), "videos/movie.mp4")``.

    :param store: a store of obstore, or one with the same interface
    :param key: the path of the object in the store
    """

    store: object = field(repr=False)
    key: str


#: What can be uploaded: a path, a URL, a file in an object store, a binary file object, bytes, or an iterable or
#: async iterable of bytes.
Source: TypeAlias = (
    str
    | os.PathLike[str]
    | RemoteFile
    | SupportsRead
    | bytes
    | bytearray
    | memoryview
    | Iterable[bytes]
    | AsyncIterable[bytes]
)

#: Called (plain or async) with the finished video.
OnVideo: TypeAlias = Callable[[Video], Awaitable[object] | object]
#: Called (plain or async) with a status of a video.
OnStatus: TypeAlias = Callable[[VideoStatus], Awaitable[object] | object]

#: How parts are identified: by numbers (progressive upload) or by byte ranges.
Ranges: TypeAlias = Literal["part", "bytes"]
#: From where an interrupted upload can be resumed.
ResumeMode: TypeAlias = Literal["off", "local", "anywhere"]


#: Who downloads a URL: the service, or the uploader, which streams it.
Fetch: TypeAlias = Literal["service", "here"]


@public
class ContainerDetails(TypedDict, total=False):
    """Details of a video, as ``POST /videos`` takes them.

    :param title: default: the name of the source
    :param description: default: none
    :param tags: default: none
    :param metadata: a mapping; default: empty
    :param public: whether everybody can watch the video; default True
    :param panoramic: whether it is a 360° video; default False
    :param mp4_support: whether an MP4 is also made; default True
    :param player_id: default: the player of the account
    :param language: language tag of the audio, such as ``"en"``; default: detected
    :param transcript: whether to make a transcript; default False
    :param transcript_summary: whether to make a summary of the transcript; default False
    :param transcript_summary_attributes: ``"abstract"``, ``"takeaways"`` or both
    :param watermark: watermark, as the service defines it
    :param clip: the part of the source to keep, as the service defines it
    """

    title: str
    description: str
    tags: Sequence[str]
    metadata: Mapping[str, str]
    public: bool
    panoramic: bool
    mp4_support: bool
    player_id: str
    language: str
    transcript: bool
    transcript_summary: bool
    transcript_summary_attributes: Sequence[str]
    watermark: Mapping[str, str]
    clip: Mapping[str, str]


@public
class ImportOptions(ContainerDetails, total=False):
    """All options of :meth:`Client.import_video`; see there."""

    idempotency_key: str | None


@public
class SidecarOptions(TypedDict, total=False):
    """Files to add to the finished video.

    :param captions: WebVTT or SubRip files by language tag, such as ``{"en": "movie.en.vtt"}``; default: none
    :param chapters: WebVTT files by language tag; default: none
    :param thumbnail: JPEG or PNG file; default: a frame of the video
    """

    captions: Mapping[str, str | os.PathLike[str]]
    chapters: Mapping[str, str | os.PathLike[str]]
    thumbnail: str | os.PathLike[str]


@public
class UploadOptions(ImportOptions, SidecarOptions, total=False):
    """All options of :meth:`Client.upload`; see there."""

    video_id: str | None
    ranges: Ranges
    part_size: int | None
    concurrency: int | None
    max_attempts: int
    stall_timeout: float
    resume: ResumeMode
    fetch: Fetch
    key_from_source: bool
    keep_finished: bool
    checksum: bool
    control: UploadControl | None
    max_latency: float | None
    on_progress: OnProgress | None
    on_video: OnVideo | None
    on_event: OnEvent | None


@public
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class UploadItem:
    """A source with options of its own, for :meth:`Client.upload_many`.

    :ivar source: as in :meth:`Client.upload`; the service imports an ``http(s)`` URL itself
    :ivar options: as in :meth:`Client.upload`; default: none
    :ivar idempotency_key: all uploads with this key result in one video; default: none
    """

    source: Source
    options: UploadOptions = field(default_factory=UploadOptions)
    idempotency_key: str | None = None

    def __repr__(self) -> str:
        # One short line: no contents, and no query of a URL, which may be signed.
        if isinstance(self.source, str | os.PathLike):
            path = os.fspath(self.source)
            return f"UploadItem(source={display_url(path) if remote_scheme(path) else path!r})"
        return f"UploadItem(source=<{type(self.source).__name__}>)"

    @property
    def is_url(self) -> bool:
        """Whether the service imports the source itself: a web URL, unless its option ``fetch`` is ``"here"``."""
        is_web = isinstance(self.source, str) and self.source.startswith(("http://", "https://"))
        return is_web and self.options.get("fetch") != "here"


@public
@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """A result of :meth:`Client.upload_many`: the upload has finished.

    :ivar item: the item; a plain source is wrapped in an :class:`UploadItem`
    :ivar video: the finished video, or the container of an import
    :ivar error: None
    """

    item: UploadItem
    video: Video
    error: None = field(default=None, init=False, repr=False)


@public
@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A result of :meth:`Client.upload_many`: the upload has failed.

    :ivar item: the item; a plain source is wrapped in an :class:`UploadItem`
    :ivar video: None
    :ivar error: why it failed; an unexpected exception of a callback is its ``__cause__``
    """

    item: UploadItem
    video: None = field(default=None, init=False, repr=False)
    error: UploaderError


#: A result of :meth:`Client.upload_many`.
UploadResult: TypeAlias = Uploaded | Failed
