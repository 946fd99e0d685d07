"""What a shell offers when the user presses Tab; run by the scripts that click makes for bash, zsh and fish."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem


def files(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The shell's own file names."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def unfinished(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The videos of uploads that were interrupted on this machine, with their files."""
    from functools import partial

    import anyio
    from click.shell_completion import CompletionItem

    from async_uploader import list_unfinished

    found = anyio.run(partial(list_unfinished, finished=True))
    return [
        CompletionItem(one.video_id, help=str(one.path)) for one in found if one.video_id.startswith(incomplete)
    ]


def ranges(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """The ways to number parts."""
    return [name for name in ("part", "bytes") if name.startswith(incomplete)]
