"""Runs pytest as users of the plugin do: in another process, without the settings of this project."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import pytest

from harness.forking import Forks

# Plugins that do not affect these tests, but make a run several times slower.
_OTHERS = ("hypothesispytest", "platformdirs", "xdist")
#: Arguments of a run with these plugins.
ALL_PLUGINS = tuple(word for name in _OTHERS for word in ("-p", name))
SETTINGS = f"""
[pytest]
addopts = --strict-markers --strict-config -p no:cacheprovider -p no:asyncio
    {" ".join(f"-p no:{name}" for name in _OTHERS)}
filterwarnings =
    error
"""
#: For a run in a process that has already imported plugins.
_WARM = "    ignore:Module already imported so cannot be rewritten:pytest.PytestAssertRewriteWarning\n"


class RunTests(Protocol):
    """Runs a test module that is given as text."""

    def __call__(self, program: str, *arguments: str, fresh: bool = False) -> pytest.RunResult: ...


@pytest.fixture
def run_tests(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, forks: Forks) -> RunTests:
    """Run a test module in another process, with arguments of pytest.

    With ``fresh``, that process has imported nothing before.
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
