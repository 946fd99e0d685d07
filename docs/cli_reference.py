"""The command line reference of the site, made from the commands themselves.

A page has a heading for each command and, below it, `<!-- command: NAME -->`. MkDocs calls
:func:`on_page_markdown`, which replaces these comments; `mkdocs.yml` names this file as a hook.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import cleandoc
from typing import Final

import click

from async_uploader.cli._commands import app
from async_uploader.cli._params import PANELS
from async_uploader.emulator._fault_help import fault_tables

_FAULT_SPECS: Final = "<!-- fault specs -->"
_COMMENT: Final = re.compile(r"^<!-- command:(.*) -->$", flags=re.MULTILINE)
#: Help texts state these two in words; the tables have a column for each.
_DEFAULT: Final = re.compile(r" ?(?:Default: (?P<sentence>.*?)\.(?= |$)|\(default: (?P<note>[^)]*)\))")
_ENVIRONMENT: Final = re.compile(r" ?Environment: (?P<name>\w+)\.?")
#: Options and environment variables in running text.
_CODE: Final = re.compile(r"(?<![\w-])(--?[a-z][\w-]*|[A-Z]+_[A-Z_]+)(?![\w-])")
_MARKDOWN: Final = re.compile(r"([\\`*_\[\]|])")
_HEADER: Final = "| option | meaning | default | environment |\n| --- | --- | --- | --- |"
_GENERAL: Final = "Options"


def on_page_markdown(markdown: str, **_: object) -> str:
    """Describe each command at `<!-- command: NAME -->`, and the syntax of faults at `<!-- fault specs -->`."""
    markdown = markdown.replace(_FAULT_SPECS, fault_tables())
    return _COMMENT.sub(lambda found: describe(found[1].strip()), markdown)


def describe(names: str) -> str:
    """A command's usage, description, options and examples; without a name, those of all commands together."""
    context = _context(names)
    command = context.command
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    pieces = [f"```text\n{usage}\n```"]
    if names:
        pieces.append(_text(command.help or ""))
    pieces += _arguments(command)
    pieces += _options(context, anchor=names.replace(" ", "-") or "async-uploader")
    pieces += _examples(command)
    return "\n\n".join(pieces)


def _context(names: str) -> click.Context:
    context = click.Context(app, info_name="async-uploader", **app.context_settings)
    for name in names.split():
        assert isinstance(context.command, click.Group)
        context = click.Context(context.command.commands[name], info_name=name, parent=context)
    return context


def _arguments(command: click.Command) -> Iterator[str]:
    rows = [
        f"| `{argument.metavar}` | {_text(text)} |"
        for argument in command.params
        if isinstance(argument, click.Argument) and (text := getattr(argument, "help", None))
    ]
    if rows:
        yield "\n".join(["| argument | meaning |", "| --- | --- |", *rows])


def _options(context: click.Context, *, anchor: str) -> Iterator[str]:
    """A table for each group of options, in the order of the command's own help."""
    groups: dict[str, list[str]] = {title: [] for title in (_GENERAL, *PANELS)}
    for option in context.command.get_params(context):
        if isinstance(option, click.Option) and not option.hidden:
            groups[_group(context.command, option)].append(_row(context, option))
    groups = {title: rows for title, rows in groups.items() if rows}
    for title, rows in groups.items():
        if len(groups) > 1:
            yield f"### {title} {{#{anchor}-{title.lower().replace(' ', '-')}}}"
        yield "\n".join([_HEADER, *rows])


def _group(command: click.Command, option: click.Option) -> str:
    if "--help" in option.opts and not isinstance(command, click.Group):
        return PANELS[-1]
    return getattr(option, "panel", None) or _GENERAL


def _row(context: click.Context, option: click.Option) -> str:
    meaning = " ".join(cleandoc(option.help or "").split())
    default, environment = _DEFAULT.search(meaning), _ENVIRONMENT.search(meaning)
    meaning = _ENVIRONMENT.sub("", _DEFAULT.sub("", meaning)).strip()
    names = [f"`{name}`" for name in (*option.opts, *option.secondary_opts)]
    if not (option.is_flag or option.count):
        names[-1] = f"{names[-1][:-1]} {option.make_metavar(context)}`"
    cells = (
        ", ".join(names),
        _text(meaning),
        _text(default["sentence"] or default["note"]) if default else _unsaid_default(option),
        f"`{environment['name']}`" if environment else "",
    )
    return f"| {' | '.join(cells)} |"


def _unsaid_default(option: click.Option) -> str:
    if option.is_flag and not option.secondary_opts:
        return "" if option.is_eager else "off"
    return "none" if option.multiple else ""


def _examples(command: click.Command) -> Iterator[str]:
    """The lines of the epilog that can be typed."""
    lines = [line.strip() for line in (command.epilog or "").splitlines() if line.startswith("  ")]
    if lines:
        yield "Examples:"
        yield "\n".join(["```console", *(f"$ {line}" for line in lines), "```"])


def _text(text: str) -> str:
    """Plain text as Markdown, with options and variables as code."""
    pieces = _CODE.split(text)
    pieces[0::2] = [_MARKDOWN.sub(r"\\\1", piece).replace("<", "&lt;") for piece in pieces[0::2]]
    pieces[1::2] = [f"`{piece}`" for piece in pieces[1::2]]
    return "".join(pieces)
