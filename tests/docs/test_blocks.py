"""Runs every code block on every page: programs as programs, commands in a shell.

A program has to succeed and to print the output that the page shows after it, if any. A command has to exit with
0, unless the next one is `echo $?`. Its output has to contain the lines that the page shows, in their order.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from async_uploader.pytest_plugin import RunningEmulator
from harness.forking import Forks

from .blocks import BLOCKS, PROGRAM, ROOT, TERMINAL, Block, lacking

_EMULATOR_URL: Final = "http://127.0.0.1:8000"
#: Replaced by the videoId of an interrupted upload of the movie.
_VIDEO_ID: Final = "VIDEO_ID"
_LIMIT_SECONDS: Final = 30
# The emulator is stopped once it listens. Of `watch`, only the options are parsed. `make` only prints its
# commands, which would run for minutes. `pip` does nothing, because it would change this environment.
_SHELL: Final = rf"""
async-uploader() {{
    if [ "$1" = watch ]; then command async-uploader "$@" --help > /dev/null; return; fi
    if [ "$1" != emulator ]; then command async-uploader "$@"; return; fi
    coproc command async-uploader "$@"
    local pid=$COPROC_PID
    read -r line <&"${{COPROC[0]}}" && echo "$line"
    kill "$pid" && wait "$pid"
}}
pip() {{ [ "$*" = "install ." ]; }}
make() {{ command make --directory='{ROOT}' --dry-run "$@" > /dev/null; }}
"""


def run_here(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language and not block.run_by]


@pytest.mark.parametrize("block", run_here(PROGRAM), ids=str)
def test_program(block: Block, folder: Path, env: dict[str, str], forks: Forks) -> None:
    """The program succeeds, and prints what the page shows."""
    done = forks.run("-c", block.text, cwd=folder, env=env, timeout=_LIMIT_SECONDS)
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).strip()
    missing = lacking(done.stdout, (block.printed or "").splitlines())
    assert missing is None, f"{missing!r} is not in this order in:\n{done.stdout}"


@pytest.mark.parametrize("block", run_here(TERMINAL), ids=str)
def test_commands(
    block: Block,
    folder: Path,
    env: dict[str, str],
    started_by_hand: RunningEmulator,
    request: pytest.FixtureRequest,
) -> None:
    """The commands succeed, and print what the page shows."""
    video_id = request.getfixturevalue("interrupted") if _VIDEO_ID in block.text else ""
    commands = commands_of(replace(block, text=block.text.replace(_VIDEO_ID, video_id)))
    assert commands
    steps = [
        f"{{\n{command}\n}} 2>&1; code=$?; printf '\\n@ %s\\n' $code; (exit $code)".replace(
            _EMULATOR_URL, started_by_hand.url
        ).replace("--port 8000", "--port 0")
        for command, _ in commands
    ]
    done = subprocess.run(
        ["bash", "-c", _SHELL + "\n".join(steps)],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_LIMIT_SECONDS,
    )
    results = re.findall(r"(.*?)\n@ (\d+)\n", done.stdout, flags=re.DOTALL)
    assert len(results) == len(commands), done.stdout + done.stderr
    for (command, shown), (output, code), is_code_checked in zip(
        commands, results, checked_exit_codes(commands), strict=True
    ):
        assert code == "0" or is_code_checked, f"{command}\n{output}"
        missing = lacking(output, [line.replace(_EMULATOR_URL, "http://…") for line in shown])
        assert missing is None, f"{command}\ndoes not print {missing!r}, but:\n{output}"


def commands_of(block: Block) -> list[tuple[str, list[str]]]:
    """The commands of a block, each with the output that the page shows."""
    found: list[tuple[str, list[str]]] = []
    continues = False
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        elif continues:
            found[-1] = f"{found[-1][0]}\n{line}", []
        elif line:
            found[-1][1].append(line)
        continues = line.endswith("\\")
    return found


def checked_exit_codes(commands: list[tuple[str, list[str]]]) -> list[bool]:
    return [after == "echo $?" for (_, _), (after, _) in pairwise([*commands, ("", [])])]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_is_run(block: Block) -> None:
    """A block is run here, or by a test that reads the page."""
    if block.run_by is None:
        assert block.language in (PROGRAM, TERMINAL), f"{block} is run by no test; see tests/docs/blocks.py"
        return
    file, _, name = block.run_by.partition("::")
    text = (ROOT / file).read_text(encoding="utf-8")
    assert f"def {name}(" in text
    assert Path(block.page).name in text
