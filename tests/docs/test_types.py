"""Every Python block of the pages passes mypy --strict and pyright strict, like a user's program."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Final

from tests.typing.checkers import mypy, pyright

from .blocks import BLOCKS

#: A program that both checkers have to refuse. It shows that they read the files with strict settings.
_WRONG: Final = "wrong"
_WRONG_PROGRAM: Final = "def untyped(argument): ...\n"
#: The reader's module that docs/testing.md imports.
_READERS_MODULE: Final = "def my_upload(url: str, key: str, data: bytes) -> str:\n    raise NotImplementedError\n"


def write_programs(folder: Path) -> dict[Path, str]:
    """Write each Python block to a file; returns the names of the blocks."""
    programs = {folder / "wrong.py": _WRONG}
    (folder / "wrong.py").write_text(_WRONG_PROGRAM, encoding="utf-8")
    (folder / "theirs.py").write_text(_READERS_MODULE, encoding="utf-8")
    numbers: defaultdict[str, int] = defaultdict(int)
    for block in BLOCKS:
        if block.language in ("python", "py"):
            numbers[block.page] += 1
            name = f"{block.page} {numbers[block.page]}"
            path = folder / (re.sub(r"\W", "_", name) + ".py")
            path.write_text(block.text, encoding="utf-8")
            programs[path] = name
    return programs


def test_every_python_block_is_typed(tmp_path: Path) -> None:
    programs = write_programs(tmp_path)
    settings = {"typeCheckingMode": "strict", "pythonVersion": "3.11"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    found_by_mypy = [
        (programs[tmp_path / error["file"]], f"mypy: line {error['line']}: {error['message']}")
        for error in mypy(programs, folder=tmp_path)
    ]
    found_by_pyright = [
        (
            programs[Path(error["file"])],
            f"pyright: line {error['range']['start']['line'] + 1}: {error['message']}",
        )
        for error in pyright(folder=tmp_path)["generalDiagnostics"]
    ]
    for found in (found_by_mypy, found_by_pyright):
        assert _WRONG in dict(found), "a checker did not find the wrong program"
    errors = [f"{name}: {text}" for name, text in (*found_by_mypy, *found_by_pyright) if name != _WRONG]
    assert not errors, "\n".join(errors)
