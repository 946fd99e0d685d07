"""The command line reference lists every option of every command."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from typing import Any, Final

import click
import pytest

from async_uploader.cli._commands import app

from .blocks import ROOT


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("cli_reference", ROOT / "docs" / "cli_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _commands(group: click.Group, *before: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, *before, name)
        else:
            yield " ".join((*before, name)), command


REFERENCE: Final = _load()
COMMANDS: Final = [("", app), *_commands(app)]
PAGE: Final = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    """The cells of the rows of all tables of options."""
    cells = [re.split(r"(?<!\\) \| ", line[2:-2]) for line in text.splitlines() if line.startswith("| `-")]
    assert all(len(row) == 4 for row in cells)
    return cells


def test_every_command_has_a_heading() -> None:
    headings = re.findall(r"^## (.*)\n\n<!-- command: ?(.*) -->$", PAGE, flags=re.MULTILINE)
    names = [("Global options", ""), *((name, name) for name, _ in _commands(app))]
    assert sorted(headings) == sorted((heading, command) for heading, command in names)


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name or "async-uploader" for name, _ in COMMANDS])
def test_every_option_is_listed(name: str, command: click.Command) -> None:
    """Each option has one row, with all its names and a meaning; defaults and variables have their columns."""
    table = rows(REFERENCE.describe(name))
    listed = [re.findall(r"`(--?[\w-]+)", names) for names, *_ in table]
    context = click.Context(command, **app.context_settings)
    options = [option for option in command.get_params(context) if isinstance(option, click.Option)]
    assert sorted(listed) == sorted([*option.opts, *option.secondary_opts] for option in options)
    for names, meaning, default, _ in table:
        assert meaning, names
        assert "Default:" not in meaning, names
        assert "Environment:" not in meaning, names
        assert default or re.search("--(verbose|help|version|upload-token)", names), f"{names} has no default"


def test_units_defaults_and_variables() -> None:
    by_name = {names: cells for names, *cells in rows(REFERENCE.describe("upload"))}
    assert by_name["`--stall-timeout SECONDS`"][1].startswith("30")
    assert by_name["`--buffer SIZE`"][1] == "64MiB"
    assert by_name["`--base-url URL`"][1:] == ["production", "`APIVIDEO_BASE_URL`"]
    assert by_name["`--ranges part|bytes`"][1] == "part"


def test_the_page_is_complete() -> None:
    """The hook leaves no comment behind, and adds usage and examples."""
    page = REFERENCE.on_page_markdown(PAGE)
    assert "<!--" not in page
    assert "async-uploader upload [OPTIONS] [SOURCE]..." in page
    assert "$ async-uploader upload movie.mp4 --local" in page


@pytest.mark.parametrize(
    ("text", "default"),
    [
        ("Parts. Default: 8.", "8"),
        ("Parts (default: 8)", "8"),
        ("Rate. Default: 1.5 s, at most. More.", "1.5 s, at most"),
    ],
)
def test_defaults_in_words(text: str, default: str) -> None:
    option = click.Option(["--parts"], help=text)
    ((_, meaning, found, _),) = rows(REFERENCE._row(click.Context(app), option))
    assert found == default
    assert default not in meaning
