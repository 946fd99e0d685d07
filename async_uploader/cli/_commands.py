"""The commands. Each one consists of a few calls of the library."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import click

from async_uploader import UploaderError, __version__
from async_uploader._units import format_size
from async_uploader._urls import display_url

from ._examples import APP, EMULATOR, IMPORT, UPLOAD, WATCH
from ._flags import (
    EmulatorFlags,
    ForgetFlags,
    JsonFlags,
    ListFlags,
    NewTokenFlags,
    ServiceFlags,
    TokenFlags,
    VideoFlags,
    VideoJsonFlags,
)
from ._hints import set_service
from ._log import set_up_logging
from ._loop import Interrupted, run_async
from ._output import OutputError, print_columns, print_json, print_line, print_message
from ._params import Group, command
from ._signals import NOTHING_CREATED, set_interrupt_advice
from ._upload_flags import FleetFlags, ImportFlags, UploadFlags
from ._watch_flags import WatchFlags

if TYPE_CHECKING:
    from async_uploader import Client, UnfinishedUpload, UploadToken, Video, VideoStatus

T = TypeVar("T")

#: Closing thousands of connections takes longer than the cleanup of other commands.
_EMULATOR_GRACE_SECONDS: Final = 5.0

_SETTINGS = {"help_option_names": ["--help", "-h"], "max_content_width": 110}


@click.group(cls=Group, context_settings=_SETTINGS, epilog=APP)
@click.version_option(__version__, message="async-uploader %(version)s", help="Print the version")
@click.option(
    "--config",
    metavar="FILE",
    envvar="APIVIDEO_UPLOADER_CONFIG",
    type=click.Path(path_type=Path),
    help="Read the defaults of options from this TOML file (default: async-uploader/config.toml in the user's "
    "configuration directory). Environment: APIVIDEO_UPLOADER_CONFIG.",
)
@click.pass_context
def app(context: click.Context, config: Path | None) -> None:
    """Upload videos to api.video in concurrent parts.

    Set the API key in the environment variable APIVIDEO_API_KEY, or in a file .env in the current directory.
    """
    from ._config import load_settings

    assert isinstance(context.command, click.Group)
    context.default_map = load_settings(context.command.commands, config)


@app.group(cls=Group)
def tokens() -> None:
    """Manage upload tokens, which allow uploads and nothing else."""


@command(app, UploadFlags, examples=UPLOAD)
def upload(flags: UploadFlags) -> int:
    """Upload files, directories, URLs, a manifest or standard input.

    Each source becomes a video. Files are checked before anything is sent. If one of several uploads fails,
    the others continue.
    """
    set_interrupt_advice(NOTHING_CREATED)
    from ._upload import upload as run

    set_up_logging(-1 if flags.quiet else flags.verbose, reports_outages=True)
    return run_async(lambda: run(flags))


@command(app, WatchFlags, examples=WATCH)
def watch(flags: WatchFlags) -> int:
    """Watch a directory, and upload each file once it is complete.

    Files that are in the directory at the start are uploaded, too. The command runs until it is
    interrupted. A file that fails is uploaded again when it changes.
    """
    from ._watch import watch as run

    set_up_logging(-1 if flags.quiet else flags.verbose, reports_outages=True)
    return run_async(lambda: run(flags))


@command(app, FleetFlags)
def fleet(flags: FleetFlags) -> int:
    """Upload a manifest from many processes or machines.

    --manifest and --results are required. Dask assigns the uploads to workers. Run the same command again to
    resume: finished sources are skipped, and each source results in one video.
    """
    from ._upload import upload as run

    set_up_logging(-1 if flags.quiet else flags.verbose)
    return run_async(lambda: run(flags))


@command(app, ImportFlags, name="import", examples=IMPORT)
def import_(flags: ImportFlags) -> None:
    """Import a video from a URL, or clone a video.

    The service transfers the file itself.
    """
    from ._display import Display
    from ._rendering import render_progress
    from ._video_output import print_video

    display, name = Display(quiet=flags.quiet), display_url(flags.source)

    async def request(client: Client) -> Video:
        video = await client.import_video(flags.source, **flags.import_options())
        again = "would import it again" if flags.idempotency_key is None else "prints it"
        set_interrupt_advice(f"The service continues to import video {video.video_id}; the same command {again}.")
        if flags.wait:
            with render_progress(display), display.show_encoding(name) as on_status:
                await client.wait_until_playable(video.video_id, timeout=flags.wait_timeout, on_status=on_status)
        return video

    video = _run_request(flags, request)
    try:
        if flags.json:
            print_json(video.raw)
        else:
            print_video(video.raw, name)
    except OutputError as exc:
        again = "would create another one" if flags.idempotency_key is None else "prints it"
        advice = f"Video {video.video_id} was created; the same command {again}."
        raise OutputError(exc.reason, advice) from exc


@command(app, VideoJsonFlags)
def status(flags: VideoJsonFlags) -> None:
    """Show the upload and encoding status of a video."""
    video_status = _run_request(flags, lambda client: client.get_status(flags.video_id))
    if flags.json:
        print_json(video_status.raw)
    else:
        print_columns(_status_rows(video_status))


def _status_rows(status: VideoStatus) -> list[tuple[str, object]]:
    ingest, encoding = status.ingest, status.encoding
    rows: list[tuple[str, object]] = [("ingest", ingest.status or "nothing received")]
    if ingest.filesize is not None:
        rows.append(("size", f"{ingest.filesize} bytes"))
    if ingest.received_parts is not None:
        rows.append(("parts", f"{len(ingest.received_parts.parts)} of {ingest.received_parts.total or '?'}"))
    rows += [("bytes", f"{each.first}-{each.last} of {each.total or '?'}") for each in ingest.received_bytes]
    rows.append(("playable", "yes" if encoding.playable else "no"))
    rows += [(f"{each.type or '?'} {each.quality or '?'}", each.status or "?") for each in encoding.qualities]
    return rows


@command(app, VideoFlags)
def delete(flags: VideoFlags) -> None:
    """Delete a video permanently."""
    _run_request(flags, lambda client: client.delete_video(flags.video_id))


@command(app, ListFlags)
def uploads(flags: ListFlags) -> None:
    """List the interrupted uploads of this machine.

    The list includes finished uploads whose command failed: the same command returns their videos.
    """
    from async_uploader import list_unfinished

    set_up_logging(flags.verbose)
    entries = run_async(partial(list_unfinished, finished=True))
    if flags.json:
        print_json([_unfinished_json(entry) for entry in entries])
        return
    if not entries:
        print_message("There are no interrupted uploads on this machine.")
    for entry in entries:
        print_line(f"{entry.video_id}  {_unfinished_state(entry)}  {entry.path}  {entry.base_url}")


def _unfinished_state(entry: UnfinishedUpload) -> str:
    if entry.finished:
        return "finished; the same command returns it without uploading"
    remaining = format_size(entry.total_bytes - entry.acknowledged_bytes)
    return f"{entry.parts_done} of {entry.parts_total} parts, {remaining} of {format_size(entry.total_bytes)} left"


def _unfinished_json(entry: UnfinishedUpload) -> dict[str, object]:
    return {**asdict(entry), "path": str(entry.path), "started_at": entry.started_at.timestamp()}


@command(app, ForgetFlags)
def forget(flags: ForgetFlags) -> None:
    """Remove an interrupted upload from the journal. The next upload of its file starts over.

    The unfinished video stays on the service unless you add --delete.
    """
    from async_uploader import forget_unfinished

    if flags.delete:
        _run_request(flags, lambda client: _delete_if_exists(client, flags.video_id))
    set_up_logging(flags.verbose)
    run_async(lambda: forget_unfinished(flags.video_id))


async def _delete_if_exists(client: Client, video_id: str) -> None:
    """Delete a video, unless an interrupted command has deleted it already."""
    from async_uploader._outcome import is_not_found

    try:
        await client.delete_video(video_id)
    except UploaderError as exc:
        if not is_not_found(exc):
            raise


@command(tokens, NewTokenFlags, name="create")
def create_token(flags: NewTokenFlags) -> None:
    """Create an upload token and print it."""
    token = _run_request(flags, lambda client: client.create_upload_token(ttl_seconds=flags.ttl))
    try:
        if flags.json:
            print_json(token.raw)
        else:
            print_line(token.token)
    except OutputError as exc:
        # A token that nobody knows would never be deleted. It is a secret, so it cannot go to standard error,
        # which is often logged.
        raise OutputError(exc.reason, _delete_unprinted(flags, token)) from exc


def _delete_unprinted(flags: NewTokenFlags, token: UploadToken) -> str:
    """Delete a token that could not be printed.

    :returns: a sentence about the result
    """
    try:
        _run_request(flags, lambda client: client.delete_upload_token(token.token))
    except UploaderError:
        return "The new token could not be deleted; see 'async-uploader tokens list'."
    return "The new token was deleted."


@command(tokens, JsonFlags, name="list")
def list_tokens(flags: JsonFlags) -> None:
    """List the upload tokens and their expiry."""
    found: list[UploadToken] = list(_run_request(flags, lambda client: client.list_upload_tokens()))
    if flags.json:
        print_json([token.raw for token in found])
    elif found:
        print_columns([(token.token, token.raw.get("expiresAt") or "never expires") for token in found])


@command(tokens, TokenFlags, name="delete")
def delete_token(flags: TokenFlags) -> None:
    """Revoke an upload token."""
    _run_request(flags, lambda client: client.delete_upload_token(flags.token))


def _run_request(flags: ServiceFlags, request: Callable[[Client], Awaitable[T]]) -> T:
    """Send a request with a client of its own."""
    set_up_logging(flags.verbose)

    async def run() -> T:
        from async_uploader import Client

        async with Client(**flags.client_options()) as client:
            set_service(client.base_url)
            return await request(client)

    return run_async(run)


@command(app, EmulatorFlags, examples=EMULATOR)
def emulator(flags: EmulatorFlags) -> None:
    """Run an emulator of api.video for tests.

    The first line of standard output has its address. Ctrl-C, SIGTERM and SIGHUP stop it with exit code 0, and
    remove all received files unless you use --data.
    """
    from ._local import serve

    set_up_logging(flags.verbose)
    with suppress(Interrupted):
        run_async(lambda: serve(flags), grace_seconds=_EMULATOR_GRACE_SECONDS)
