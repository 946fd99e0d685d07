"""Docstrings as Markdown: an extension of mkdocstrings, named in `mkdocs.yml`."""

from __future__ import annotations

import re
from typing import Any, Final

import griffe

import async_uploader

_ROLE: Final = re.compile(r":(?:attr|class|func|meth|mod):`(~?)([\w.]+)`")
_DOCTEST: Final = re.compile(r"(?:^>>> .*\n?)+", flags=re.MULTILINE)


class Plain(griffe.Extension):
    """Convert the three parts of reST that Markdown does not have: roles, `::`, and examples with prompts.

    Public fields that the docstring of a class does not mention are added to its list of fields.
    """

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of an object."""
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
    """Convert a docstring from reST to Markdown."""
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
