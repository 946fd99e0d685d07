"""The emulator: as the command ``emulator``, and inside ``upload --local``."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import resource
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.to_thread

from async_uploader import UploaderError, UploadFailed
from async_uploader._units import format_size
from async_uploader.emulator import Emulator, Fault
from async_uploader.emulator._storage.temporary_directory import remove_all

from ._flags import EmulatorFlags
from ._output import print_line
from ._params import usage_error
from ._signals import EXIT_HOOKS
from ._sources import StandardInput

KEY = "local-key"

EXIT_HOOKS.append(remove_all)


@asynccontextmanager
async def running_emulator(*, faults: Sequence[str] = (), **settings: Any) -> AsyncIterator[Emulator]:
    """Run an emulator.

    :param faults: specifications of faults to inject
    :param settings: other parameters of ``Emulator``
    :raises UsageError: a setting or a fault is invalid
    """
    async with AsyncExitStack() as stack:
        try:
            emulator = Emulator(**settings, faults=[_parse_fault(spec) for spec in faults])
            await stack.enter_async_context(emulator)
        except ValueError as exc:
            raise usage_error(str(exc)) from exc
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise
            raise UploaderError(
                f"Port {settings.get('port')} of {settings.get('host')} is in use by another program. "
                "Select another one with --port, or any free one with --port 0."
            ) from exc
        yield emulator


def _parse_fault(spec: str) -> Fault:
    try:
        return Fault.parse(spec)
    except ValueError as exc:
        raise usage_error(f"{exc} 'emulator --help-faults' prints the syntax.") from exc


@asynccontextmanager
async def embedded_emulator(
    *, sizes: Callable[[], Sequence[int | None]], **settings: Any
) -> AsyncIterator[Emulator]:
    """Run an emulator for the uploads of this process. If its disk is full, the uploads are cancelled.

    :param sizes: returns the sizes of the sources in bytes, None for an unknown size
    :raises UploadFailed: the disk is full
    """
    # The error below has the same text as the emulator's own warning.
    logging.getLogger("async_uploader.emulator").setLevel(logging.ERROR)
    async with running_emulator(**settings) as emulator:
        with anyio.CancelScope() as scope:
            watcher = asyncio.create_task(_cancel_when_full(emulator, scope))
            try:
                yield emulator
            except UploaderError as exc:
                if emulator.shortage is None:
                    raise
                raise _disk_full_error(emulator, sizes()) from exc
            finally:
                watcher.cancel()
        if scope.cancelled_caught:
            raise _disk_full_error(emulator, sizes())


async def _cancel_when_full(emulator: Emulator, scope: anyio.CancelScope) -> None:
    await emulator.wait_for(lambda emulator: emulator.shortage, timeout=None)
    scope.cancel()


def _disk_full_error(emulator: Emulator, sizes: Sequence[int | None]) -> UploadFailed:
    assert emulator.shortage is not None
    known = [size for size in sizes if size is not None]
    total = f"The copies need {format_size(sum(known))}. " if known else ""
    return UploadFailed(
        f"The emulator has no disk space left. {emulator.shortage} {total}"
        "Set TMPDIR, or use --data, to select a disk with more space.",
        video_id=None,
    )


async def serve(flags: EmulatorFlags) -> None:
    """Run the emulator until the task is cancelled."""
    _raise_descriptor_limit()
    async with running_emulator(**flags.settings()) as emulator:
        print_line(f"listening on {emulator.url}")
        if emulator.ca_file is not None:
            print_line(emulator.ca_file)
        await anyio.sleep_forever()


def _raise_descriptor_limit() -> None:
    """Allow as many connections as possible. The usual soft limit protects programs that use select()."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # some systems report no limit, and have one
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


async def verify_copy(emulator: Emulator, video_id: str, source: str | StandardInput) -> str:
    """Verify that the emulator's copy equals the source.

    :returns: the SHA-256 of both, in hexadecimal
    :raises UploadFailed: they differ
    """
    expected = (
        source.sha256 if isinstance(source, StandardInput) else await anyio.to_thread.run_sync(_sha256, source)
    )
    actual = (await emulator.finished(video_id, timeout=None)).sha256
    if actual != expected:
        raise UploadFailed(
            f"The emulator's copy differs from the source: its SHA-256 is {actual}, not {expected}.",
            video_id=video_id,
        )
    return actual


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
