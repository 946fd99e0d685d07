"""The options of `upload` and `import`, each declared once. Those that describe a video are in `_detail_flags`."""

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
    from async_uploader import UploadOptions

_, _MANY, _TRANSFER, _SERVICE, _OUTPUT = PANELS


@flags
class WaitFlags(ServiceFlags):
    """Options for waiting until a video is playable."""

    wait: Annotated[
        bool,
        option("--wait", panel=_TRANSFER, help="Wait until the video is playable, and show the encoding"),
    ] = False
    wait_timeout: Annotated[
        float | None,
        option(
            metavar="SECONDS",
            panel=_TRANSFER,
            help="With --wait: fail if a video is not playable in time (default: no limit)",
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.wait_timeout is not None:
            if not self.wait:
                raise usage_error("--wait-timeout requires --wait.")
            if not 0 < self.wait_timeout < math.inf:
                raise usage_error(
                    f"--wait-timeout must be a number of seconds above 0, not {self.wait_timeout!r}."
                )


@flags
class QuietFlags(ServiceFlags):
    """Options of commands that show progress."""

    quiet: Annotated[bool, option("--quiet", "-q", panel=_OUTPUT, help="Print only errors to standard error")] = (
        False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.quiet and self.verbose:
            raise usage_error("--quiet and --verbose cannot be used together.")


@flags
class ImportFlags(DetailFlags, WaitFlags, QuietFlags):
    """Options of `import`."""

    source: Annotated[str, argument(metavar="URL|VIDEO_ID", help="URL to import, or id of the video to clone")]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.source.isalnum() or self.source.startswith(("http://", "https://"))):
            raise usage_error(f"The source of an import must be an http(s) URL or a videoId, not {self.source!r}.")


@flags
class TransferFlags(ServiceFlags):
    """Options that control how sources are sent."""

    video_id: Annotated[
        str | None,
        option(panel=_TRANSFER, help="Upload into this existing container (default: a new one)"),
    ] = None
    ranges: Annotated[
        str | None,
        option(
            metavar="part|bytes",
            panel=_TRANSFER,
            shell_complete=_completion.complete_ranges,
            help="Identify parts by number or by byte range (default: part)",
        ),
    ] = None
    fetch: Annotated[
        str | None,
        option(
            metavar="here|service",
            panel=_TRANSFER,
            help="Who downloads web URLs: this machine, which streams them, or the service (default: service, in "
            "manifests). Objects in stores (s3://, gs://, az://) are always streamed.",
        ),
    ] = None
    key_from_source: Annotated[
        bool,
        option(
            "--key-from-source",
            panel=_TRANSFER,
            help="Upload each object in a store or on the web once, from any machine: its URL and version become "
            "its idempotency key",
        ),
    ] = False
    part_size: Annotated[
        int | None,
        option(
            metavar="SIZE",
            parser=parse_size,
            panel=_TRANSFER,
            help="Size of a part, such as 50MiB or 52428800; 5MiB-200MiB (default: planned from the file size)",
        ),
    ] = None
    concurrency: Annotated[
        int | None,
        option(
            metavar="N",
            panel=_TRANSFER,
            help="Parts to upload at the same time, 1-256 (default: adaptive, up to 32)",
        ),
    ] = None
    max_attempts: Annotated[
        int | None,
        option(
            metavar="N",
            panel=_TRANSFER,
            help="Consecutive attempts without progress before an upload fails, 1-1000 (default: 8)",
        ),
    ] = None
    stall_timeout: Annotated[
        float | None,
        option(
            metavar="SECONDS",
            panel=_TRANSFER,
            help="Retry a request if no byte moves for this long (default: 30)",
        ),
    ] = None
    max_latency: Annotated[
        float | None,
        option(
            metavar="SECONDS",
            panel=_TRANSFER,
            help="For live streams: send a part after this time, once it has 5 MiB (default: no limit)",
        ),
    ] = None
    buffer: Annotated[
        int | None,
        option(
            metavar="SIZE",
            parser=parse_size,
            panel=_TRANSFER,
            help="Memory for parts of streams; further parts go to temporary files (default: 64MiB)",
        ),
    ] = None
    resume: Annotated[
        bool | None,
        option(
            "--resume/--no-resume",
            panel=_TRANSFER,
            help="Resume an interrupted upload (default: on this machine; off for streams and --local). With "
            "--resume, other machines can resume it, too: the unfinished video has two metadata entries for that.",
        ),
    ] = None

    upload_token: Annotated[
        str | None,
        option(
            metavar="TOKEN",
            panel=_SERVICE,
            help="Upload with this token instead of an API key. Other users of this machine may see command "
            "lines. Environment: APIVIDEO_UPLOAD_TOKEN.",
        ),
    ] = None
    local: Annotated[
        bool,
        option(
            "--local",
            panel=_SERVICE,
            help="Upload to a temporary emulator, and verify its copy by SHA-256",
        ),
    ] = False
    data: Annotated[
        Path | None,
        option(
            metavar="DIR",
            panel=_SERVICE,
            help="With --local: keep the received files in this directory (default: not kept)",
        ),
    ] = None

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments of :class:`~async_uploader.Client`."""
        buffer = {} if self.buffer is None else {"buffer_bytes": self.buffer}
        return {**super().client_options(), **buffer, "upload_token": self.upload_token}


@flags
class ManyFlags(ServiceFlags):
    """Options that select many sources and record their results."""

    recursive: Annotated[
        bool,
        option("--recursive", "-r", panel=_MANY, help="Upload the files in directories and their subdirectories"),
    ] = False
    include: Annotated[
        list[str] | None,
        option(
            metavar="GLOB",
            panel=_MANY,
            help="Upload only the files of a directory that match, such as *.mp4 (default: all). A GLOB with a / "
            "is matched against the path below the directory. Case is ignored. May be repeated.",
        ),
    ] = None
    exclude: Annotated[
        list[str] | None,
        option(
            metavar="GLOB",
            panel=_MANY,
            help="Skip the files of a directory that match (default: none). May be repeated.",
        ),
    ] = None
    manifest: Annotated[
        Path | None,
        option(
            metavar="FILE",
            panel=_MANY,
            help="Upload the sources that this file lists: CSV with a header, or JSON lines (default: none). "
            "Columns: source (a path relative to FILE, or a URL to import), title, description, tags (a|b), "
            "metadata.KEY, public, ….",
        ),
    ] = None
    results: Annotated[
        Path | None,
        option(
            metavar="FILE",
            panel=_MANY,
            help="Append one JSON line for each source when its upload ends (default: none). Sources that are "
            "finished in FILE are skipped.",
        ),
    ] = None

    @property
    def selects_files(self) -> bool:
        """Whether directories are accepted as sources."""
        return self.recursive or bool(self.include) or bool(self.exclude)


@flags
class UploadFlags(DetailFlags, ManyFlags, TransferFlags, WaitFlags, QuietFlags):
    """Options of `upload`. A field that ``UploadOptions`` has, too, has the same name and meaning there."""

    sources: Annotated[
        list[str] | None,
        argument(
            metavar="[SOURCE]...",
            shell_complete=_completion.complete_files,
            help="Files or directories to upload, or - for standard input",
        ),
    ] = None

    report: Annotated[
        Path | None,
        option(
            metavar="FILE.html",
            panel=_OUTPUT,
            help="Write an HTML report with a timeline of parts, retries, waits and throughput (default: none). "
            "Requires: pip install 'async-uploader[report]'.",
        ),
    ] = None

    json: Annotated[
        bool,
        option(
            "--json",
            panel=_OUTPUT,
            help="Print the service's video as one JSON document. Several sources are printed as an array, with "
            '{"source", "error"} for each that failed.',
        ),
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.manifest is not None:
            self.reject("--manifest", "sources", "recursive", "include", "exclude", "max_latency")
        elif not self.sources:
            raise usage_error("Missing argument 'SOURCE': name a source, or use --manifest.")
        if self.local:
            self.reject("--local", "base_url", "sandbox", "allow_plain_http", "upload_token", "resume")
        elif self.data is not None:
            raise usage_error("--data requires --local.")
        if self.results is not None and self.resume is False:
            raise usage_error(
                "--no-resume cannot be used with --results: unfinished sources could get two videos."
            )

    def reject(self, context: str, *names: str) -> None:
        """Refuse options that have no meaning in a context.

        :param context: what they cannot be combined with, for the message
        :raises UsageError: one of the options was given
        """
        for name in names:
            if getattr(self, name) not in (None, False, []):
                written = "SOURCE" if name == "sources" else f"--{name.replace('_', '-')}"
                raise usage_error(f"{written} cannot be used with {context}.")

    def upload_options(self, *, is_stream: bool = False) -> UploadOptions:
        """Keyword arguments of :meth:`~async_uploader.Client.upload`: those that were given, and ``resume``.

        :param is_stream: the source can be read only once, so it is not resumed by default; default: False
        """
        from async_uploader import UploadOptions

        options = self.given(UploadOptions)
        if self.resume is None:
            options["resume"] = "off" if self.local or is_stream else "local"
        else:
            options["resume"] = "anywhere" if self.resume else "off"
        return options
