"""The options of ``upload`` and ``import``, each declared once; those of the video are in `_detail_flags`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from async_uploader._units import parse_size

from . import _completion
from ._detail_flags import DetailFlags
from ._flags import ServiceFlags
from ._params import PANELS, argument, flags, option, usage_error

if TYPE_CHECKING:
    from async_uploader._types import UploadOptions

_, _MANY, _TRANSFER, _SERVICE, _OUTPUT = PANELS


@flags
class WaitFlags(ServiceFlags):
    """Whether to see a video through its encoding."""

    wait: Annotated[
        bool,
        option("--wait", panel=_TRANSFER, help="Wait until the video can be played, and show how it gets on."),
    ] = False
    wait_timeout: Annotated[
        float | None,
        option(metavar="SECONDS", panel=_TRANSFER, help="With --wait: fail after so long. Default: never."),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.wait_timeout is not None:
            if not self.wait:
                raise usage_error("--wait-timeout goes with --wait.")
            if not 0 < self.wait_timeout < math.inf:
                raise usage_error(
                    f"--wait-timeout must be a number of seconds above 0, not {self.wait_timeout!r}."
                )


@flags
class QuietFlags(ServiceFlags):
    """How much is told of what takes a while."""

    quiet: Annotated[
        bool, option("--quiet", "-q", panel=_OUTPUT, help="Nothing on standard error but errors.")
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.quiet and self.verbose:
            raise usage_error("--quiet and --verbose cannot be used together.")


@flags
class ImportFlags(DetailFlags, WaitFlags, QuietFlags):
    """What ``import`` takes."""

    source: Annotated[str, argument(metavar="URL|VIDEO_ID", help="What to fetch, or which video to clone.")]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.source.isalnum() or self.source.startswith(("http://", "https://"))):
            raise usage_error(f"What to import must be an http(s) URL or a videoId, not {self.source!r}.")


@flags
class TransferFlags(ServiceFlags):
    """How sources are sent."""

    video_id: Annotated[
        str | None, option(panel=_TRANSFER, help="Fill this video's container. Default: a new one.")
    ] = None
    ranges: Annotated[
        str | None,
        option(
            metavar="part|bytes",
            panel=_TRANSFER,
            shell_complete=_completion.ranges,
            help="How the service is told what a part is: by its number, or by its bytes. Default: part.",
        ),
    ] = None
    part_size: Annotated[
        int | None,
        option(
            metavar="SIZE",
            parser=parse_size,
            panel=_TRANSFER,
            help="Bytes in a part, as 50MiB or 52428800; from 5MiB to 200MiB. Default: planned from the size.",
        ),
    ] = None
    concurrency: Annotated[
        int | None,
        option(
            metavar="N",
            panel=_TRANSFER,
            help="Parts in flight at once, of all sources together, 1 to 256. Default: found out, up to 32.",
        ),
    ] = None
    max_attempts: Annotated[
        int | None,
        option(
            metavar="N",
            panel=_TRANSFER,
            help="Tries for one request without progress in between, 1 to 1000. Default: 8.",
        ),
    ] = None
    stall_timeout: Annotated[
        float | None,
        option(
            metavar="SECONDS",
            panel=_TRANSFER,
            help="Try a request again when not one byte of it has moved for so long. Default: 30.",
        ),
    ] = None
    max_latency: Annotated[
        float | None,
        option(
            metavar="SECONDS",
            panel=_TRANSFER,
            help="For a live stream: close a part early when it is so old, as soon as it has 5 MiB. "
            "Default: never.",
        ),
    ] = None
    buffer: Annotated[
        int | None,
        option(
            metavar="SIZE",
            parser=parse_size,
            panel=_TRANSFER,
            help="Keep so much of streams in memory, and the rest in temporary files. Default: 64MiB.",
        ),
    ] = None
    resume: Annotated[
        bool | None,
        option(
            "--resume/--no-resume",
            panel=_TRANSFER,
            help="Go on where the same command stopped. --resume: from another machine, too, by two metadata "
            "entries that the video carries until it is finished. Default: on this machine, but not with "
            "--local.",
        ),
    ] = None

    upload_token: Annotated[
        str | None,
        option(
            metavar="TOKEN",
            panel=_SERVICE,
            help="Upload with this token instead of the key in APIVIDEO_API_KEY. Other users of this "
            "machine may see it "
            "here. Environment: APIVIDEO_UPLOAD_TOKEN.",
        ),
    ] = None
    local: Annotated[
        bool,
        option(
            "--local",
            panel=_SERVICE,
            help="Upload to a local service that ends with the command, and compare its copy by SHA-256.",
        ),
    ] = False
    data: Annotated[
        Path | None,
        option(metavar="DIR", panel=_SERVICE, help="With --local: keep what it received here. Default: nowhere."),
    ] = None

    def client_options(self) -> dict[str, Any]:
        """Keywords of :class:`~async_uploader.Client`."""
        buffer = {} if self.buffer is None else {"buffer_bytes": self.buffer}
        return {**super().client_options(), **buffer, "upload_token": self.upload_token}


@flags
class ManyFlags(ServiceFlags):
    """Where many sources come from, and where it is written what became of them."""

    recursive: Annotated[
        bool,
        option("--recursive", "-r", panel=_MANY, help="Upload the files in directories, and in all those below."),
    ] = False
    include: Annotated[
        list[str] | None,
        option(
            metavar="GLOB",
            panel=_MANY,
            help="Of directories only files with such a name, as *.mp4; with a / in it, such a path below the "
            "directory. May be repeated; large and small letters are the same. Default: all.",
        ),
    ] = None
    exclude: Annotated[
        list[str] | None,
        option(metavar="GLOB", panel=_MANY, help="But not these. May be repeated. Default: none."),
    ] = None
    manifest: Annotated[
        Path | None,
        option(
            metavar="FILE",
            panel=_MANY,
            help="Upload what this file names: CSV with a header, or JSON lines, with the columns source (a path "
            "relative to the file, or a URL to import), title, description, tags (a|b), "
            "metadata.KEY, public, … Default: SOURCE says it.",
        ),
    ] = None
    results: Annotated[
        Path | None,
        option(
            metavar="FILE",
            panel=_MANY,
            help="Append a JSON line here as each source ends. Sources that are done in it are not sent "
            "again. Default: nowhere.",
        ),
    ] = None

    @property
    def chooses_files(self) -> bool:
        """Whether directories may be named."""
        return self.recursive or bool(self.include) or bool(self.exclude)


@flags
class UploadFlags(DetailFlags, ManyFlags, TransferFlags, WaitFlags, QuietFlags):
    """What ``upload`` takes. Fields that ``UploadOptions`` has too, have its names and its meaning."""

    sources: Annotated[
        list[str] | None,
        argument(
            metavar="[SOURCE]...",
            shell_complete=_completion.files,
            help="The files to upload, or - for standard input, or directories.",
        ),
    ] = None

    report: Annotated[
        Path | None,
        option(
            metavar="FILE.html",
            panel=_OUTPUT,
            help="Write a page here that shows when each part was sent or tried again, what had to wait, and how "
            "fast it was. Default: none. Needs: pip install 'async-uploader[report]'.",
        ),
    ] = None

    json: Annotated[
        bool,
        option(
            "--json",
            panel=_OUTPUT,
            help="Show the video as the service gives it, as one JSON document; for several sources an array, "
            'with {"source", "error"} for one that failed.',
        ),
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.manifest is not None:
            self.refuse("--manifest", "sources", "recursive", "include", "exclude", "max_latency")
        elif not self.sources:
            raise usage_error("Missing argument 'SOURCE': name what to upload, or a --manifest.")
        if self.local:
            self.refuse("--local", "base_url", "sandbox", "allow_plain_http", "upload_token", "resume")
        elif self.data is not None:
            raise usage_error("--data goes with --local.")
        if self.results is not None and self.resume is False:
            raise usage_error("--no-resume cannot be used with --results: what is not remembered is sent twice.")

    def refuse(self, beside: str, *names: str) -> None:
        """See that options are not used where they mean nothing."""
        for name in names:
            if getattr(self, name) not in (None, False, []):
                shown = "SOURCE" if name == "sources" else f"--{name.replace('_', '-')}"
                raise usage_error(f"{shown} cannot be used with {beside}.")

    def upload_options(self, *, is_stream: bool = False) -> UploadOptions:
        """Keywords of :meth:`~async_uploader.Client.upload`: those that were given, and ``resume``.

        :param is_stream: the source can be read only once, so that it is not resumed by default
        """
        from async_uploader._types import UploadOptions

        options = self.given(UploadOptions)
        if self.resume is None:
            options["resume"] = "off" if self.local or is_stream else "local"
        else:
            options["resume"] = "anywhere" if self.resume else "off"
        return options
