"""The text of the pages: links, specs of faults, names of errors, numbers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

import async_uploader
from async_uploader import _errors
from async_uploader._plan import plan_parts
from async_uploader._units import parse_size
from async_uploader.emulator import Fault
from async_uploader.emulator._problems import CATALOGUE
from harness.forking import Forks

from .blocks import BLOCKS, DOCS, PAGES, ROOT

TEXTS: Final = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}
ERRORS: Final = TEXTS["docs/errors.md"]
#: Refusals that only the emulator has. The catalogue need not list them.
_EMULATOR_ONLY: Final = {"misdirected-request", "forbidden-origin", "service-unavailable", "insufficient-storage"}
LINKS: Final = [
    (page, link) for page, text in TEXTS.items() for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text)
]


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_link(page: str, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    assert target.is_file()
    if anchor:
        headings = re.findall(r"^#+ (.*)", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert anchor in {
            re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
        }


def test_faults_can_be_parsed() -> None:
    specs = re.findall(r"--fault '([^']+)'", "".join(TEXTS.values()))
    assert len(specs) >= 3
    for spec in specs:
        Fault.parse(spec)


def test_every_error_is_explained() -> None:
    """Each exception and each slug has a row in the list of errors."""
    rows = "".join(line.split("|")[1] for line in ERRORS.splitlines() if line.startswith("|"))
    names = set(re.findall(r"`([\w-]+)`", rows))
    errors = {
        name
        for name in async_uploader.__all__
        if isinstance(found := getattr(async_uploader, name), type) and issubclass(found, Exception)
    }
    assert errors - {"UploaderError"} <= names
    assert set(CATALOGUE) <= names
    assert names <= errors | set(CATALOGUE) | _EMULATOR_ONLY


def test_configuration(folder: Path, env: dict[str, str], forks: Forks) -> None:
    """The configuration in docs/terminal.md is valid."""
    (text,) = (block.text for block in BLOCKS if (block.page, block.language) == ("docs/terminal.md", "toml"))
    (folder / "config.toml").write_text(text, encoding="utf-8")
    command = ("-m", "async_uploader", "--config", "config.toml", "upload", "movie.mp4", "--json")
    done = forks.run(*command, cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
    video = json.loads(done.stdout)
    settings = tomllib.loads(text)["upload"]
    assert (video["tags"], video["public"]) == (settings["tag"], settings["public"])


def test_planned_parts() -> None:
    """The table of files and parts matches the planner."""
    rows = re.findall(
        r"^\| ([\d]+ [GM]iB) \| (\d+) of (\d+ MiB) \|$", TEXTS["docs/planning.md"], flags=re.MULTILINE
    )
    assert len(rows) >= 4
    for size, parts, part_size in rows:
        plan = plan_parts(parse_size(size.replace(" ", "")))
        first = next(plan.parts())
        assert (plan.parts_total, first.size_bytes) == (int(parts), parse_size(part_size.replace(" ", "")))


def test_every_public_name_is_in_the_reference() -> None:
    named = "".join(text for name, text in TEXTS.items() if name.startswith("docs/reference/"))
    shown = set(re.findall(r"^::: async_uploader\.(\w+)$", named, flags=re.MULTILINE))
    errors = {name for name in async_uploader.__all__ if hasattr(_errors, name)}  # shown with their module
    assert set(async_uploader.__all__) - errors - {"__version__"} == shown - {"_errors", "events"}


def test_the_version_has_one_place() -> None:
    told = subprocess.check_output([sys.executable, "-m", "async_uploader", "--version"], text=True)
    assert told.split()[-1] == async_uploader.__version__
    assert "version" not in re.findall(
        r"^(\w+) =", (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project]")[2], re.MULTILINE
    )


def test_changelog_and_version_agree() -> None:
    """The newest section has this version, or is unreleased."""
    newest, *older = re.findall(r"^## (.*)", TEXTS["CHANGELOG.md"], flags=re.MULTILINE)
    released = [section.split()[0] for section in older]
    assert newest == "Unreleased" or newest.split()[0] == async_uploader.__version__
    assert async_uploader.__version__ not in released


def test_the_pages_are_on_the_site() -> None:
    """The table of contents has exactly the existing pages."""
    named = re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2])
    assert sorted(named) == sorted(str(page.relative_to(ROOT / "docs")) for page in DOCS)
    assert all((ROOT / "docs" / name).is_file() for name in named)


def test_pictures_are_there() -> None:
    shown = {Path(link).name for _, link in LINKS if link.startswith("pictures/")}
    assert shown == {
        path.name for path in (ROOT / "docs" / "pictures").iterdir() if path.suffix in (".svg", ".png")
    }


def test_the_readme_begins_with_the_installation() -> None:
    """Then come the commands that need nothing else. All examples are linked."""
    readme = TEXTS["README.md"]
    first, second, *_ = re.findall(r"^## (.*)", readme, flags=re.MULTILINE)
    assert (first, second) == ("Install", "Demo and tests")
    linked = {path for _, path in LINKS if path.startswith("examples/")}
    assert linked == {f"examples/{path.name}" for path in (ROOT / "examples").iterdir() if path.is_file()}


def test_the_home_of_the_site_explains_the_search() -> None:
    """It needs a web server: browsers let no page read files."""
    assert "run `python -m http.server --directory site`" in TEXTS["docs/index.md"]


def test_measured() -> None:
    """The documentation shows the goals of the committed results, and the README some of them."""
    _, goals, *_ = (ROOT / "benchmarks" / "results" / "table.md").read_text(encoding="utf-8").split("\n\n")
    assert goals in TEXTS["docs/benchmarks.md"]
    readme = TEXTS["README.md"]
    results = re.findall(r"^\| [^|]* \| ([\d.]+) (?:times|MB|s)\b", readme, flags=re.MULTILINE)
    assert len(results) == 4
    assert all(result in goals for result in results)
    met, unmet = goals.count("| met |"), goals.count("| **not met** |")
    assert f"{met} of {met + unmet} goals are met." in readme
