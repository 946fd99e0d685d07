"""The commands: each one a few calls of the library."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import click

from async_uploader import __version__
from async_uploader._errors import UploaderError
from async_uploader._units import format_size

from ._examples import APP, EMULATOR, IMPORT, UPLOAD
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
from ._loop import Interrupted, run_async
from ._output import OutputError, line_of, set_up_logging, show, show_columns, show_json
from ._params import command
from ._signals import advise
from ._upload_flags import ImportFlags, UploadFlags

if TYPE_CHECKING:
    from async_uploader._client import Client
    from async_uploader._models import UploadToken, Video, VideoStatus
    from async_uploader._resume.unfinished import UnfinishedUpload

T = TypeVar("T")

#: Closing thousands of connections takes longer than anything that another command closes.
_EMULATOR_GRACE_SECONDS: Final = 5.0

_SETTINGS = {"help_option_names": ["--help", "-h"], "max_content_width": 110}


@click.group(context_settings=_SETTINGS, epilog=APP)
@click.version_option(__version__, message="async-uploader %(version)s", help="Show the version and end.")
@click.option(
    "--config",
    metavar="FILE",
    envvar="APIVIDEO_UPLOADER_CONFIG",
    type=click.Path(path_type=Path),
    help="Read defaults of options from this TOML file. Default: config.toml in async-uploader, in the user's "
    "configuration directory. Environment: APIVIDEO_UPLOADER_CONFIG.",
)
@click.pass_context
def app(context: click.Context, config: Path | None) -> None:
    """Upload videos to api.video, in concurrent parts.

    The API key is read from APIVIDEO_API_KEY: from the environment, or from a file .env where the command runs.
    """
    from ._config import load

    assert isinstance(context.command, click.Group)
    context.default_map = load(context.command.commands, config)


@app.group()
def tokens() -> None:
    """Tokens that let their bearer upload, and nothing else."""


@command(app, UploadFlags, examples=UPLOAD)
def upload(flags: UploadFlags) -> int:
    """Upload files, standard input, directories, or what a manifest names; each becomes a video.

    Everything is checked before anything is sent. With several sources, one that fails does not stop the others.
    """
    from ._upload import upload as run

    set_up_logging(-1 if flags.quiet else flags.verbose)
    return run_async(lambda: run(flags))


@command(app, ImportFlags, name="import", examples=IMPORT)
def import_(flags: ImportFlags) -> None:
    """Have the service fetch a video from a URL, or clone one of the account's."""
    from ._display import Display
    from ._painting import drawn

    display = Display(quiet=flags.quiet)

    async def ask(client: Client) -> Video:
        video = await client.import_video(flags.source, **flags.details())
        advise(f"the service goes on with video {video.video_id}; the same command would import it again")
        if flags.wait:
            with drawn(display), display.encoding(flags.source) as on_status:
                await client.wait_until_playable(video.video_id, timeout=flags.wait_timeout, on_status=on_status)
        return video

    video = _ask(flags, ask)
    try:
        if flags.json:
            show_json(video.raw)
        else:
            show(line_of(video.raw, flags.source))
    except OutputError as exc:
        advice = f"Video {video.video_id} was made; the same command would make another one."
        raise OutputError(exc.reason, advice) from exc


@command(app, VideoJsonFlags)
def status(flags: VideoJsonFlags) -> None:
    """Show how far the service is with a video."""
    answer = _ask(flags, lambda client: client.get_status(flags.video_id))
    if flags.json:
        show_json(answer.raw)
    else:
        show_columns(_status_rows(answer))


def _status_rows(answer: VideoStatus) -> list[tuple[str, object]]:
    ingest, encoding = answer.ingest, answer.encoding
    rows: list[tuple[str, object]] = [("ingest", ingest.status or "nothing received")]
    if ingest.filesize is not None:
        rows.append(("size", f"{ingest.filesize} bytes"))
    if ingest.received_parts is not None:
        rows.append(("parts", f"{len(ingest.received_parts.parts)} of {ingest.received_parts.total or '?'}"))
    rows += [("bytes", f"{one.first}-{one.last} of {one.total or '?'}") for one in ingest.received_bytes]
    rows.append(("playable", "yes" if encoding.playable else "no"))
    rows += [(f"{one.type or '?'} {one.quality or '?'}", one.status or "?") for one in encoding.qualities]
    return rows


@command(app, VideoFlags)
def delete(flags: VideoFlags) -> None:
    """Delete a video for good."""
    _ask(flags, lambda client: client.delete_video(flags.video_id))


@command(app, ListFlags)
def uploads(flags: ListFlags) -> None:
    """Show the uploads that were interrupted on this machine, and what they lack.

    Also those that are finished but whose command has failed: the same command returns their videos.
    """
    from async_uploader import list_unfinished

    set_up_logging(flags.verbose)
    found = run_async(partial(list_unfinished, finished=True))
    if flags.json:
        show_json([_unfinished_json(one) for one in found])
        return
    for one in found:
        show(f"{one.video_id}  {_state(one)}  {one.path}  {one.base_url}")


def _state(one: UnfinishedUpload) -> str:
    if one.finished:
        return "finished; the same command returns it without uploading"
    lacking = format_size(one.total_bytes - one.acknowledged_bytes)
    parts = f"{one.parts_done} of {one.parts_total} parts are there"
    return f"{parts}, {lacking} of {format_size(one.total_bytes)} to go"


def _unfinished_json(one: UnfinishedUpload) -> dict[str, object]:
    return {**asdict(one), "path": str(one.path)}


@command(app, ForgetFlags)
def forget(flags: ForgetFlags) -> None:
    """Forget an interrupted upload; the same file will be uploaded from its beginning.

    Its video stays, unless --delete is given: then it is deleted at the service first.
    """
    from async_uploader import forget_unfinished

    if flags.delete:
        _ask(flags, lambda client: _delete_if_there(client, flags.video_id))
    set_up_logging(flags.verbose)
    run_async(lambda: forget_unfinished(flags.video_id))


async def _delete_if_there(client: Client, video_id: str) -> None:
    """Delete a video. If an interrupted command has deleted it already, there is nothing left to do."""
    from async_uploader._outcome import is_not_found

    try:
        await client.delete_video(video_id)
    except UploaderError as exc:
        if not is_not_found(exc):
            raise


@command(tokens, NewTokenFlags, name="create")
def create_token(flags: NewTokenFlags) -> None:
    """Make a token and show it."""
    token = _ask(flags, lambda client: client.create_upload_token(ttl_seconds=flags.ttl))
    try:
        if flags.json:
            show_json(token.raw)
        else:
            show(token.token)
    except OutputError as exc:
        # Nobody knows this token now, so nobody would ever delete it. It opens the account to uploads, so standard
        # error, which often goes into a log, is no place for it.
        raise OutputError(exc.reason, _withdrawn(flags, token)) from exc


def _withdrawn(flags: NewTokenFlags, token: UploadToken) -> str:
    try:
        _ask(flags, lambda client: client.delete_upload_token(token.token))
    except UploaderError:
        return "The new token could not be deleted again; see 'tokens list'."
    return "The new token was deleted again."


@command(tokens, JsonFlags, name="list")
def list_tokens(flags: JsonFlags) -> None:
    """Show all tokens and when they expire."""
    found: list[UploadToken] = list(_ask(flags, lambda client: client.list_upload_tokens()))
    if flags.json:
        show_json([token.raw for token in found])
    elif found:
        show_columns([(token.token, token.expires_at or "for ever") for token in found])


@command(tokens, TokenFlags, name="delete")
def delete_token(flags: TokenFlags) -> None:
    """Make a token useless."""
    _ask(flags, lambda client: client.delete_upload_token(flags.token))


def _ask(flags: ServiceFlags, request: Callable[[Client], Awaitable[T]]) -> T:
    set_up_logging(flags.verbose)

    async def ask() -> T:
        from async_uploader._client import Client

        async with Client(**flags.client_options()) as client:
            return await request(client)

    return run_async(ask)


@command(app, EmulatorFlags, examples=EMULATOR)
def emulator(flags: EmulatorFlags) -> None:
    """Run a local service with the rules of api.video, to test against.

    The first line of standard output is the address. Ctrl-C, SIGTERM or SIGHUP stops it, with exit code 0, and
    removes everything that it received, unless --data is given.
    """
    from ._local import serve

    set_up_logging(flags.verbose)
    with suppress(Interrupted):
        run_async(lambda: serve(flags), grace_seconds=_EMULATOR_GRACE_SECONDS)
