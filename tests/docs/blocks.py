"""The code blocks of the pages: what they show, and where they are run."""

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

#: What is run here. A `text` block behind a `python` one is what that prints.
PROGRAM: Final = "python"
TERMINAL: Final = "console"
PRINTED: Final = "text"

#: Blocks of a page that are run by another test, which takes all of this language.
_ELSEWHERE: Final = {
    ("docs/terminal.md", "toml"): "tests/docs/test_text.py::test_configuration",
    ("docs/testing.md", "py"): "tests/plugin/test_docs.py::test_tests",
    ("docs/testing.md", "sh"): "tests/plugin/test_docs.py::test_shell",
}
#: What has no language here, is drawn: there is nothing to run.
_DRAWINGS: Final = ("ARCHITECTURE.md", "docs/terminal.md")
_FENCE: Final = re.compile(
    r"(?:^<!-- run by: (?P<run_by>\S+) -->\n\n?)?^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$",
    flags=re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A code block.

    :param line: of its fence
    :param run_by: the test that runs it, `FILE::NAME`, if it is not this package's
    :param printed: what a program prints, as the page shows it; None if it does not
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
    """All blocks of a page; one that shows what the program before it prints is part of that."""
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
    """Whether a line is what a page shows; `…` there stands for anything."""
    pattern = ".*".join(re.escape(piece) for piece in shown.rstrip().split("…"))
    return re.fullmatch(pattern, line.rstrip()) is not None


def lacking(output: str, shown: list[str]) -> str | None:
    """The first line of `shown` that the output does not have, in this order; None if it has all of them."""
    lines = iter(output.splitlines())
    return next((one for one in shown if not any(fits(line, one) for line in lines)), None)
