"""Help, error messages for typing errors, and shell completion."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator

import click
import pytest

from async_uploader import __version__
from async_uploader.cli._commands import app
from async_uploader.cli._examples import APP, EMULATOR, IMPORT, UPLOAD
from async_uploader.emulator import Fault
from async_uploader.emulator._fault_help import fault_help
from harness.service import KEY

from .conftest import MIB, Cli, StartCli
from .test_upload import MakeFile, StartService


def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


ALL = dict(commands(app))
OPTIONS = [
    pytest.param(param, id=f"{name} {param.opts[0]}")
    for name, command in ALL.items()
    for param in command.get_params(click.Context(command))
    if isinstance(param, click.Option)
]


@pytest.mark.parametrize("option", OPTIONS)
def test_help_of_each_option(option: click.Option) -> None:
    """A phrase without a period, or sentences; the unit; the default; the environment variable."""
    text = option.help or ""
    assert len(text) > 10
    assert text[0].isupper()
    assert text.endswith(".") == (". " in text)
    is_value = not option.is_flag and not option.count
    has_environment = option.name in ("base_url", "upload_token")
    assert ("Environment: APIVIDEO_" in text) == has_environment
    if is_value and not has_environment:
        assert "(default: " in text
    if isinstance(option.type, click.types.FloatParamType):
        assert option.metavar == "SECONDS"
    if option.secondary_opts:
        assert "(default: " in text


@pytest.mark.parametrize("name", ["", *ALL])
@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_help_of_every_command(cli: Cli, name: str, columns: str) -> None:
    """It fits the terminal, except for the examples."""
    if columns != "80" and name not in ("", "upload"):
        return
    done = cli(*name.split(), "--help", COLUMNS=columns)
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: async-uploader {name}".rstrip())
    before = done.stdout.split("Examples:")[0]
    assert max(map(len, before.splitlines())) <= max(int(columns), 50)


EXAMPLES = [
    line.strip() for text in (APP, UPLOAD, IMPORT, EMULATOR) for line in text.splitlines() if "  async-up" in line
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_valid(example: str) -> None:
    """Each example is a valid command line."""
    _, name, *arguments = shlex.split(example)
    command = ALL[name]
    with command.make_context(name, list(arguments)) as context:
        assert any(context.params.values())
    for spec in context.params.get("faults") or ():
        Fault.parse(spec)


def test_the_version(cli: Cli) -> None:
    """One line that scripts can parse."""
    assert cli("--version").stdout == f"async-uploader {__version__}\n"


def test_help_about_faults(cli: Cli) -> None:
    """It needs no other option and no documentation."""
    done = cli("emulator", "--help-faults")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{fault_help()}\n", "")


MISTYPED = {
    "option": ("upload x.mp4 --conurrency 3", "No such option '--conurrency'. Did you mean '--concurrency'?"),
    "option of the emulator": ("emulator --latencie 3", "Did you mean '--latency'?"),
    "command": ("statsu vi1", "Did you mean 'status'?"),
    "command of a group": ("tokens creat", "Did you mean 'create'?"),
    "value": ("upload x.mp4 --ranges parts", "--ranges must be 'part' or 'bytes', not 'parts'"),
    "fault": ("emulator --fault part=1:cutt", "is not a known action"),
    "fault's syntax": ("emulator --fault part=1:cutt", "'emulator --help-faults' prints the syntax."),
}


@pytest.mark.parametrize(("arguments", "suggestion"), MISTYPED.values(), ids=MISTYPED)
def test_typing_errors(cli: Cli, arguments: str, suggestion: str) -> None:
    """The message suggests the nearest valid name."""
    done = cli(*arguments.split(), APIVIDEO_API_KEY="key")
    assert done.returncode == 2
    assert suggestion in done.stderr.splitlines()[0]


# Completion


def completed(cli: Cli, line: str) -> list[str]:
    """The candidates for bash at the end of a line."""
    words = line.split(" ")
    done = cli(_ASYNC_UPLOADER_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1))
    return done.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(cli: Cli, shell: str) -> None:
    """There is a script for each shell that the help names."""
    done = cli(_ASYNC_UPLOADER_COMPLETE=f"{shell}_source")
    assert done.returncode == 0
    assert f"_ASYNC_UPLOADER_COMPLETE={shell}_complete" in done.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=True)


def test_completions(cli: Cli) -> None:
    """Commands, options, values and files are completed."""
    assert completed(cli, "async-uploader up") == ["plain,upload", "plain,uploads"]
    assert "plain,--concurrency" in completed(cli, "async-uploader upload --co")
    assert completed(cli, "async-uploader upload --ranges b") == ["plain,bytes"]
    assert completed(cli, "async-uploader upload mov") == ["file,mov"]
    assert completed(cli, "async-uploader upload --report re") == ["file,re"]


def test_unfinished_uploads_are_completed(
    start_service: StartService, start_cli: StartCli, cli: Cli, make_file: MakeFile
) -> None:
    """`forget` completes the ids of interrupted uploads."""
    assert completed(cli, "async-uploader forget vi") == []
    with start_service(connection_rate=5_000_000) as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        process = start_cli("upload", make_file("x.mp4", 100 * MIB, sparse=True), "--part-size=5MiB", **settings)
        service.wait_for(lambda emulator: any(video.received_bytes for video in emulator.videos.values()))
        process.terminate()
        process.communicate(timeout=10)
        (video_id,) = service.emulator.videos
    assert completed(cli, "async-uploader forget vi") == [f"plain,{video_id}"]
    assert completed(cli, "async-uploader forget nothing") == []
    assert re.fullmatch("vi[a-zA-Z0-9]+", video_id)
