"""The local service: as a command of its own, and inside ``upload --local``."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import resource
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.to_thread

from async_uploader._errors import UploaderError, UploadFailed
from async_uploader._units import format_size
from async_uploader.emulator import Emulator, Fault
from async_uploader.emulator._storage.temporary_directory import remove_all

from ._flags import EmulatorFlags
from ._output import show
from ._params import usage_error
from ._signals import BEFORE_EXIT
from ._sources import StandardInput

KEY = "local-key"

BEFORE_EXIT.append(remove_all)


@asynccontextmanager
async def running(*, faults: Sequence[str] = (), **settings: Any) -> AsyncIterator[Emulator]:
    """A local service; settings that are impossible are wrong usage."""
    async with AsyncExitStack() as stack:
        try:
            emulator = Emulator(**settings, faults=[Fault.parse(spec) for spec in faults])
            await stack.enter_async_context(emulator)
        except ValueError as exc:
            raise usage_error(str(exc)) from exc
        yield emulator


@asynccontextmanager
async def embedded(*, sizes: Callable[[], Sequence[int | None]], **settings: Any) -> AsyncIterator[Emulator]:
    """A local service for the uploads of this process: one that has no room for them ends them.

    :param sizes: gives the sources' sizes in bytes, None for those that have none yet
    :raises UploadFailed: its disk is full
    """
    # Its own warning would say the same as the error.
    logging.getLogger("async_uploader.emulator").setLevel(logging.ERROR)
    async with running(**settings) as emulator:
        with anyio.CancelScope() as scope:
            watcher = asyncio.create_task(_cancel_when_full(emulator, scope))
            try:
                yield emulator
            except UploaderError as exc:
                if emulator.shortage is None:
                    raise
                raise _full(emulator, sizes()) from exc
            finally:
                watcher.cancel()
        if scope.cancelled_caught:
            raise _full(emulator, sizes())


async def _cancel_when_full(emulator: Emulator, scope: anyio.CancelScope) -> None:
    await emulator.wait_for(lambda emulator: emulator.shortage, timeout=None)
    scope.cancel()


def _full(emulator: Emulator, sizes: Sequence[int | None]) -> UploadFailed:
    assert emulator.shortage is not None
    known = [size for size in sizes if size is not None]
    total = f"The copies need {format_size(sum(known))} there. " if known else ""
    return UploadFailed(
        f"The local service has no room. {emulator.shortage} {total}"
        "Set TMPDIR, or give --data, to use a disk with more room.",
        video_id=None,
    )


async def serve(flags: EmulatorFlags) -> None:
    """Run it until cancelled."""
    _raise_descriptor_limit()
    async with running(**flags.settings()) as emulator:
        show(f"listening on {emulator.url}")
        if emulator.ca_file is not None:
            show(emulator.ca_file)
        await anyio.sleep_forever()


def _raise_descriptor_limit() -> None:
    """Have as many connections as this process may: the usual limit is there for programs that use select()."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # some systems say that there is no limit, and have one
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def compare(emulator: Emulator, video_id: str, source: str | StandardInput) -> str:
    """See that the copy is the source, to the byte.

    :return: the SHA-256 of both
    :raises UploadFailed: it is not
    """
    here = source.sha256 if isinstance(source, StandardInput) else await anyio.to_thread.run_sync(_sha256, source)
    there = (await emulator.finished(video_id, timeout=None)).sha256
    if here != there:
        raise UploadFailed(
            f"The local service's copy differs: its SHA-256 is {there}, the source's {here}.", video_id=video_id
        )
    return here


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
