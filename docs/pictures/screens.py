"""Makes the pictures of the terminal, the emulator's page and a report, from real runs. Needs Chromium.

Run it in a checkout: ``.venv/bin/python -m docs.pictures.screens``.
"""

from __future__ import annotations

import asyncio
import html
import os
import shutil
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pyte
from playwright.async_api import Browser, async_playwright

from async_uploader.emulator import Emulator, Fault
from harness.forking import Forks
from harness.terminal import Terminal, at_terminal

_PICTURES: Final = Path(__file__).parent
_MIB: Final = 1024 * 1024
_COLUMNS: Final = 100
_ROWS: Final = 14
_FILES: Final = {"holidays.mp4": 36, "garden.mp4": 18, "birthday.mp4": 30}
_COMMAND: Final = ["upload", *_FILES, "--part-size", "6MiB", "--report", "report.html"]
_CHARACTER_WIDTH, _LINE_HEIGHT, _MARGIN = 8.43, 19, 16
_COLOURS: Final = {
    "default": "#d8dee9",
    "green": "#8ccf7e",
    "brightcyan": "#67b0e8",
    "brightblack": "#4c5664",
    "brown": "#e5c76b",
}
_PAGE_WIDTH: Final = 1100


async def main() -> None:
    """Upload three files at a terminal, and take pictures in the middle and at the end."""
    with TemporaryDirectory() as name, Forks() as forks:
        directory = Path(name)
        for file, size_mib in _FILES.items():
            with (directory / file).open("wb") as movie:
                movie.truncate(size_mib * _MIB)
        faults = [Fault.parse("part=2,attempt=1,times=1:cut,when=middle")]
        async with (
            Emulator(connection_rate=3 * _MIB, link_rate=14 * _MIB, faults=faults) as emulator,
            async_playwright() as playwright,
        ):
            browser = await playwright.chromium.launch(
                executable_path=shutil.which("chromium") or shutil.which("chromium-browser"),
                args=["--no-sandbox"] if os.geteuid() == 0 else [],
            )
            uploading = asyncio.to_thread(upload, forks, directory, emulator.url)
            await asyncio.gather(uploading, photograph_page(browser, emulator))
            await photograph(browser, (directory / "report.html").as_uri(), "report.png", height=1030)
            await browser.close()


def upload(forks: Forks, directory: Path, url: str) -> None:
    """Run the command in a terminal; draw the screen in its middle, and the last one."""
    with at_terminal(
        forks,
        _COMMAND,
        directory,
        columns=_COLUMNS,
        rows=_ROWS,
        APIVIDEO_BASE_URL=url,
        APIVIDEO_API_KEY="local-key",
        XDG_STATE_HOME=str(directory / "state"),
    ) as terminal:
        began = time.monotonic()
        terminal.read_until(lambda _: time.monotonic() - began > 4)
        (_PICTURES / "terminal.svg").write_text(draw(terminal), encoding="utf-8")
        if terminal.finish():
            sys.exit(terminal.last)


def draw(terminal: Terminal) -> str:
    """The screen of a terminal as SVG."""
    lines = [f"$ async-uploader {' '.join(_COMMAND[:4])} …"]
    screen = terminal.screen
    used = max(row for row in range(screen.lines) if screen.display[row].strip()) + 1
    texts = [_text(0, [(lines[0], "default")])]
    texts += [_text(row + 1, _runs(screen, row)) for row in range(used)]
    width, height = _COLUMNS * _CHARACTER_WIDTH + 2 * _MARGIN, (used + 1) * _LINE_HEIGHT + 2 * _MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" font-family="monospace" '
        f'font-size="14">\n<rect width="100%" height="100%" rx="8" fill="#1b1f27"/>\n'
        + "\n".join(texts)
        + "\n</svg>\n"
    )


def _runs(screen: pyte.Screen, row: int) -> list[tuple[str, str]]:
    runs: list[tuple[str, str]] = []
    for column in range(len(screen.display[row].rstrip())):
        char = screen.buffer[row][column]
        if runs and runs[-1][1] == char.fg:
            runs[-1] = (runs[-1][0] + char.data, char.fg)
        else:
            runs.append((char.data, char.fg))
    return runs


def _text(row: int, runs: list[tuple[str, str]]) -> str:
    y = _MARGIN + (row + 0.75) * _LINE_HEIGHT
    spans, column = "", 0
    for text, colour in runs:
        x, width = _MARGIN + column * _CHARACTER_WIDTH, len(text) * _CHARACTER_WIDTH
        fill = _COLOURS.get(colour, _COLOURS["default"])
        # The length keeps columns aligned, whatever font the reader has.
        spans += f'<tspan x="{x:.1f}" textLength="{width:.1f}" fill="{fill}">{html.escape(text)}</tspan>'
        column += len(text)
    return f'<text y="{y:.0f}" xml:space="preserve">{spans}</text>'


async def photograph_page(browser: Browser, emulator: Emulator) -> None:
    """Take a picture of the emulator's page when some parts of all files have arrived."""
    await emulator.wait_for(lambda emulator: len(emulator.videos) == len(_FILES), timeout=30)
    await asyncio.sleep(2)
    await photograph(browser, emulator.url, "page.png", height=590)


async def photograph(browser: Browser, url: str, name: str, *, height: int) -> None:
    """Take a picture of a page."""
    page = await browser.new_page(viewport={"width": _PAGE_WIDTH, "height": height})
    await page.goto(url)
    await page.wait_for_timeout(1500)
    await page.screenshot(path=_PICTURES / name)
    await page.close()


if __name__ == "__main__":
    asyncio.run(main())
