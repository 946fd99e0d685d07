"""Shell completion: the candidates that the scripts of click (bash, zsh, fish) ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem


def complete_files(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """File names, completed by the shell."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def complete_unfinished(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The videoIds of interrupted uploads on this machine, with their paths as help."""
    from functools import partial

    import anyio
    from click.shell_completion import CompletionItem

    from async_uploader import list_unfinished

    entries = anyio.run(partial(list_unfinished, finished=True))
    return [
        CompletionItem(entry.video_id, help=str(entry.path))
        for entry in entries
        if entry.video_id.startswith(incomplete)
    ]


def complete_ranges(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """The values of ``--ranges``."""
    return [name for name in ("part", "bytes") if name.startswith(incomplete)]
