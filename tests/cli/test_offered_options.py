"""Each option that the help of a command offers can be used with that command."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import anyio
import click
import pytest

from async_uploader import Client
from async_uploader.cli import _commands, _hints, _local, _upload
from async_uploader.cli._check import find_source_errors
from async_uploader.cli._commands import app
from async_uploader.cli._flags import ServiceFlags
from async_uploader.cli._upload_runner import UploadRunner
from async_uploader.cli._watch import Watch
from harness.service import KEY

# Values by option, otherwise by metavar.
_VALUES: Final = {
    "--captions": "en=movie.en.vtt",
    "--data": "data",
    "--exclude": "*.mov",
    "--fault": "part=1:cut",
    "--host": "127.0.0.1",
    "--manifest": "manifest.csv",
    "--report": "report.html",
    "--thumbnail": "movie.jpg",
    "BYTES_PER_SECOND": "2MiB",
    "FILE": "results.jsonl",
    "KEY=VALUE": "id=x",
    "LANG=FILE": "en=chapters.vtt",
    "N": "2",
    "RATE": "2MiB",
    "SECONDS": "2",
    "SIZE": "5MiB",
    "URL": "http://127.0.0.1:1",
    "GLOB": "*.mp4",
    "here|service": "here",
    "part|bytes": "bytes",
}
_ARGUMENTS: Final = {
    "upload": ["movie.mp4"],
    "watch": ["."],
    "fleet": ["--manifest=manifest.csv", "--results=fleet.jsonl"],
    **{name: ["vi1"] for name in ("import", "status", "delete", "forget", "tokens delete")},
}
# What an option needs, if that is not an argument that others have, too.
_CONTEXT: Final = {
    "upload --manifest": [],
    "upload --max-latency": ["-"],
    "upload --recursive": ["folder"],
    "upload --include": ["folder"],
    "upload --exclude": ["folder", "--recursive"],
    "fleet --key-from-source": ["--manifest=objects.csv", "--results=fleet.jsonl", "--fetch=here"],
    "upload --fetch": ["http://127.0.0.1:1/a.mp4"],
    "upload --key-from-source": ["http://127.0.0.1:1/a.mp4", "--fetch=here"],
}
_NEEDED: Final = {
    "--wait-timeout": ["--wait"],
    "--data": ["--local"],
    "--keep-open": ["--local"],
}


def _commands_by_name() -> dict[str, click.Command]:
    tokens = app.commands["tokens"]
    assert isinstance(tokens, click.Group)
    commands = {**app.commands, **{f"tokens {name}": command for name, command in tokens.commands.items()}}
    return {name: command for name, command in commands.items() if not isinstance(command, click.Group)}


_COMMANDS: Final = _commands_by_name()


def _command_lines(name: str) -> Iterator[list[str]]:
    """A command line for each option of a command, and for each ``--no-…``."""
    command = _COMMANDS[name]
    for option in command.get_params(click.Context(command)):
        if isinstance(option, click.Option) and not option.is_eager:
            for written in (option.opts[0], *option.secondary_opts):
                yield _command_line(name, option, written)


def _command_line(command: str, option: click.Option, written: str) -> list[str]:
    arguments = _CONTEXT.get(f"{command} {written}", _ARGUMENTS.get(command, []))
    needed = _NEEDED.get(written, []) if command != "emulator" else []
    if option.is_flag or option.count:
        return [*command.split(), *arguments, *needed, written]
    value = _VALUES.get(written) or _VALUES.get(option.metavar or "", "2")
    return [*command.split(), *arguments, *needed, f"{written}={value}"]


class _AcceptedError(Exception):
    """The command is about to do its work."""


@pytest.fixture
def _stops_before_the_first_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("movie.mp4", "folder/a.mp4"):
        (tmp_path / name).write_bytes(b"video")
    (tmp_path / "movie.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    for name in ("movie.en.vtt", "chapters.vtt"):
        (tmp_path / name).write_text("WEBVTT\n\n00:00.000 --> 00:01.000\nHello\n")
    (tmp_path / "manifest.csv").write_text("source\nmovie.mp4\n")
    (tmp_path / "objects.csv").write_text("source\nhttp://127.0.0.1:1/a.mp4\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APIVIDEO_API_KEY", KEY)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"video")))

    async def stop(*_: object, **__: object) -> None:
        raise _AcceptedError

    def stop_after_checks(flags: ServiceFlags, _: object) -> None:
        Client(**flags.client_options())
        raise _AcceptedError

    async def no_fleet(*_: object) -> None:
        """A cluster takes seconds to start."""

    def run(work: Callable[[], Awaitable[object]], **_: object) -> object:
        return anyio.run(work)

    monkeypatch.setattr(_hints, "_base_url", "")
    monkeypatch.setattr(UploadRunner, "run", stop)
    monkeypatch.setattr(Watch, "run", stop)
    monkeypatch.setattr(_local, "serve", stop)
    monkeypatch.setattr("async_uploader.list_unfinished", stop)
    monkeypatch.setattr("async_uploader.forget_unfinished", stop)
    monkeypatch.setattr(_upload, "find_source_errors", _find_errors)
    monkeypatch.setattr(_upload, "_open_fleet", no_fleet)
    monkeypatch.setattr(_commands, "_run_request", stop_after_checks)
    monkeypatch.setattr(_commands, "run_async", run)
    monkeypatch.setattr(_commands, "set_up_logging", lambda *_, **__: None)


async def _find_errors(items: Any, flags: Any, **settings: Any) -> Sequence[Exception]:
    """The errors of all sources, except those on the web, which would be requested."""
    errors = [] if items[0].is_remote else await find_source_errors(items, flags, **settings)
    assert not errors
    return errors


@pytest.mark.parametrize("command", _COMMANDS)
@pytest.mark.usefixtures("_stops_before_the_first_request")
def test_offered_options_are_accepted(command: str) -> None:
    for arguments in _command_lines(command):
        try:
            app.main(arguments, prog_name="async-uploader", standalone_mode=False)
            pytest.fail(f"{' '.join(arguments)}: nothing was done")
        except (_AcceptedError, BaseExceptionGroup) as error:
            rest = error.split(_AcceptedError)[1] if isinstance(error, BaseExceptionGroup) else None
            assert rest is None, arguments
        except click.UsageError as error:
            pytest.fail(f"{' '.join(arguments)}: {error}")


@pytest.mark.usefixtures("_stops_before_the_first_request")
def test_options_without_an_effect_are_not_offered() -> None:
    for arguments in (
        ("watch", ".", "--fetch=here"),
        ("watch", ".", "--key-from-source"),
        ("fleet", *_ARGUMENTS["fleet"], "--local"),
        ("fleet", *_ARGUMENTS["fleet"], "--title=x"),
        ("fleet", *_ARGUMENTS["fleet"], "--no-resume"),
    ):
        with pytest.raises(click.NoSuchOption):
            app.main(arguments, prog_name="async-uploader", standalone_mode=False)
