"""The local service: as a command of its own, and inside ``upload --local``."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread

from async_uploader._errors import UploadFailed
from async_uploader.emulator import Emulator, Fault

from ._flags import EmulatorFlags
from ._output import show
from ._params import usage_error
from ._sources import StandardInput

KEY = "local-key"


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


async def serve(flags: EmulatorFlags) -> None:
    """Run it until cancelled."""
    async with running(**flags.settings()) as emulator:
        show(f"listening on {emulator.url}")
        await anyio.sleep_forever()


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
