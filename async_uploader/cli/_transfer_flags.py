"""Options that several commands share for sending files: transfer, selection of files, progress."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from async_uploader._units import parse_rate, parse_size

from . import _completion
from ._flags import ServiceFlags
from ._params import PANELS, flags, option, usage_error

_, _MANY, _TRANSFER, _SERVICE, _OUTPUT = PANELS


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
class ConnectionFlags(ServiceFlags):
    """Options that control how the parts of any file are sent."""

    fetch: Annotated[
        str | None,
        option(
            metavar="here|service",
            panel=_TRANSFER,
            help="Stream web URLs through this machine, or let the service download them (default: service). "
            "Objects in stores (s3://, gs://, az://) are always streamed.",
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
    ranges: Annotated[
        str | None,
        option(
            metavar="part|bytes",
            panel=_TRANSFER,
            shell_complete=_completion.complete_ranges,
            help="Identify parts by number or by byte range (default: part)",
        ),
    ] = None
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
    limit_rate: Annotated[
        int | None,
        option(
            metavar="RATE",
            parser=parse_rate,
            panel=_TRANSFER,
            help="Maximum bytes sent per second, all parts and uploads together, such as 2MiB or 500kB (default: "
            "unlimited)",
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
    checksum: Annotated[
        bool,
        option(
            "--checksum",
            panel=_TRANSFER,
            help="Compute the SHA-256 of the source during the upload, and record it as sha256 in the results and "
            "in the video's metadata",
        ),
    ] = False
    stall_timeout: Annotated[
        float | None,
        option(
            metavar="SECONDS",
            panel=_TRANSFER,
            help="Retry a request if no byte moves for this long (default: 30)",
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

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments of :class:`~async_uploader.Client`."""
        return {**super().client_options(), "upload_token": self.upload_token, "limit_rate": self.limit_rate}


@flags
class SelectionFlags(ServiceFlags):
    """Options that select files in directories, and record the results of many uploads."""

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
