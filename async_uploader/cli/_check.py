"""Checks all sources and output files of an ``upload`` command before anything is sent."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import anyio

from async_uploader import Client, ConfigurationError, SourceError, UploaderError
from async_uploader._catalogue.item import STDIN, Item
from async_uploader._catalogue.results import ResultsFile, source_key
from async_uploader._urls import STORE_SCHEMES, remote_scheme

from ._params import usage_error
from ._sources import StandardInput
from ._upload_flags import UploadFlags

# Most of a check is spent waiting for a thread that looks at a file.
_CONCURRENT_CHECKS: Final = 16


async def find_source_errors(
    items: Sequence[Item],
    flags: UploadFlags,
    *,
    client: Client,
    stdin: StandardInput | None,
    results: ResultsFile | None,
) -> list[UploaderError]:
    """The errors of all sources that are not finished yet, in order.

    :raises ConfigurationError: the options of the command are wrong, and not a source
    """
    errors: dict[int, UploaderError] = {}
    numbered = iter(enumerate(items))

    async def check() -> None:
        for number, item in numbered:
            try:
                if item.problem:
                    raise SourceError(item.problem)
                if results is None or not results.is_finished(source_key(item, flags.idempotency_key)):
                    await _check_source(item, flags, client=client, stdin=stdin)
            except (ConfigurationError, SourceError) as exc:
                errors[number] = exc

    async with anyio.create_task_group() as group:
        for _ in range(_CONCURRENT_CHECKS):
            group.start_soon(check)
    return [_with_location(errors[number], items[number]) for number in sorted(errors)]


def find_missing(items: Sequence[Item]) -> list[UploaderError]:
    """The errors of sources that are invalid or do not exist, in order; no client is needed to find them."""
    errors: list[UploaderError] = []
    for item in items:
        problem = item.problem
        if not problem and not item.is_url and item.source != STDIN and not os.path.lexists(item.source):
            problem = f"{item.source} does not exist."
        if problem:
            errors.append(_with_location(SourceError(problem), item))
    return errors


def check_output_paths(items: Sequence[Item], flags: UploadFlags) -> None:
    """Check that ``--report`` replaces no file that the command reads or writes otherwise.

    :raises UsageError: it would
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
                if not item.is_url and _is_same_file(item.source, status):
                    raise usage_error(f"--report would replace the source {item.source}. Name another file.")


def _is_same_file(path: str, status: os.stat_result) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.stat(path), status)
    return False


def _with_location(error: UploaderError, item: Item) -> UploaderError:
    if item.location:
        return SourceError(f"{item.location}: {error}")
    if isinstance(error, ConfigurationError):
        raise error
    return error


async def _check_source(item: Item, flags: UploadFlags, *, client: Client, stdin: StandardInput | None) -> None:
    if item.is_remote:
        # Objects are not requested here: a catalogue may have very many.
        if client.delegated and flags.resume:
            raise SourceError(f"An upload token cannot resume {item.display_name}; remove --resume.")
        if flags.local:
            raise SourceError(f"{item.display_name} is a URL, which --local cannot verify.")
        if remote_scheme(item.source) in STORE_SCHEMES:
            from async_uploader._sources.store import check_store_url

            check_store_url(item.source)
    elif not item.is_import:
        options = item.merged_options(flags.upload_options(is_stream=item.is_stream))
        await client.check_source(stdin or item.source, **options)
        if flags.local and stdin is None and stat.S_ISFIFO(os.stat(item.source).st_mode):
            raise SourceError(
                f"{item.source} is a FIFO, which --local cannot verify. Use - (standard input) instead."
            )
    elif flags.local:
        raise SourceError(f"{item.display_name} is a URL, which --local cannot verify.")
    elif client.delegated:
        raise SourceError(f"{item.display_name} is a URL, which an upload token cannot import. Use an API key.")
