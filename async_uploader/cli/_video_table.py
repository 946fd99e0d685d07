"""Finished videos, laid out for people: the title, the address of the player as a link, and the id."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ._text import cell_width, pad, printable, shorten

_GAP: Final = "  "
# A table with shorter titles would be hard to read.
_MIN_TITLE_COLUMNS: Final = 24
_MIN_VTE_VERSION: Final = 5000
_LINK_PROGRAMS: Final = ("iTerm.app", "WezTerm", "vscode", "ghostty", "Hyper", "mintty", "rio", "Tabby")
_LINK_TERMINALS: Final = ("xterm-kitty", "alacritty", "foot", "xterm-ghostty")


class VideoRow(NamedTuple):
    """A finished video.

    :param link: the address of its player; empty if there is none
    """

    title: str
    link: str
    video_id: str

    @classmethod
    def of(cls, video: Mapping[str, Any], source: str, *, has_link: bool) -> VideoRow:
        """Read a video as the service returned it; only its id is certain.

        :param source: shown if the video has no title
        """
        assets = video.get("assets") if has_link else None
        player = assets.get("player") if isinstance(assets, dict) else None
        title = video.get("title")
        texts = (title if isinstance(title, str) and title.strip() else source, player or "", video["videoId"])
        return cls(*map(printable, texts))


def format_rows(rows: Sequence[VideoRow], columns: int, *, has_hyperlinks: bool) -> Iterator[str]:
    """The lines of a table, or a block of lines for each video if a table would be too wide.

    :param columns: the width of the terminal
    :param has_hyperlinks: the terminal understands OSC 8, so that an address can be clicked even if it is wrapped
    """
    link_width = max((cell_width(row.link) for row in rows), default=0)
    id_width = max((cell_width(row.video_id) for row in rows), default=0)
    longest = max((cell_width(row.title) for row in rows), default=0)
    title_width = min(longest, columns - link_width - id_width - 2 * len(_GAP))
    is_table = title_width >= min(longest, _MIN_TITLE_COLUMNS)
    for row in rows:
        link = _hyperlink(row.link) if has_hyperlinks else row.link
        if is_table:
            cells = [pad(shorten(row.title, title_width), title_width)]
            if link_width:
                cells.append(link + " " * (link_width - cell_width(row.link)))
            yield _GAP.join([*cells, row.video_id])
        else:
            yield row.title
            yield from (f"{_GAP}{text}" for text in (link, row.video_id) if text)


def supports_hyperlinks(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the terminal is known to understand OSC 8. ``FORCE_HYPERLINK=1`` or ``0`` decides it."""
    forced = environment.get("FORCE_HYPERLINK")
    if forced is not None:
        return forced not in ("", "0", "false")
    terminal = environment.get("TERM", "")
    if terminal.startswith(("screen", "tmux")):
        return False  # the outer terminal may understand it, but the multiplexer may not pass it on
    vte_version = environment.get("VTE_VERSION", "")
    return (
        terminal.startswith(_LINK_TERMINALS)
        or environment.get("TERM_PROGRAM") in _LINK_PROGRAMS
        or "WT_SESSION" in environment
        or "KONSOLE_VERSION" in environment
        or (vte_version.isdigit() and int(vte_version) >= _MIN_VTE_VERSION)
    )


def _hyperlink(address: str) -> str:
    return f"\x1b]8;;{address}\x1b\\{address}\x1b]8;;\x1b\\" if address else ""
