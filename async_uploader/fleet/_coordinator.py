"""Submits uploads to a cluster, and receives the reports of its workers.

The outcome of an upload is in its worker's last report, which the scheduler forwards before the end of the task.
Fetching it from the worker would double the cost of an item for the coordinator.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import pickle
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext, suppress
from itertools import count
from typing import Any, Final, TypeAlias

import anyio
from distributed import Client as DaskClient
from distributed import Future, KilledWorker
from distributed import wait as wait_for_futures

from async_uploader import UploaderError, UploadItem
from async_uploader._uploads.many import unexpected_error

from ._item import FleetItem
from ._messages import TOPIC, ClientOptions, Outcome, UploadTask, WorkerReport
from ._remote_upload import RemoteUpload
from ._status import WorkerStatus
from ._worker import run

# Submitted uploads per running one, so that a worker that finishes one can begin the next immediately.
_QUEUE_FACTOR: Final = 2
# How often workers are counted, since they may join and leave.
_COUNT_SECONDS: Final = 1.0
_CANCEL_SECONDS: Final = 2.0

_Placement: TypeAlias = tuple[tuple[str, ...], tuple[tuple[str, float], ...]]
# The result is a video or an error.
DaskFuture: TypeAlias = "Future[Any]"
_LOST: Final = "The connection to the cluster was lost. The same uploads, started again, continue."


class Coordinator:
    """The uploads of one fleet in a cluster.

    :param client_options: for the clients of the workers
    :param is_remote: workers may be on other machines
    :ivar workers: the state of each worker, by its address
    """

    def __init__(self, dask: DaskClient, client_options: ClientOptions, *, is_remote: bool) -> None:
        self._dask = dask
        self._client_options = client_options
        self._is_remote = is_remote
        self._fleet = secrets.token_hex(8)
        self._numbers = count()
        self._uploads: dict[int, RemoteUpload] = {}
        # Submitted together: a message to the scheduler costs as much as one more upload in it.
        self._batch: list[tuple[RemoteUpload, asyncio.Future[DaskFuture]]] = []
        self._suspect = asyncio.Lock()
        self._threads = 0
        self.workers: dict[str, WorkerStatus] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Receive reports while the ``async with`` block lasts."""
        self._dask.subscribe_topic(TOPIC, self._receive)  # type: ignore[no-untyped-call]
        await self._count_workers()
        counting = asyncio.create_task(self._count_regularly())
        try:
            yield
        finally:
            counting.cancel()
            with suppress(asyncio.CancelledError, ValueError):
                await counting
                self._dask.unsubscribe_topic(TOPIC)  # type: ignore[no-untyped-call]

    @property
    def window(self) -> int:
        """Maximum number of uploads submitted at the same time, independent of the length of the catalogue."""
        return max(1, self._threads) * _QUEUE_FACTOR

    def check_connection(self) -> None:
        """Check that uploads can be submitted.

        :raises UploaderError: the scheduler has ended, or is out of reach
        """
        if self._dask.status != "running":
            raise UploaderError(_LOST)

    async def upload(
        self, item: UploadItem, source: str, options: Mapping[str, Any], *, has_listeners: bool
    ) -> Outcome:
        """Have a worker upload an item.

        :param source: the source, as workers find it
        :param options: the options that are sent to the worker
        :param has_listeners: whether its events or its progress are observed
        """
        waiting = asyncio.current_task()
        assert waiting is not None
        task = UploadTask(
            fleet=self._fleet,
            number=next(self._numbers),
            source=source,
            options=options,
            is_import=item.is_url,
            client=self._client_options,
            is_remote=self._is_remote,
            has_listeners=has_listeners,
        )
        upload = self._uploads[task.number] = RemoteUpload(item, task, on_failure=waiting.cancel)
        try:
            outcome = await self._outcome(upload)
            await upload.wait_for_callback()
        except asyncio.CancelledError:
            if upload.failure is None or waiting.uncancel():
                raise
            outcome = unexpected_error(upload.failure)
        finally:
            del self._uploads[task.number]
            upload.close()
        return outcome if upload.failure is None else unexpected_error(upload.failure)

    async def _outcome(self, upload: RemoteUpload) -> Outcome:
        """Run an upload, and once more if its workers have died: another upload on them may be the cause.

        Second runs happen one at a time, so that an upload that crashes workers does not affect others.
        """
        for is_suspect in (False, True):
            async with self._suspect if is_suspect else nullcontext():
                future = await self._submit(upload)
                try:
                    with self._dask.as_current():
                        await wait_for_futures([future])  # type: ignore[no-untyped-call]
                    if future.status == "finished":
                        return upload.outcome or await future.result()
                    error = await future.exception()  # type: ignore[no-untyped-call]
                except concurrent.futures.CancelledError:  # by Dask
                    return UploaderError(_LOST)
                except asyncio.CancelledError:
                    with anyio.CancelScope(shield=True), anyio.move_on_after(_CANCEL_SECONDS):
                        await future.cancel(force=True)  # type: ignore[no-untyped-call]
                    raise
            if not isinstance(error, KilledWorker):
                return unexpected_error(error)
        return UploaderError("Every worker that ran this upload has died, so it was given up.")

    async def _submit(self, upload: RemoteUpload) -> DaskFuture:
        loop = asyncio.get_running_loop()
        submitted: asyncio.Future[DaskFuture] = loop.create_future()
        if not self._batch:
            loop.call_soon(self._submit_batch)
        self._batch.append((upload, submitted))
        return await submitted

    def _submit_batch(self) -> None:
        batch, self._batch = self._batch, []
        by_placement: dict[_Placement, list[tuple[RemoteUpload, asyncio.Future[DaskFuture]]]] = {}
        for upload, submitted in batch:
            if not submitted.done():  # its item was cancelled
                by_placement.setdefault(_placement_of(upload.item), []).append((upload, submitted))
        for (workers, resources), uploads in by_placement.items():
            tasks = [upload.task for upload, _ in uploads]
            try:
                futures = self._dask.map(
                    run,
                    tasks,
                    key=[task.key for task in tasks],
                    pure=False,
                    workers=list(workers) or None,
                    resources=dict(resources) or None,
                )
            except Exception:  # noqa: BLE001 - of Dask, if the connection is lost
                for _, submitted in uploads:
                    submitted.set_exception(UploaderError(_LOST))
            else:
                for (_, submitted), future in zip(uploads, futures, strict=True):
                    submitted.set_result(future)

    def _receive(self, event: tuple[float, tuple[str, bytes]]) -> None:
        """Forward a report to its uploads. Reports to other fleets of the cluster are ignored."""
        _, (fleet, data) = event
        if fleet != self._fleet:
            return
        # From a worker, which runs our code: pickle gives it no more power.
        report = pickle.loads(data)  # noqa: S301
        assert isinstance(report, WorkerReport)
        self.workers[report.worker] = WorkerStatus(
            address=report.worker,
            uploads=report.uploads,
            parts_in_flight=report.parts_in_flight,
            delivered_bytes=report.delivered_bytes,
        )
        offset_seconds = asyncio.get_running_loop().time() - report.at_seconds
        for item in report.items:
            if (upload := self._uploads.get(item.number)) is not None:
                upload.receive(item, offset_seconds)

    async def _count_regularly(self) -> None:
        while True:
            await asyncio.sleep(_COUNT_SECONDS)
            with suppress(OSError):
                await self._count_workers()

    async def _count_workers(self) -> None:
        threads: Mapping[str, int] = await self._dask.nthreads()  # type: ignore[no-untyped-call]
        self._threads = sum(threads.values())
        self.workers = {
            address: self.workers.get(address) or WorkerStatus(address=address) for address in sorted(threads)
        }


def _placement_of(item: UploadItem) -> _Placement:
    if not isinstance(item, FleetItem):
        return (), ()
    return tuple(item.workers), tuple(sorted(item.resources.items()))
