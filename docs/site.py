"""What the site's pages have beside their text: the command line's own help, and docstrings in Markdown.

MkDocs calls the hook, mkdocstrings the extension; `mkdocs.yml` names both.
"""

from __future__ import annotations

import re
from typing import Any, Final

import click
import griffe

import async_uploader
from async_uploader.cli._commands import app

_HELP: Final = re.compile(r"^<!-- help of: (.*) -->$", flags=re.MULTILINE)
_ROLE: Final = re.compile(r":(?:attr|class|func|meth|mod):`(~?)([\w.]+)`")
_DOCTEST: Final = re.compile(r"(?:^>>> .*\n?)+", flags=re.MULTILINE)
_COLUMNS: Final = 80


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put in what `async-uploader COMMAND --help` says, where a page has `<!-- help of: COMMAND -->`."""
    return _HELP.sub(lambda found: f"```text\n{help_of(found[1])}\n```", markdown)


def help_of(names: str) -> str:
    """The help of a command, as a terminal of 80 columns shows it."""
    command: click.Command = app
    context = click.Context(app, info_name="async-uploader", max_content_width=_COLUMNS, terminal_width=_COLUMNS)
    for name in names.split():
        assert isinstance(command, click.Group)
        command = command.commands[name]
        context = click.Context(command, info_name=name, parent=context)
    return click.unstyle(command.get_help(context))


class Plain(griffe.Extension):
    """Docstrings are reST, of which three things are not Markdown: roles, `::`, and examples with prompts.

    And fields that a class has, but its docstring does not explain, are listed all the same.
    """

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Once for everything that has a docstring."""
        if obj.docstring is None:
            return
        text = as_markdown(obj.docstring.value)
        if isinstance(obj, griffe.Class):
            text += "\n" + "".join(f"\n:ivar {name}:" for name in _fields(obj) if f":ivar {name}:" not in text)
        obj.docstring.value = text.rstrip()


def _fields(obj: griffe.Class) -> list[str]:
    fields = (
        one for one in obj.members.values() if isinstance(one, griffe.Attribute) and not one.has_labels("property")
    )
    return [one.name for one in fields if one.annotation is not None and one.is_public]


def as_markdown(text: str) -> str:
    """The same text with Markdown's marks."""
    text = _ROLE.sub(_link, text)
    text = _DOCTEST.sub(_without_prompts, text)
    return re.sub(r"^::\n|(?<=:):$", "", text, flags=re.MULTILINE)


def _link(role: re.Match[str]) -> str:
    path = role[2]
    name = path.rpartition(".")[2] if role[1] else path
    first = path.removeprefix("async_uploader.").partition(".")[0]
    if path.startswith("async_uploader.events."):
        return f"[`{name}`][{path}]"
    if first in async_uploader.__all__:
        return f"[`{name}`][async_uploader.{path.removeprefix('async_uploader.')}]"
    return f"`{name}`"


def _without_prompts(example: re.Match[str]) -> str:
    lines = (line.removeprefix(">>> ").partition("  # doctest:")[0] for line in example[0].splitlines())
    return "```python\n" + "\n".join(lines) + "\n```\n"
