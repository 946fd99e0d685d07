"""The code blocks of the documentation, and the tests that run them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = sorted((ROOT / "docs").rglob("*.md"))
PAGES: Final = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "ARCHITECTURE.md",
    ROOT / "CHANGELOG.md",
    *DOCS,
]

#: The languages that are run here. A `text` block after a `python` block is its output.
PROGRAM: Final = "python"
TERMINAL: Final = "console"
PRINTED: Final = "text"

#: The tests that run all blocks of a language of a page.
_ELSEWHERE: Final = {
    ("docs/terminal.md", "toml"): "tests/docs/test_text.py::test_configuration",
    ("docs/testing.md", "py"): "tests/plugin/test_docs.py::test_tests",
    ("docs/testing.md", "sh"): "tests/plugin/test_docs.py::test_shell",
}
#: In these pages, blocks without a language are drawings.
_DRAWINGS: Final = ("ARCHITECTURE.md", "docs/terminal.md")
_FENCE: Final = re.compile(
    r"(?:^<!-- run by: (?P<run_by>\S+) -->\n\n?)?^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$",
    flags=re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A code block.

    :param line: the line of its fence
    :param run_by: the test that runs it, as `FILE::NAME`; None: the tests of this package
    :param printed: the output of a program, as the page shows it; None if the page shows none
    """

    page: str
    line: int
    language: str
    text: str
    run_by: str | None
    printed: str | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """All blocks of a page. A block with the output of a program is part of the program's block."""
    content = page.read_text(encoding="utf-8")
    found: list[Block] = []
    for fence in _FENCE.finditer(content):
        if fence["language"] == PRINTED and found and found[-1].language == PROGRAM:
            found[-1] = replace(found[-1], printed=fence["text"])
            continue
        name = str(page.relative_to(ROOT))
        found.append(
            Block(
                page=name,
                line=content.count("\n", 0, fence.start("language")) + 1,
                language=fence["language"],
                text=fence["text"],
                run_by=fence["run_by"] or _ELSEWHERE.get((name, fence["language"])),
            )
        )
    return found


BLOCKS: Final = [
    block for page in PAGES for block in blocks_of(page) if block.language or block.page not in _DRAWINGS
]


def fits(line: str, shown: str) -> bool:
    """Whether a line matches a line of a page. `…` matches any text."""
    pattern = ".*".join(re.escape(piece) for piece in shown.rstrip().split("…"))
    return re.fullmatch(pattern, line.rstrip()) is not None


def lacking(output: str, shown: list[str]) -> str | None:
    """The first line of `shown` that is missing in the output, in this order. None if there are all lines."""
    lines = iter(output.splitlines())
    return next((one for one in shown if not any(fits(line, one) for line in lines)), None)
