"""The table of the service's endpoints in `docs/emulator.md`: which of them the emulator implements.

python -m tests.emulator.endpoint_table    writes the table
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml

from async_uploader.emulator._api.unimplemented import unimplemented_rows

DOCS: Final = Path(__file__).parents[2] / "docs" / "emulator.md"
#: The service's OpenAPI description. The loader in C takes a tenth of the time.
DESCRIPTION: Final[Any] = yaml.load(
    (Path(__file__).parent / "openapi.yaml").read_bytes(),
    Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader),
)
_BLOCK: Final = re.compile(r"(?<=<!-- endpoints -->\n).*?(?=<!-- end of endpoints -->)", re.DOTALL)


def endpoints() -> list[tuple[str, str]]:
    """Every method and path of the OpenAPI description."""
    return [(method.upper(), path) for path, methods in DESCRIPTION["paths"].items() for method in methods]


def is_implemented(method: str, path: str) -> bool:
    missing = {(row[1], row[2]) for row in unimplemented_rows()}
    return (method, re.sub(r"{\w+}", "ID", path)) not in missing


def table() -> str:
    """The table in Markdown: a line for each path."""
    lines = ["| path | implemented | 501 |", "| --- | --- | --- |"]
    for path, methods in DESCRIPTION["paths"].items():
        names = [method.upper() for method in methods]
        present = [name for name in names if is_implemented(name, path)]
        absent = [name for name in names if name not in present]
        lines.append(f"| `{path}` | {', '.join(present)} | {', '.join(absent)} |")
    return "\n".join(line.replace("|  |", "| |") for line in lines) + "\n"


def documented() -> str:
    """The table that the documentation has."""
    match = _BLOCK.search(DOCS.read_text(encoding="utf-8"))
    assert match, f"{DOCS} has no place for the table."
    return match[0]


if __name__ == "__main__":
    DOCS.write_text(_BLOCK.sub(lambda _: table(), DOCS.read_text(encoding="utf-8")), encoding="utf-8")
