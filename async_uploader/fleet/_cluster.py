"""Starts a Dask cluster on this machine, or connects to a running one, and prepares its workers."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from tempfile import TemporaryDirectory
from typing import Any, Final

from distributed import Client, LocalCluster

from async_uploader import UploaderError

from ._worker import UploadPlugin

# Uploads at the same time on each worker of a local cluster. Most of an upload is waiting.
_UPLOADS_PER_WORKER: Final = 8
_CONNECT_SECONDS: Final = 30.0


@asynccontextmanager
async def connect(
    scheduler: str | None, *, workers: int | None, client_options: Mapping[str, Any]
) -> AsyncIterator[Client]:
    """A client of a cluster whose workers can upload.

    :param scheduler: address of a running scheduler; None: start a cluster of processes on this machine
    :param workers: number of processes of that cluster; None: the number of cores
    :param client_options: keyword arguments of each worker's client
    :raises UploaderError: there is no scheduler, or a worker cannot be prepared
    """
    async with AsyncExitStack() as stack:
        target: object = scheduler
        if scheduler is None:
            target = await stack.enter_async_context(
                LocalCluster(  # type: ignore[no-untyped-call]
                    n_workers=workers or os.cpu_count() or 1,
                    threads_per_worker=_UPLOADS_PER_WORKER,
                    processes=True,
                    asynchronous=True,
                    dashboard_address="127.0.0.1:0",  # the default port may be in use
                    silence_logs=logging.CRITICAL,
                    local_directory=stack.enter_context(TemporaryDirectory(ignore_cleanup_errors=True)),
                )
            )
        try:
            client = await stack.enter_async_context(
                Client(  # type: ignore[no-untyped-call]
                    target, asynchronous=True, timeout=_CONNECT_SECONDS, set_as_default=False
                )
            )
        except (OSError, ValueError) as exc:
            raise UploaderError(f"There is no Dask scheduler at {scheduler}.") from exc
        try:
            await client.register_plugin(UploadPlugin(client_options))
        except UploaderError as exc:
            raise UploaderError(f"A worker of the fleet cannot upload: {exc}") from exc
        yield client


async def count_threads(client: Client) -> int:
    """How many uploads the workers can run at the same time."""
    threads: Mapping[str, int] = await client.nthreads()  # type: ignore[no-untyped-call]
    return sum(threads.values())
