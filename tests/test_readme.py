"""Everything that the README shows, is run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest

from async_uploader.emulator import Emulator

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    lines = "".join(blocks("console")).splitlines()
    return [line.removeprefix("$ ").partition("  #")[0].strip() for line in lines]


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator() as emulator:
        yield emulator


async def run(command: list[str], folder: Path, emulator: Emulator) -> str:
    env = {**os.environ, "APIVIDEO_API_KEY": "local-key"}
    if "--local" not in command:
        env["APIVIDEO_BASE_URL"] = emulator.url
    done = await anyio.run_process(command, cwd=folder, env=env, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.parametrize("program", blocks("python", README + DOCS))
async def test_program(program: str, tmp_path: Path, make_file: Callable[..., Path], emulator: Emulator) -> None:
    make_file(1000)
    told = await run([sys.executable, "-W", "error", "-c", program], tmp_path, emulator)
    assert re.search(r"vi\w+|[0-9a-f]{64}", told)


@pytest.mark.parametrize("command", commands())
async def test_command(command: str, tmp_path: Path, make_file: Callable[..., Path], emulator: Emulator) -> None:
    make_file(1000)
    program, *arguments = shlex.split(command)
    if program == "make":
        # The suite cannot run itself; the demo has a test of its own.
        assert re.search(rf"^{arguments[0]}:", MAKEFILE, flags=re.MULTILINE)
    elif program == "export":
        assert arguments == ["APIVIDEO_API_KEY=your-key"]
    else:
        assert program == "async-uploader"
        arguments, target = (arguments[:-2], arguments[-1]) if ">" in arguments else (arguments, "")
        told = await run([sys.executable, "-m", "async_uploader", *arguments], tmp_path, emulator)
        assert "vi" in told or arguments == ["uploads"]
        assert not target or told.startswith("{")


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?:)([^)]+)\)", README))
def test_link(link: str) -> None:
    assert (ROOT / link).is_file()


def test_documented_faults_can_be_parsed() -> None:
    from async_uploader.emulator import Fault

    specs = re.findall(r"--fault '([^']+)'", README + DOCS)
    assert len(specs) >= 3
    for spec in specs:
        Fault.parse(spec)


def test_the_version_has_one_place() -> None:
    told = subprocess.check_output([sys.executable, "-m", "async_uploader", "--version"], text=True)
    import async_uploader

    assert told.split()[-1] == async_uploader.__version__
