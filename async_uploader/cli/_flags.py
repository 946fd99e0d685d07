"""The options of all commands, each declared once; those of ``upload`` and ``import`` are in `_upload_flags`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from async_uploader._units import parse_size

from . import _completion
from ._params import PANELS, argument, flags, option, usage_error

*_, _SERVICE, _OUTPUT = PANELS


@flags
class CommonFlags:
    """What every command takes."""

    verbose: Annotated[
        int, option("--verbose", "-v", count=True, panel=_OUTPUT, help="Say what happens; -vv: everything.")
    ] = 0


@flags
class ServiceFlags(CommonFlags):
    """What every command takes that talks to the service."""

    base_url: Annotated[
        str | None,
        option(
            metavar="URL",
            panel=_SERVICE,
            help="The service: a URL, or 'production' or 'sandbox'. Environment: APIVIDEO_BASE_URL. "
            "Default: production.",
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


@flags
class JsonFlags(ServiceFlags):
    """What every command takes that shows something."""

    json: Annotated[
        bool, option("--json", panel=_OUTPUT, help="Show the service's own answer, as one JSON document.")
    ] = False


@flags
class VideoFlags(ServiceFlags):
    """One video, by its id."""

    video_id: Annotated[str, argument(metavar="VIDEO_ID")]


@flags
class ListFlags(CommonFlags):
    """A list of what this machine knows."""

    json: Annotated[bool, option("--json", panel=_OUTPUT, help="Show it as one JSON document.")] = False


@flags
class ForgetFlags(VideoFlags):
    """An upload to forget, by its video."""

    video_id: Annotated[str, argument(metavar="VIDEO_ID", shell_complete=_completion.unfinished)]
    delete: Annotated[bool, option("--delete", help="Delete the video at the service as well.")] = False


@flags
class VideoJsonFlags(VideoFlags, JsonFlags):
    """The same, and shown."""


@flags
class TokenFlags(ServiceFlags):
    """One upload token."""

    token: Annotated[str, argument(metavar="TOKEN")]


@flags
class NewTokenFlags(JsonFlags):
    """What an upload token is made from."""

    ttl: Annotated[
        int, option(metavar="SECONDS", min=0, help="How long it is good for; 0: for ever. Default: 0.")
    ] = 0


@flags
class EmulatorFlags(CommonFlags):
    """What ``emulator`` takes; the fields beside ``verbose`` are those of ``Emulator``."""

    host: Annotated[str, option(help="The address to listen on. Default: 127.0.0.1, for this machine only.")] = (
        "127.0.0.1"
    )
    port: Annotated[
        int, option(min=0, max=65535, help="The port; 0: any that is free. Default: 0.", metavar="N")
    ] = 0
    data: Annotated[
        Path | None, option(metavar="DIR", help="Keep videos here, also for the next start. Default: nowhere.")
    ] = None
    api_key: Annotated[str, option(metavar="KEY", help="The key that it accepts. Default: local-key.")] = (
        "local-key"
    )
    rate_limit: Annotated[
        int | None,
        option(
            metavar="N",
            min=1,
            help="Uploads in a window; twice as many writes, five times as many reads. Default: any number.",
        ),
    ] = None
    rate_window: Annotated[float, option(metavar="SECONDS", help="The length of a window. Default: 60.")] = 60.0
    connection_rate: Annotated[
        int | None,
        option(
            metavar="BYTES_PER_SECOND",
            parser=parse_size,
            help="How fast it reads from one connection, as 2MiB. Default: as it can.",
        ),
    ] = None
    link_rate: Annotated[
        int | None,
        option(
            metavar="BYTES_PER_SECOND",
            parser=parse_size,
            help="How fast it reads from all of them together. Default: as it can.",
        ),
    ] = None
    latency: Annotated[
        float, option(metavar="SECONDS", help="How long it waits before it answers. Default: 0.")
    ] = 0.0
    token_ttl: Annotated[
        int, option(metavar="SECONDS", help="How long a bearer token is good for. Default: 3600.")
    ] = 3600
    faults: Annotated[
        list[str] | None,
        option(
            "--fault",
            metavar="SPEC",
            help="A fault to inject, as WHERE:WHAT; see docs/emulator.md. May be repeated.",
        ),
    ] = None

    allowed_hosts: Annotated[
        list[str] | None,
        option(
            "--allow-host",
            metavar="NAME",
            help="Also serve requests for this host name. Default: localhost, loopback addresses, and the address "
            "it listens on, only. May be repeated.",
        ),
    ] = None

    tls: Annotated[
        bool,
        option(
            "--tls",
            help="Serve https, with a new certificate. The second line of standard output is the path of the CA "
            "file.",
        ),
    ] = False

    video_restore: Annotated[
        bool, option("--video-restore", help="Keep deleted videos for 90 days, so that they can be restored.")
    ] = False

    def settings(self) -> dict[str, Any]:
        """Keywords of ``Emulator``; the faults are still as they were written."""
        settings = {name: value for name, value in vars(self).items() if name != "verbose"}
        return {**settings, "faults": self.faults or (), "allowed_hosts": self.allowed_hosts or ()}
