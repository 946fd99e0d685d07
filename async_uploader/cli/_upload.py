"""The command ``upload``: collects and checks all sources, then opens everything that the uploads need."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread

from async_uploader import Client, SourceError, UploaderError, events
from async_uploader._api.credentials import MissingCredentialError
from async_uploader._catalogue.item import STDIN, Item
from async_uploader._catalogue.results import open_results, source_key
from async_uploader._options import split_options

from ._check import check_output_paths, find_missing, find_source_errors
from ._display import Display
from ._hints import set_service
from ._interrupt_advice import InterruptAdvice
from ._listing import Sources
from ._output import print_error, print_message
from ._params import usage_error
from ._sidecar_flags import SIDECAR_OPTIONS
from ._signals import set_interrupt_advice
from ._sources import StandardInput, collect_sources
from ._upload_context import UploadContext, is_single_source
from ._upload_flags import FleetFlags, UploadFlags
from ._upload_runner import UploadRunner
from ._video_output import JsonSpool, VideoOutput

if TYPE_CHECKING:
    from async_uploader.fleet import Fleet

# Options of the transfer, and of the finished upload.
_NOT_IMPORTED: Final = (
    *("ranges", "part_size", "concurrency", "limit_rate", "max_attempts", "stall_timeout", "resume", "video_id"),
    *("sidecars", *SIDECAR_OPTIONS),
)


async def upload(flags: UploadFlags) -> int:
    """Upload all sources of a command.

    :returns: the exit code
    """
    split_options(flags.upload_options())  # reports invalid options once, and not for each source
    async with aclosing(Sources(await anyio.to_thread.run_sync(collect_sources, flags))) as sources:
        try:
            await sources.open()
        except SourceError as exc:
            print_error(exc)
            return 1  # and not 2, because the store was requested
        await anyio.to_thread.run_sync(check_output_paths, sources.known, flags)
        _check_flags(flags, sources)
        return await _upload(flags, sources)


def _check_flags(flags: UploadFlags, sources: Sources) -> None:
    items = sources.known
    if not is_single_source(sources, flags):
        flags.reject("several sources", "title", "video_id", "idempotency_key", *SIDECAR_OPTIONS)
    if items[0].is_stream:
        flags.reject("standard input or a FIFO, which can be read only once", "idempotency_key")
    if flags.key_from_source and any(item.is_import for item in items):
        raise usage_error("--key-from-source requires --fetch here: the service does not state a version.")
    if flags.manifest is None and all(item.is_import for item in items):
        flags.reject("a URL that the service downloads; add --fetch here", *_NOT_IMPORTED)
    if flags.checksum and any(item.is_import for item in items):
        raise usage_error("--checksum requires --fetch here: the service downloads web URLs itself.")


async def _upload(flags: UploadFlags, sources: Sources) -> int:
    items = sources.known
    stdin = StandardInput() if items[0].source == STDIN else None
    has_imports = flags.results is None and any(item.is_import for item in items)
    advice = InterruptAdvice(is_stream=stdin is not None, is_local=flags.local, has_imports=has_imports)
    try:
        with events.listen(advice):
            async with AsyncExitStack() as stack:
                try:
                    context = await _open_context(stack, flags, sources, stdin=stdin, advice=advice)
                except MissingCredentialError:
                    # A missing file is more likely to be a mistake than a missing key, and easier to correct.
                    if errors := await anyio.to_thread.run_sync(find_missing, items):
                        return _print_errors(errors)
                    raise
                return await _check_and_run(stack, context)
    except anyio.get_cancelled_exc_class():
        if flags.local:
            advice.on_emulator_stopped()
        raise


async def _open_context(
    stack: AsyncExitStack,
    flags: UploadFlags,
    sources: Sources,
    *,
    stdin: StandardInput | None,
    advice: InterruptAdvice,
) -> UploadContext:
    settings: dict[str, Any] = flags.client_options()
    emulator = None
    if flags.local:
        from . import _local

        emulator = await stack.enter_async_context(
            _local.embedded_emulator(sizes=lambda: _sizes(sources.known), data=flags.data, api_key=_local.KEY)
        )
        settings |= {"api_key": _local.KEY, "base_url": emulator.url}
    client = await stack.enter_async_context(Client(**settings))
    set_service(client.base_url)
    if flags.wait and client.delegated:
        raise usage_error("--wait requires an API key: an upload token cannot read the status of a video.")
    if flags.idempotency_key is not None and client.delegated:
        raise usage_error("--idempotency-key requires an API key: an upload token cannot look for a video.")
    if flags.report is not None:
        from ._report import write_report

        await stack.enter_async_context(write_report(flags.report, quiet=flags.quiet))
    results = None
    if flags.results is not None:
        service = "local" if flags.local else client.base_url
        results = await stack.enter_async_context(open_results(flags.results, service))
    fleet = await _open_fleet(stack, flags, client.base_url)
    return UploadContext(
        fleet=fleet,
        flags=flags,
        sources=sources,
        client=client,
        display=Display(
            quiet=flags.quiet,
            # With a listing, a source is added when its turn comes.
            sizes=() if sources.listings else await _sizes_of(sources.known),
            is_complete=not sources.listings,
            fleet=fleet,
        ),
        interrupt_advice=advice,
        stdin=stdin,
        emulator=emulator,
        results=results,
    )


async def _open_fleet(stack: AsyncExitStack, flags: UploadFlags, base_url: str) -> Fleet | None:
    if not isinstance(flags, FleetFlags):
        return None
    from async_uploader.fleet import Fleet

    fleet = await stack.enter_async_context(
        Fleet(
            flags.scheduler,
            flags.workers,
            base_url=base_url,
            allow_plain_http=flags.allow_plain_http,
            limit_rate=flags.limit_rate,
            concurrency=flags.concurrency,
        )
    )
    if fleet.dashboard_url is not None and not flags.quiet:
        print_message(f"Dashboard: {fleet.dashboard_url}")
    return fleet


async def _check_and_run(stack: AsyncExitStack, context: UploadContext) -> int:
    errors = (
        []
        if context.fleet is not None
        else await find_source_errors(
            context.sources.known,
            context.flags,
            client=context.client,
            stdin=context.stdin,
            results=context.results,
        )
    )
    if errors:
        return _print_errors(errors)
    spool = stack.enter_context(JsonSpool()) if context.flags.json else None
    output = VideoOutput(
        spool,
        is_single=context.is_single,
        # Without --keep-open, the emulator ends with the command.
        has_links=not context.flags.local or context.flags.keep_open,
    )
    code = await UploadRunner(context, output).run()
    if context.emulator is not None and context.flags.keep_open:
        set_interrupt_advice("The emulator has stopped.")
        context.display.print(f"The videos can be watched at {context.emulator.url} until Ctrl-C.")
        await anyio.sleep_forever()
    return code


async def _sizes_of(items: Sequence[Item]) -> list[int | None]:
    return await anyio.to_thread.run_sync(_sizes, items)


def _print_errors(errors: Sequence[UploaderError]) -> int:
    for error in errors:
        print_error(error)
    return 2


def _sizes(items: Sequence[Item]) -> list[int | None]:
    """The sizes of all sources in bytes; None for an unknown size."""
    return [source_key(item).size_bytes for item in items]
