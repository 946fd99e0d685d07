"""Sees that every source can be sent, before anything is."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import anyio

from async_uploader._client import Client
from async_uploader._errors import ConfigurationError, SourceError, UploaderError

from ._item import Item
from ._params import usage_error
from ._results import Results, key_of
from ._sources import StandardInput
from ._upload_flags import UploadFlags

# Most of a check is waiting for a thread that looks at a file.
_AT_ONCE: Final = 16


async def find_problems(
    items: Sequence[Item],
    flags: UploadFlags,
    *,
    client: Client,
    stdin: StandardInput | None,
    results: Results | None,
) -> list[UploaderError]:
    """What is wrong with the sources that are not done yet, in their order.

    :raises ConfigurationError: what is wrong is the options of the command
    """
    found: dict[int, UploaderError] = {}
    numbered = iter(enumerate(items))

    async def check() -> None:
        for number, item in numbered:
            try:
                if item.problem:
                    raise SourceError(item.problem)
                if results is None or not results.is_done(key_of(item)):
                    await _check(item, flags, client=client, stdin=stdin)
            except (ConfigurationError, SourceError) as exc:
                found[number] = exc

    async with anyio.create_task_group() as group:
        for _ in range(_AT_ONCE):
            group.start_soon(check)
    return [_placed(found[number], items[number]) for number in sorted(found)]


def check_outputs(items: Sequence[Item], flags: UploadFlags) -> None:
    """See that no file is replaced or written to that is read, or written for something else.

    :raises UsageError: one would be
    """
    if flags.report is None:
        return
    report = os.path.realpath(flags.report)
    if flags.results is not None and os.path.realpath(flags.results) == report:
        raise usage_error("--report and --results name the same file.")
    if flags.manifest is not None and os.path.realpath(flags.manifest) == report:
        raise usage_error("--report and --manifest name the same file.")
    with suppress(OSError):
        status = os.stat(report)
        if stat.S_ISREG(status.st_mode):
            for item in items:
                if not item.is_url and _is_file(item.source, status):
                    raise usage_error(f"--report would replace a source, {item.source}; name another file.")


def _is_file(path: str, status: os.stat_result) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.stat(path), status)
    return False


def _placed(error: UploaderError, item: Item) -> UploaderError:
    if item.place:
        return SourceError(f"{item.place}: {error}")
    if isinstance(error, ConfigurationError):
        raise error
    return error


async def _check(item: Item, flags: UploadFlags, *, client: Client, stdin: StandardInput | None) -> None:
    if not item.is_url:
        await client.check_source(
            stdin or item.source, **item.over(flags.upload_options(is_stream=item.is_stream))
        )
        if flags.local and stdin is None and stat.S_ISFIFO(os.stat(item.source).st_mode):
            raise SourceError(
                f"{item.source} is a pipe, which --local could not compare; let it flow into - instead."
            )
    elif flags.local:
        raise SourceError(f"{item.source} is a URL, of which --local has nothing to compare.")
    elif client.delegated:
        raise SourceError(f"{item.source} is a URL, which an upload token cannot import; use an API key.")
