"""The plugin as its users have it: a run of pytest of its own, in a directory without any of our settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import pytest

from harness.forking import Forks

# Plugins that have no part in what is shown; a run takes several times as long where they are imported.
_OTHERS = ("hypothesispytest", "platformdirs", "xdist")
#: Arguments for a run with them nevertheless.
ALL_PLUGINS = tuple(word for name in _OTHERS for word in ("-p", name))
SETTINGS = f"""
[pytest]
addopts = --strict-markers --strict-config -p no:cacheprovider -p no:asyncio
    {" ".join(f"-p no:{name}" for name in _OTHERS)}
filterwarnings =
    error
"""
#: For a run in a process that has imported plugins before.
_WARM = "    ignore:Module already imported so cannot be rewritten:pytest.PytestAssertRewriteWarning\n"


class RunTests(Protocol):
    """Run tests that are given as text."""

    def __call__(self, program: str, *arguments: str, fresh: bool = False) -> pytest.RunResult: ...


@pytest.fixture
def run_tests(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, forks: Forks) -> RunTests:
    """In a process of its own; arguments are those of pytest.

    With ``fresh``, nothing has been imported there before.
    """
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(program: str, *arguments: str, fresh: bool = False) -> pytest.RunResult:
        Path(pytester.path, "test_theirs.py").write_text(program, encoding="utf-8")
        pytester.makeini(SETTINGS if fresh else SETTINGS + _WARM)
        if fresh:
            return pytester.runpytest_subprocess(*arguments, timeout=50)
        done = forks.run("-m", "pytest", *arguments, cwd=pytester.path, env=os.environ, timeout=50)
        print(done.stdout, done.stderr)  # noqa: T201 - is shown if the test fails
        return pytest.RunResult(done.returncode, done.stdout.splitlines(), done.stderr.splitlines(), 0)

    return run
