"""What type checkers find in the package. ``make types`` checks ``api.py``, which uses the public names."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Final

from .checkers import pyright

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


def test_types_are_complete(tmp_path: Path) -> None:
    """Every public name, and every type that it refers to, has a declared type and can be imported."""
    report = pyright("--verifytypes", "async_uploader", "--ignoreexternal", folder=tmp_path)
    completeness = report["typeCompleteness"]
    exported, others = completeness["exportedSymbolCounts"], completeness["otherSymbolCounts"]
    assert completeness["completenessScore"] == 1
    assert exported["withKnownType"] > 100
    assert exported["withUnknownType"] == others["withUnknownType"] == 0
    assert [symbol["name"] for symbol in completeness["symbols"] if symbol["isTypeAmbiguous"]] == []
    _check_importable(completeness)


def _check_importable(completeness: Any) -> None:
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
