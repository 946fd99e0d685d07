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
from ._sidecar_flags import SidecarFlags
from ._transfer_flags import ConnectionFlags, QuietFlags, SelectionFlags

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
class ImportFlags(DetailFlags, WaitFlags, QuietFlags):
    """Options of `import`."""

    source: Annotated[str, argument(metavar="URL|VIDEO_ID", help="URL to import, or id of the video to clone")]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.source.isalnum() or self.source.startswith(("http://", "https://"))):
            raise usage_error(f"The source of an import must be an http(s) URL or a videoId, not {self.source!r}.")


@flags
class TransferFlags(ConnectionFlags):
    """Options that control how sources are sent."""

    video_id: Annotated[
        str | None,
        option(panel=_TRANSFER, help="Upload into this existing container (default: a new one)"),
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
    keep_open: Annotated[
        bool,
        option(
            "--keep-open",
            panel=_SERVICE,
            help="With --local: then serve the video and the emulator's page until Ctrl-C",
        ),
    ] = False

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments of :class:`~async_uploader.Client`."""
        buffer = {} if self.buffer is None else {"buffer_bytes": self.buffer}
        return {**super().client_options(), **buffer}


@flags
class ManyFlags(SelectionFlags):
    """Options that select many sources and record their results."""

    manifest: Annotated[
        Path | None,
        option(
            metavar="FILE",
            panel=_MANY,
            help="Upload the sources that this file lists: CSV with a header, or JSON lines (default: none). "
            "Columns: source (a path relative to FILE, or a URL to import), title, description, tags (a|b), "
            "metadata.KEY, public, captions.en, thumbnail, ….",
        ),
    ] = None


@flags
class UploadFlags(DetailFlags, SidecarFlags, ManyFlags, TransferFlags, WaitFlags, QuietFlags):
    """Options of `upload`. A field that ``UploadOptions`` has, too, has the same name and meaning there."""

    sources: Annotated[
        list[str] | None,
        argument(
            metavar="[SOURCE]...",
            shell_complete=_completion.complete_files,
            help="Files, directories or URLs (s3://, gs://, az://, https://) to upload, or - for standard input",
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
        elif self.sources == ["-"]:
            self.reject("standard input", "sidecars")
        if self.video_id is not None:
            self.reject("--video-id", "idempotency_key")
        if self.local:
            self.reject("--local", "base_url", "sandbox", "allow_plain_http", "upload_token", "resume")
        elif self.data is not None:
            raise usage_error("--data requires --local.")
        elif self.keep_open:
            raise usage_error("--keep-open requires --local.")
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


@flags
class FleetFlags(UploadFlags):
    """Options of `fleet`: those of `upload` that apply to a manifest and to workers on other machines."""

    NOT_OFFERED = (
        *("sources", "recursive", "include", "exclude", "max_latency", "buffer", "local", "data", "keep_open"),
        *("title", "captions", "chapters", "thumbnail", "video_id", "idempotency_key"),
        *("report", "upload_token", "resume"),
    )

    workers: Annotated[
        int | None,
        option(metavar="N", panel=_MANY, help="Worker processes on this machine (default: the number of cores)"),
    ] = None
    scheduler: Annotated[
        str | None,
        option(metavar="ADDRESS", panel=_MANY, help="Use the workers of this Dask scheduler (default: none)"),
    ] = None

    def __post_init__(self) -> None:
        if self.manifest is None or self.results is None:
            raise usage_error("A fleet needs --manifest and --results.")
        super().__post_init__()
        if self.workers is not None and self.scheduler is not None:
            raise usage_error("--workers and --scheduler cannot be used together.")
        if self.workers is not None and self.workers < 1:
            raise usage_error(f"--workers must be a whole number from 1, not {self.workers}.")
