"""What the type checkers of users find; mypy reads ``api.py`` with everything else (``make types``)."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Final

import pytest

from .checkers import ROOT, pyright

PUBLIC_MODULES: Final = (
    "async_uploader",
    "async_uploader.emulator",
    "async_uploader.events",
    "async_uploader.fleet",
    "async_uploader.pytest_plugin",
    "async_uploader.telemetry",
)
#: Types that pyright reaches, although users need not name them.
NOT_IN_SIGNATURES: Final = frozenset(
    {
        "async_uploader._api.account.AccountApi",  # a base of Client, which shows its methods as its own
    }
)


@pytest.fixture(scope="module")
def completeness(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The report of ``pyright --verifytypes``, with each type that a public name refers to."""
    folder = tmp_path_factory.mktemp("elsewhere")
    return pyright("--verifytypes", "async_uploader", "--ignoreexternal", folder=folder)["typeCompleteness"]


def test_use_of_the_public_names() -> None:
    """``api.py`` passes with the strict settings in ``pyproject.toml``."""
    report = pyright(folder=ROOT)
    assert report["generalDiagnostics"] == []
    assert report["summary"]["filesAnalyzed"] >= 1


def test_a_wrong_use_is_found(tmp_path: Path) -> None:
    """Proves that the test above can fail."""
    (tmp_path / "wrong.py").write_text(
        "import async_uploader\nasync_uploader.Client(api_key=1)\n", encoding="utf-8"
    )
    found = pyright("wrong.py", folder=tmp_path)["generalDiagnostics"]
    assert any(one.get("rule") == "reportArgumentType" for one in found)


def test_types_are_complete(completeness: Any) -> None:
    """Every public name, and every type that it refers to, has a declared type."""
    exported, others = completeness["exportedSymbolCounts"], completeness["otherSymbolCounts"]
    assert completeness["completenessScore"] == 1
    assert exported["withKnownType"] > 100
    assert exported["withUnknownType"] == others["withUnknownType"] == 0
    assert [symbol["name"] for symbol in completeness["symbols"] if symbol["isTypeAmbiguous"]] == []


def test_types_in_public_signatures_can_be_imported(completeness: Any) -> None:
    """Each class that pyright reaches from a public name can be imported from a public module."""
    public = {id(value) for name in PUBLIC_MODULES for value in _public_values(name)}
    classes = {
        symbol["name"]
        for symbol in completeness["symbols"]
        if symbol["category"] == "class" and not symbol["isExported"]
    }
    assert "async_uploader._models.Video" in classes
    hidden = {name for name in classes if id(resolve_name(name)) not in public}
    assert hidden == NOT_IN_SIGNATURES


def _public_values(module: str) -> list[object]:
    found = import_module(module)
    return [getattr(found, name) for name in found.__all__]
