"""Every option of every command, each declared once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from async_uploader._units import parse_size

from ._params import argument, option, usage_error

if TYPE_CHECKING:
    from async_uploader._options import UploadOptions

_DETAILS = "The video"
_TRANSFER = "The transfer"
_SERVICE = "The service"
_OUTPUT = "Output"


@dataclass(frozen=True, kw_only=True)
class CommonFlags:
    """What every command takes."""

    verbose: Annotated[
        int, option("--verbose", "-v", count=True, panel=_OUTPUT, help="Say what happens; -vv: everything.")
    ] = 0


@dataclass(frozen=True, kw_only=True)
class ServiceFlags(CommonFlags):
    """What every command takes that talks to the service."""

    base_url: Annotated[
        str | None,
        option(
            metavar="URL",
            panel=_SERVICE,
            help="A URL, or 'production' or 'sandbox'. Without it: APIVIDEO_BASE_URL, else production.",
        ),
    ] = None
    sandbox: Annotated[bool, option("--sandbox", panel=_SERVICE, help="The same as --base-url sandbox.")] = False
    allow_plain_http: Annotated[
        bool,
        option(
            "--allow-plain-http",
            panel=_SERVICE,
            help="Accept http:// to another machine, where credentials travel in clear.",
        ),
    ] = False

    def __post_init__(self) -> None:
        for name in ("base_url", "upload_token"):
            if getattr(self, name, None) == "":  # an unset variable of a script, and no wish for the default
                raise usage_error(f"--{name.replace('_', '-')} is empty.")
        if self.sandbox and self.base_url is not None:
            raise usage_error("--sandbox and --base-url cannot be used together.")

    def client_options(self) -> dict[str, Any]:
        """Keywords of :class:`~async_uploader.Client`."""
        base_url = "sandbox" if self.sandbox else self.base_url
        return {"base_url": base_url, "allow_plain_http": self.allow_plain_http}


@dataclass(frozen=True, kw_only=True)
class JsonFlags(ServiceFlags):
    """What every command takes that shows something."""

    json: Annotated[
        bool, option("--json", panel=_OUTPUT, help="Show the service's own answer, as one JSON document.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class VideoFlags(ServiceFlags):
    """One video, by its id."""

    video_id: Annotated[str, argument(metavar="VIDEO_ID")]


@dataclass(frozen=True, kw_only=True)
class ListFlags(CommonFlags):
    """A list of what this machine knows."""

    json: Annotated[bool, option("--json", panel=_OUTPUT, help="Show it as one JSON document.")] = False


@dataclass(frozen=True, kw_only=True)
class ForgetFlags(VideoFlags):
    """An upload to forget, by its video."""

    delete: Annotated[bool, option("--delete", help="Delete the video at the service as well.")] = False


@dataclass(frozen=True, kw_only=True)
class VideoJsonFlags(VideoFlags, JsonFlags):
    """The same, and shown."""


@dataclass(frozen=True, kw_only=True)
class TokenFlags(ServiceFlags):
    """One upload token."""

    token: Annotated[str, argument(metavar="TOKEN")]


@dataclass(frozen=True, kw_only=True)
class NewTokenFlags(JsonFlags):
    """What an upload token is made from."""

    ttl: Annotated[int, option(metavar="SECONDS", min=0, help="How long it is good for; 0: for ever.")] = 0


@dataclass(frozen=True, kw_only=True)
class UploadFlags(JsonFlags):
    """What ``upload`` takes. Fields that ``UploadOptions`` has too, have its names and its meaning."""

    sources: Annotated[list[str], argument(metavar="SOURCE", help="The files to upload.")]

    title: Annotated[str | None, option(panel=_DETAILS, help="Without it: the file's name.")] = None
    description: Annotated[str | None, option(panel=_DETAILS)] = None
    tags: Annotated[list[str] | None, option("--tag", panel=_DETAILS, help="May be repeated.")] = None
    metadata: Annotated[list[str] | None, option(metavar="KEY=VALUE", panel=_DETAILS, help="May be repeated.")] = (
        None
    )
    public: Annotated[
        bool | None, option("--public/--private", panel=_DETAILS, help="Who may see it. Without it: public.")
    ] = None
    panoramic: Annotated[
        bool | None, option("--panoramic/--no-panoramic", panel=_DETAILS, help="It is a 360° video.")
    ] = None
    mp4_support: Annotated[
        bool | None,
        option("--mp4-support/--no-mp4-support", panel=_DETAILS, help="Offer an MP4 as well. Without it: yes."),
    ] = None
    player_id: Annotated[str | None, option(panel=_DETAILS, help="The player to show it with.")] = None
    language: Annotated[
        str | None, option(panel=_DETAILS, help="What is spoken in it, as a language tag: en, pt-BR.")
    ] = None
    transcript: Annotated[
        bool | None, option("--transcript/--no-transcript", panel=_DETAILS, help="Write down what is said.")
    ] = None
    transcript_summary: Annotated[
        bool | None,
        option("--transcript-summary/--no-transcript-summary", panel=_DETAILS, help="And sum it up."),
    ] = None
    transcript_summary_attributes: Annotated[
        list[str] | None,
        option(
            "--transcript-summary-attribute",
            metavar="NAME",
            panel=_DETAILS,
            help="A part of the summary: abstract or takeaways. May be repeated.",
        ),
    ] = None
    watermark: Annotated[
        list[str] | None,
        option(
            metavar="KEY=VALUE", panel=_DETAILS, help="Which watermark and where: id=…, top=…. May be repeated."
        ),
    ] = None
    clip: Annotated[
        list[str] | None,
        option(metavar="KEY=VALUE", panel=_DETAILS, help="Keep a piece: startTimecode=…, endTimecode=…."),
    ] = None

    video_id: Annotated[
        str | None, option(panel=_TRANSFER, help="Fill this container instead of creating one.")
    ] = None
    ranges: Annotated[
        str | None,
        option(metavar="part|bytes", panel=_TRANSFER, help="How parts are numbered. Without it: part."),
    ] = None
    part_size: Annotated[
        int | None,
        option(
            metavar="SIZE",
            parser=parse_size,
            panel=_TRANSFER,
            help="5MiB to 200MiB, or plain bytes. Without it: planned.",
        ),
    ] = None
    concurrency: Annotated[
        int | None, option(metavar="N", panel=_TRANSFER, help="Parts in flight at once. Without it: it adapts.")
    ] = None
    max_attempts: Annotated[
        int | None, option(metavar="N", panel=_TRANSFER, help="Tries for one request. Without it: 8.")
    ] = None
    stall_timeout: Annotated[
        float | None,
        option(
            metavar="SECONDS",
            panel=_TRANSFER,
            help="Try a request again when not one byte of it has moved for so long. Without it: 30.",
        ),
    ] = None
    resume: Annotated[
        bool | None,
        option(
            "--resume/--no-resume",
            panel=_TRANSFER,
            help="Go on where the same command stopped. --resume: from another machine, too, by two metadata "
            "entries that the video carries until it is finished. Without either: on this machine, but not with "
            "--local.",
        ),
    ] = None
    wait: Annotated[bool, option("--wait", panel=_TRANSFER, help="Wait until the video can be played.")] = False

    upload_token: Annotated[
        str | None,
        option(
            metavar="TOKEN",
            panel=_SERVICE,
            help="Upload with this token, or APIVIDEO_UPLOAD_TOKEN, instead of the key in APIVIDEO_API_KEY.",
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
        Path | None, option(metavar="DIR", panel=_SERVICE, help="With --local: keep what it received here.")
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
    quiet: Annotated[
        bool, option("--quiet", "-q", panel=_OUTPUT, help="Nothing on standard error but errors.")
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.local:
            self._refuse("--local", "base_url", "sandbox", "allow_plain_http", "upload_token", "resume")
        elif self.data is not None:
            raise usage_error("--data goes with --local.")
        if len(self.sources) > 1:
            self._refuse("several sources", "title", "video_id")
        if self.quiet and self.verbose:
            raise usage_error("--quiet and --verbose cannot be used together.")

    def _refuse(self, beside: str, *names: str) -> None:
        for name in names:
            if getattr(self, name) not in (None, False):
                raise usage_error(f"--{name.replace('_', '-')} cannot be used with {beside}.")

    def client_options(self) -> dict[str, Any]:
        """Keywords of :class:`~async_uploader.Client`."""
        return {**super().client_options(), "upload_token": self.upload_token}

    def upload_options(self) -> UploadOptions:
        """Keywords of :meth:`~async_uploader.Client.upload`: those that were given, and ``resume``."""
        from async_uploader._options import UploadOptions

        options: UploadOptions = {"resume": False if self.local else "local"}
        for name in UploadOptions.__annotations__:
            value = getattr(self, name, None)
            if value is not None:
                is_mapping = name in ("metadata", "watermark", "clip")
                options[name] = _pairs(name, value) if is_mapping else value  # type: ignore[literal-required]
        return options


def _pairs(name: str, texts: Iterable[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise usage_error(f"--{name} must be KEY=VALUE, not {text!r}.")
        if key in pairs:
            raise usage_error(f"--{name} has the key {key!r} twice.")
        pairs[key] = value
    return pairs


@dataclass(frozen=True, kw_only=True)
class EmulatorFlags(CommonFlags):
    """What ``emulator`` takes; the fields beside ``verbose`` are those of ``Emulator``."""

    host: Annotated[str, option(help="The address to listen on.")] = "127.0.0.1"
    port: Annotated[int, option(min=0, max=65535, help="0: any that is free.")] = 0
    data: Annotated[
        Path | None, option(metavar="DIR", help="Keep videos here, also for the next start. Without it: nowhere.")
    ] = None
    api_key: Annotated[str, option(metavar="KEY", help="The key that it accepts.")] = "local-key"
    rate_limit: Annotated[
        int | None,
        option(metavar="N", min=1, help="Uploads in a window; twice as many writes, five times as many reads."),
    ] = None
    rate_window: Annotated[float, option(metavar="SECONDS", help="The length of a window.")] = 60.0
    connection_rate: Annotated[
        int | None,
        option(metavar="BYTES_PER_SECOND", parser=parse_size, help="How fast it reads from one connection."),
    ] = None
    link_rate: Annotated[
        int | None,
        option(metavar="BYTES_PER_SECOND", parser=parse_size, help="How fast it reads from all of them together."),
    ] = None
    latency: Annotated[float, option(metavar="SECONDS", help="How long it waits before it answers.")] = 0.0
    token_ttl: Annotated[int, option(metavar="SECONDS", help="How long a bearer token is good for.")] = 3600
    faults: Annotated[
        list[str] | None, option("--fault", metavar="SPEC", help="A fault to inject. May be repeated.")
    ] = None

    def settings(self) -> dict[str, Any]:
        """Keywords of ``Emulator``; the faults are still as they were written."""
        settings = {name: value for name, value in vars(self).items() if name != "verbose"}
        return {**settings, "faults": self.faults or ()}
