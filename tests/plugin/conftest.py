"""The plugin as its users have it: a run of pytest of its own, in a directory without any of our settings."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pytest

SETTINGS = """
[pytest]
addopts = --strict-markers --strict-config -p no:cacheprovider -p no:asyncio
filterwarnings = error
"""


class RunTests(Protocol):
    """Run tests that are given as text."""

    def __call__(self, program: str, *arguments: str) -> pytest.RunResult: ...


@pytest.fixture
def run_tests(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> RunTests:
    """In a process of its own; arguments are those of pytest."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makeini(SETTINGS)

    def run(program: str, *arguments: str) -> pytest.RunResult:
        Path(pytester.path, "test_theirs.py").write_text(program, encoding="utf-8")
        return pytester.runpytest_subprocess(*arguments, timeout=50)

    return run
