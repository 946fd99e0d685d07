"""Starts a Dask cluster on this machine, or connects to a running one, and prepares its workers."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from tempfile import TemporaryDirectory
from typing import Final

from distributed import Client, LocalCluster
from distributed.utils import silence_logging_cmgr

from async_uploader import UploaderError

from ._messages import ClientOptions
from ._permits import PermitPlugin
from ._worker import UploadPlugin, check

# Uploads at the same time on each worker of a local cluster. Most of an upload is waiting.
_UPLOADS_PER_WORKER: Final = 8
_CONNECT_SECONDS: Final = 30.0
# Uploads of a worker that is silent for longer are given to other workers. Dask's default is 5 minutes.
_TTL: Final = "30 s"


@asynccontextmanager
async def connect(
    scheduler: str | None, *, workers: int | None, client_options: ClientOptions
) -> AsyncIterator[tuple[Client, str | None]]:
    """A client of a cluster whose workers can upload, and the URL of its dashboard, if it has one.

    :param scheduler: address of a running scheduler; None: start a cluster of processes on this machine
    :param workers: number of processes of that cluster; None: the number of cores
    :param client_options: of each worker's client
    :raises UploaderError: there is no scheduler, or a worker cannot upload
    """
    async with AsyncExitStack() as stack:
        # Errors are raised. Dask would also log them with tracebacks.
        stack.enter_context(silence_logging_cmgr(logging.CRITICAL))
        target: object = scheduler
        if scheduler is None:
            target = await stack.enter_async_context(_local_cluster(workers))
        try:
            client = await stack.enter_async_context(
                Client(  # type: ignore[no-untyped-call]
                    target, asynchronous=True, timeout=_CONNECT_SECONDS, set_as_default=False
                )
            )
        except (OSError, ValueError, TypeError) as exc:  # a TypeError of Dask, if TLS is not configured
            raise UploaderError(f"There is no Dask scheduler at {scheduler}.") from exc
        if scheduler is not None:
            await client.register_plugin(PermitPlugin())  # first: workers ask it for permits
        await client.register_plugin(UploadPlugin())
        problems: Mapping[str, str | None] = await client.run(
            check, client_options, asks_scheduler=scheduler is not None
        )
        for address, problem in problems.items():
            if problem is not None:
                raise UploaderError(f"The worker {address} cannot upload: {problem}")
        yield client, await _dashboard_url(client)


@asynccontextmanager
async def _local_cluster(workers: int | None) -> AsyncIterator[LocalCluster]:
    with TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        async with LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=workers or os.cpu_count() or 1,
            threads_per_worker=_UPLOADS_PER_WORKER,
            processes=True,
            asynchronous=True,
            dashboard_address="127.0.0.1:0",  # the default port may be in use
            scheduler_kwargs={"worker_ttl": _TTL},
            silence_logs=logging.CRITICAL,
            local_directory=directory,
        ) as cluster:
            yield cluster


async def _dashboard_url(client: Client) -> str | None:
    if not await client.run_on_scheduler(_has_dashboard):  # type: ignore[no-untyped-call]
        return None
    url: str = client.dashboard_link
    return url


def _has_dashboard() -> bool:
    """Whether the scheduler that executes this has a dashboard, which it imports only if Bokeh is installed."""
    return "distributed.dashboard.scheduler" in sys.modules
