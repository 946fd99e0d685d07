"""What users' type checkers make of the package; mypy reads ``api.py`` with everything else (``make types``)."""

from __future__ import annotations

from pathlib import Path

from .checkers import ROOT, pyright


def test_use_of_the_public_names() -> None:
    """Strictly; the settings are those of ``pyproject.toml``."""
    report = pyright(folder=ROOT)
    assert report["generalDiagnostics"] == []
    assert report["summary"]["filesAnalyzed"] >= 1


def test_a_wrong_use_is_found(tmp_path: Path) -> None:
    """So that the test above can fail."""
    (tmp_path / "wrong.py").write_text(
        "import async_uploader\nasync_uploader.Client(api_key=1)\n", encoding="utf-8"
    )
    found = pyright("wrong.py", folder=tmp_path)["generalDiagnostics"]
    assert any(one.get("rule") == "reportArgumentType" for one in found)


def test_the_types_are_complete(tmp_path: Path) -> None:
    """Every public name, and what it refers to, has a declared type."""
    report = pyright("--verifytypes", "async_uploader", "--ignoreexternal", folder=tmp_path)["typeCompleteness"]
    assert report["exportedSymbolCounts"]["withKnownType"] > 100
    assert report["exportedSymbolCounts"]["withUnknownType"] == report["otherSymbolCounts"]["withUnknownType"] == 0
    inferred = [symbol["name"] for symbol in report["symbols"] if symbol["isTypeAmbiguous"]]
    assert inferred == []
