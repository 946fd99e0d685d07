"""Runs the examples in docstrings that the reference shows."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Final

import pytest

from harness.forking import Forks

from .blocks import DOCS

_TEMPLATE: Final = """
import asyncio
from async_uploader import *
from async_uploader.emulator import Emulator, Fault

async def main():
    data, paths = b"a piece", ["movie.mp4"]
    async with Client() as client:
        ...
"""


def documented_objects() -> Iterator[tuple[str, object]]:
    """The objects in the reference, and their public members."""
    for page in DOCS:
        for name in re.findall(r"^::: ([\w.]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
            found = resolve_name(name)
            yield name, found
            members = inspect.getmembers(found) if inspect.isclass(found) else []
            yield from ((f"{name}.{member}", one) for member, one in members if not member.startswith("_"))


def examples() -> Iterator[tuple[str, str]]:
    """The literal blocks and prompts of Python code."""
    for name, found in documented_objects():
        text = inspect.cleandoc(getattr(found, "__doc__", None) or "")
        prompts = re.findall(r"^>>> (.*?)(?:  # doctest:.*)?$", text, flags=re.MULTILINE)
        literal = re.findall(r"::\n\n((?:(?: {4}.*)?\n?)+)", text)
        for code in ["\n".join(prompts), *map(textwrap.dedent, literal)]:
            if code.strip() and is_python(code):
                yield name, code


def is_python(code: str) -> bool:
    try:
        ast.parse(f"async def _():\n{textwrap.indent(code, '    ')}")
    except SyntaxError:
        return False
    return True


EXAMPLES: Final = list(examples())


@pytest.mark.parametrize(("name", "code"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_example(name: str, code: str, folder: Path, env: dict[str, str], forks: Forks) -> None:
    around, before = (_TEMPLATE.partition("async def")[0], "") if "asyncio.run" in code else (_TEMPLATE, " " * 8)
    program = around + textwrap.indent(code, before) + ("\nasyncio.run(main())" if before else "")
    done = forks.run("-c", program, cwd=folder, env=env)
    assert done.returncode == 0, done.stderr


def test_there_are_examples() -> None:
    assert {"async_uploader.upload", "async_uploader.Client"} <= {name for name, _ in EXAMPLES}
