"""What runs on a worker of the cluster: one client per process, and one task per upload.

Tasks are coroutines on the worker's own event loop. Dask does not cancel them when a future is cancelled, so the
plugin does.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any, Final, cast

from distributed import Reschedule, Worker, WorkerPlugin, get_worker

from async_uploader import (
    Client,
    ConfigurationError,
    SourceError,
    UploaderError,
    UploadFailed,
    UploadOptions,
    Video,
)

from ._messages import ClientOptions, Outcome, UploadTask
from ._permits import SchedulerPermits
from ._reporter import Reporter, UploadObserver

log: Final = logging.getLogger("async_uploader.fleet")

_PLUGIN: Final = "async_uploader"


class _UnfitWorkerError(UploaderError):
    """This worker cannot upload anything."""


class WorkerClient(Client):
    """The client of a worker process. The credential comes from the environment of that process.

    :param asks_scheduler: ask the scheduler for permits
    """

    def __init__(self, worker: Worker, options: ClientOptions, *, asks_scheduler: bool) -> None:
        super().__init__(
            base_url=options.base_url, allow_plain_http=options.allow_plain_http, limit_rate=options.limit_rate
        )
        self._slots = self._slots_for(options.concurrency)
        if asks_scheduler:
            self._limiter.use_permits(
                SchedulerPermits(
                    account=self._account.fingerprint,
                    process=worker.address,
                    call=worker.scheduler.async_uploader_ask,
                    send=worker.batched_send,
                    window_seconds=self._rate_window_seconds,
                )
            )


class UploadPlugin(WorkerPlugin):
    """Holds the clients and the uploads of a worker process: one client for all uploads with the same options."""

    name = _PLUGIN
    # Another coordinator must not close the clients.
    idempotent = True

    def __init__(self) -> None:
        self._running: dict[object, asyncio.Task[Any]] = {}
        self._clients: dict[ClientOptions, Client] = {}
        self._leaving: asyncio.Task[None] | None = None

    async def setup(self, worker: Worker) -> None:
        """Prepare the worker when it starts."""
        self._worker = worker
        self._opening = asyncio.Lock()
        self._reporter = Reporter(worker)

    async def teardown(self, worker: Worker) -> None:  # noqa: ARG002 - the plugin interface
        """Close the clients when the worker ends."""
        for task in self._running.values():
            task.cancel()
        self._reporter.close()
        for client in self._clients.values():
            await client.__aexit__(None, None, None)

    def transition(self, key: object, start: object, finish: object, **_: object) -> None:  # noqa: ARG002
        """Cancel an upload whose future was cancelled."""
        if finish in ("cancelled", "released", "forgotten") and (task := self._running.get(key)) is not None:
            task.cancel()

    async def client(self, options: ClientOptions, *, asks_scheduler: bool) -> Client:
        """The client for these options.

        :raises UploaderError: this process has no credentials
        """
        async with self._opening:
            if options not in self._clients:
                try:
                    client = WorkerClient(self._worker, options, asks_scheduler=asks_scheduler)
                except ConfigurationError as exc:
                    raise _UnfitWorkerError(str(exc)) from exc
                self._clients[options] = await client.__aenter__()
            return self._clients[options]

    async def run(self, upload: UploadTask) -> Outcome:
        """Run one upload, so that :meth:`transition` can cancel it, and report it."""
        # Dask may some day run coroutines in threads. The client belongs to one event loop.
        assert threading.get_ident() == self._worker.thread_id, "Dask runs coroutines in the event loop"
        task = asyncio.current_task()
        assert task is not None
        self._running[upload.key] = task
        try:
            client = await self.client(upload.client, asks_scheduler=upload.is_remote)
            with self._reporter.following(upload) as observer:
                observer.outcome = await self._outcome(client, upload, observer)
                return observer.outcome
        except _UnfitWorkerError as exc:
            self._leave(exc)
            raise Reschedule from exc
        finally:
            del self._running[upload.key]

    def _leave(self, reason: Exception) -> None:
        """Leave the cluster: otherwise, a worker without credentials would fail one upload after another."""
        if self._leaving is None:
            log.error("The worker %s leaves the cluster: %s", self._worker.address, reason)
            self._leaving = asyncio.create_task(self._worker.close_gracefully())

    async def _outcome(self, client: Client, upload: UploadTask, observer: UploadObserver) -> Outcome:
        try:
            return (await _upload(client, upload, observer)).raw
        except SourceError as exc:
            # Other workers may be able to read the source.
            if upload.is_remote and not isinstance(exc, UploadFailed):
                return SourceError(f"On the worker {self._worker.address}: {exc}")
            return exc
        except UploaderError as exc:
            return exc


async def _upload(client: Client, upload: UploadTask, observer: UploadObserver) -> Video:
    if upload.is_import:
        return await client.import_video(upload.source, **upload.options)
    callbacks = UploadOptions(on_event=observer.on_event, on_progress=observer.on_progress)
    return await client.upload(upload.source, **cast("UploadOptions", {**upload.options, **callbacks}))


async def run(upload: UploadTask) -> Outcome:
    """Upload one source on the worker that executes this.

    :returns: the video as the service returned it, or the error. An exception would make Dask log its arguments
    """
    return await _plugin_of(get_worker()).run(upload)


async def check(client: ClientOptions, *, asks_scheduler: bool, dask_worker: Worker) -> str | None:
    """Open the client of a worker.

    :param dask_worker: the worker, which Dask passes
    :returns: why the worker cannot upload; None if it can
    """
    try:
        await _plugin_of(dask_worker).client(client, asks_scheduler=asks_scheduler)
    except UploaderError as exc:
        return str(exc)
    return None


def _plugin_of(worker: Worker) -> UploadPlugin:
    plugin = worker.plugins[_PLUGIN]
    assert isinstance(plugin, UploadPlugin)
    return plugin
