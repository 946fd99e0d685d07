"""The options of all commands, each declared once. Those of `upload` and `import` are in `_upload_flags`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import click

from async_uploader._units import parse_size

from . import _completion
from ._params import PANELS, argument, flags, option, usage_error

*_, _SERVICE, _OUTPUT = PANELS


@flags
class CommonFlags:
    """Options of every command."""

    verbose: Annotated[
        int,
        option(
            "--verbose",
            "-v",
            count=True,
            panel=_OUTPUT,
            help="Log each step to standard error; -vv also logs requests and tracebacks",
        ),
    ] = 0


@flags
class ServiceFlags(CommonFlags):
    """Options of every command that sends requests to the service."""

    base_url: Annotated[
        str | None,
        option(
            metavar="URL",
            panel=_SERVICE,
            help="Service to use: a URL, 'production' or 'sandbox' (default: production). "
            "Environment: APIVIDEO_BASE_URL.",
        ),
    ] = None
    sandbox: Annotated[bool, option("--sandbox", panel=_SERVICE, help="Same as --base-url sandbox")] = False
    allow_plain_http: Annotated[
        bool,
        option(
            "--allow-plain-http",
            panel=_SERVICE,
            help="Allow http:// to another machine; credentials are sent unencrypted",
        ),
    ] = False

    def __post_init__(self) -> None:
        for name in ("base_url", "upload_token"):
            # Usually an unset variable in a script. Using the default instead could upload to production.
            if getattr(self, name, None) == "":
                raise usage_error(f"--{name.replace('_', '-')} is empty.")
        if self.sandbox and self.base_url is not None:
            raise usage_error("--sandbox and --base-url cannot be used together.")

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments of :class:`~async_uploader.Client`."""
        base_url = "sandbox" if self.sandbox else self.base_url
        return {"base_url": base_url, "allow_plain_http": self.allow_plain_http}


@flags
class JsonFlags(ServiceFlags):
    """Options of commands that print a response of the service."""

    json: Annotated[
        bool, option("--json", panel=_OUTPUT, help="Print the service's response as one JSON document")
    ] = False


@flags
class VideoFlags(ServiceFlags):
    """Options of commands for one video."""

    video_id: Annotated[str, argument(metavar="VIDEO_ID")]


@flags
class ListFlags(CommonFlags):
    """Options of `uploads`, which reads only the local journal."""

    json: Annotated[bool, option("--json", panel=_OUTPUT, help="Print the list as one JSON document")] = False


@flags
class ForgetFlags(VideoFlags):
    """Options of `forget`."""

    video_id: Annotated[str, argument(metavar="VIDEO_ID", shell_complete=_completion.complete_unfinished)]
    delete: Annotated[bool, option("--delete", help="Also delete the video from the service")] = False


@flags
class VideoJsonFlags(VideoFlags, JsonFlags):
    """Options of commands that print one video."""


@flags
class TokenFlags(ServiceFlags):
    """Options of commands for one upload token."""

    token: Annotated[str, argument(metavar="TOKEN")]


@flags
class NewTokenFlags(JsonFlags):
    """Options of `tokens create`."""

    ttl: Annotated[
        int, option(metavar="SECONDS", min=0, help="Lifetime of the token; 0 means no expiry (default: 0)")
    ] = 0


def _print_fault_help(context: click.Context, _: click.Parameter, is_given: bool) -> None:
    if not is_given or context.resilient_parsing:
        return
    from async_uploader.emulator._fault_help import fault_help

    click.echo(fault_help())
    context.exit()


@flags
class EmulatorFlags(CommonFlags):
    """Options of `emulator`. All fields but `verbose` are parameters of ``Emulator``."""

    host: Annotated[str, option(help="Address to listen on (default: 127.0.0.1)")] = "127.0.0.1"
    port: Annotated[
        int,
        option(min=0, max=65535, help="Port to listen on; 0 selects a free port (default: 0)", metavar="N"),
    ] = 0
    data: Annotated[
        Path | None,
        option(metavar="DIR", help="Keep videos in this directory across restarts (default: not kept)"),
    ] = None
    api_key: Annotated[str, option(metavar="KEY", help="API key to accept (default: local-key)")] = "local-key"
    rate_limit: Annotated[
        int | None,
        option(
            metavar="N",
            min=1,
            help="Uploads per window; writes are limited to 2 N, reads to 5 N (default: unlimited)",
        ),
    ] = None
    rate_window: Annotated[
        float, option(metavar="SECONDS", help="Length of the rate limit window (default: 60)")
    ] = 60.0
    connection_rate: Annotated[
        int | None,
        option(
            metavar="BYTES_PER_SECOND",
            parser=parse_size,
            help="Maximum rate of each connection, such as 2MiB (default: unlimited)",
        ),
    ] = None
    link_rate: Annotated[
        int | None,
        option(
            metavar="BYTES_PER_SECOND",
            parser=parse_size,
            help="Maximum rate of all connections together, such as 10MiB (default: unlimited)",
        ),
    ] = None
    listing_lag: Annotated[
        float, option(metavar="SECONDS", help="Delay before listings show a new video (default: 0)")
    ] = 0.0
    latency: Annotated[float, option(metavar="SECONDS", help="Delay before each response (default: 0)")] = 0.0
    token_ttl: Annotated[int, option(metavar="SECONDS", help="Lifetime of bearer tokens (default: 3600)")] = 3600
    faults: Annotated[
        list[str] | None,
        option(
            "--fault",
            metavar="SPEC",
            help="Inject a fault, such as 'part=3,attempt=1:cut' (default: none). May be repeated. "
            "--help-faults describes the syntax.",
        ),
    ] = None
    help_faults: Annotated[
        bool,
        option(
            is_eager=True,
            expose_value=False,
            callback=_print_fault_help,
            help="Print the syntax of --fault, with examples",
        ),
    ] = False

    allowed_hosts: Annotated[
        list[str] | None,
        option(
            "--allow-host",
            metavar="NAME",
            help="Accept requests for this host name, too (default: localhost, loopback addresses and --host). "
            "May be repeated.",
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
        bool, option("--video-restore", help="Keep deleted videos for 90 days, so that they can be restored")
    ] = False

    def settings(self) -> dict[str, Any]:
        """Keyword arguments of ``Emulator``, with the faults still unparsed."""
        settings = {name: value for name, value in vars(self).items() if name not in ("verbose", "help_faults")}
        return {**settings, "faults": self.faults or (), "allowed_hosts": self.allowed_hosts or ()}
