"""The public class :class:`Fleet`: uploads many sources from many processes, and records their results."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack
from inspect import isawaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import anyio

from async_uploader import (
    Client,
    ConfigurationError,
    Failed,
    Source,
    Uploaded,
    UploaderError,
    UploadItem,
    UploadOptions,
    UploadResult,
    Video,
)
from async_uploader._catalogue.item import Item
from async_uploader._catalogue.results import ResultsFile, SourceKey, open_results, source_key
from async_uploader._options import import_options, split_options
from async_uploader._uploads.many import iterate_items, unexpected_error
from async_uploader._urls import remote_scheme
from async_uploader.events import LISTENERS

from ._keys import derived_key
from ._status import WorkerStatus

if TYPE_CHECKING:
    from ._coordinator import Coordinator

_CANCEL_SECONDS: Final = 3.0
# New items are submitted when the window is filled to this share: workers then still have queued items.
_REFILL_SHARE: Final = 0.75
# They stay in this process.
_CALLBACKS: Final = ("on_progress", "on_event", "on_video")


class Fleet:
    """Uploads many sources from many processes. Use it as an async context manager::

        from async_uploader.fleet import Fleet

        async with Fleet(workers=2) as fleet:
            async for result in fleet.upload_many(paths):
                print(result.item.source, result.video or result.error)

    Every item has an idempotency key: its own, or one derived from its source. So an item results in one video,
    even if its worker dies, or if two fleets upload the same catalogue. Each worker process reads the API key from
    its own environment (``APIVIDEO_API_KEY``). It is never sent through the cluster.

    Callbacks and :func:`async_uploader.events.listen` work as on one machine, in this process: workers send their
    events and progress twice a second.

    :param scheduler: address of a running Dask scheduler, such as ``tcp://10.0.0.1:8786``; default: a cluster of
        processes on this machine, which ends with the block
    :param workers: number of worker processes of that cluster; default: the number of cores
    :param results: file to which one JSON line is appended for each item that ends. Items that are finished there
        are skipped: their result is the recorded video; default: none
    :param base_url: as in :class:`~async_uploader.Client`; default: ``APIVIDEO_BASE_URL`` of this process, or
        production
    :param allow_plain_http: as in :class:`~async_uploader.Client`; default: False
    :param limit_rate: maximum bytes of video that each worker process sends per second; default: no limit
    :param concurrency: parts that each worker process sends at the same time, 1-256; default: adaptive, up to 32
    :raises ConfigurationError: the parameters contradict each other, or the extra ``fleet`` is not installed
    """

    def __init__(
        self,
        scheduler: str | None = None,
        workers: int | None = None,
        results: str | os.PathLike[str] | None = None,
        *,
        base_url: str | None = None,
        allow_plain_http: bool = False,
        limit_rate: float | None = None,
        concurrency: int | None = None,
    ) -> None:
        if scheduler is not None and workers is not None:
            raise ConfigurationError("workers applies to a cluster on this machine; remove it, or scheduler.")
        if workers is not None and workers < 1:
            raise ConfigurationError(f"workers must be a whole number from 1, not {workers!r}.")
        try:
            import distributed  # noqa: F401, PLC0415 - an extra
        except ImportError:
            raise ConfigurationError(
                "A fleet needs the extra 'fleet'; run: pip install 'async-uploader[fleet]'."
            ) from None
        # Checks the credentials of this process, which a local cluster inherits, and resolves the URL.
        client = Client(base_url=base_url, allow_plain_http=allow_plain_http, limit_rate=limit_rate)
        if concurrency is not None:
            split_options(UploadOptions(concurrency=concurrency))
        self._client_options: dict[str, Any] = {
            "base_url": client.base_url,
            "allow_plain_http": allow_plain_http,
            "limit_rate": limit_rate,
            "concurrency": concurrency,
        }
        self._scheduler = scheduler
        self._worker_count = workers
        self._results_path = None if results is None else Path(results)
        self._results: ResultsFile | None = None
        self._stack = AsyncExitStack()
        self._coordinator: Coordinator | None = None
        #: The URL of Dask's dashboard, if it has one.
        self.dashboard_url: str | None = None

    async def __aenter__(self) -> Self:
        from ._cluster import connect  # noqa: PLC0415 - an extra
        from ._coordinator import Coordinator  # noqa: PLC0415
        from ._messages import ClientOptions  # noqa: PLC0415

        options = ClientOptions(**self._client_options)
        async with AsyncExitStack() as stack:
            if self._results_path is not None:
                self._results = await stack.enter_async_context(open_results(self._results_path, options.base_url))
            dask, self.dashboard_url = await stack.enter_async_context(
                connect(self._scheduler, workers=self._worker_count, client_options=options)
            )
            coordinator = Coordinator(dask, options, is_remote=self._scheduler is not None)
            await stack.enter_async_context(coordinator.running())
            self._coordinator = coordinator
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._coordinator = None
        await self._stack.aclose()

    @property
    def workers(self) -> list[WorkerStatus]:
        """The state of each worker, by its last report. Workers may join and leave."""
        return [] if self._coordinator is None else list(self._coordinator.workers.values())

    async def upload_many(
        self, items: Iterable[Source | UploadItem] | AsyncIterable[Source | UploadItem]
    ) -> AsyncGenerator[UploadResult, None]:
        """Upload many sources, and iterate over the results in the order in which the uploads end.

        A failed upload does not stop the others. Leaving the iteration early cancels the uploads that still run.

        :param items: paths and URLs that the workers can read, :class:`~async_uploader.UploadItem` or
            :class:`FleetItem` for certain workers; read as needed
        :returns: an async iterator of :class:`~async_uploader.Uploaded` and :class:`~async_uploader.Failed`
        :raises ConfigurationError: the fleet is not open
        :raises UploaderError: the scheduler has ended, or the results cannot be recorded
        """
        if (coordinator := self._coordinator) is None:
            raise ConfigurationError("A fleet can upload only inside its 'async with' block.")
        batch = _Batch(coordinator)
        feeding = asyncio.create_task(batch.feed(items, self._run))
        try:
            while (result := await batch.ended.get()) is not None:
                batch.count_delivered()
                if isinstance(result, BaseException):
                    raise result
                yield result
            await feeding
        finally:
            tasks = [feeding, *batch.running]
            for task in tasks:
                task.cancel()
            with anyio.CancelScope(shield=True):
                done, _ = await asyncio.wait(tasks, timeout=_CANCEL_SECONDS)
            for task in done:
                if not task.cancelled():
                    task.exception()  # it was raised, or comes too late

    async def _run(self, coordinator: Coordinator, item: UploadItem) -> UploadResult:
        """Have a worker upload an item, unless an earlier run has finished it."""
        try:
            source, options = _task_of(item)
        except UploaderError as exc:
            return await self._finish(Failed(item=item, error=exc))
        if self._results is not None and self._results.is_finished(key := _results_key(item, source)):
            return Uploaded(item=item, video=Video.from_response(self._results.video(key)))
        has_listeners = bool(LISTENERS) or not item.options.keys().isdisjoint(("on_event", "on_progress"))
        outcome = await coordinator.upload(item, source, options, has_listeners=has_listeners)
        if isinstance(outcome, UploaderError):
            return await self._finish(Failed(item=item, error=outcome))
        return await self._finish(Uploaded(item=item, video=Video.from_response(outcome)))

    async def _finish(self, result: UploadResult) -> UploadResult:
        """Record a result, and pass the video to the caller's callback."""
        item = result.item
        if self._results is not None:
            source = os.fspath(item.source) if isinstance(item.source, str | os.PathLike) else "?"
            outcome = {"error": str(result.error)} if result.video is None else {"video": result.video.raw}
            name = Item(source=source, is_fetched=not item.is_url).display_path
            await self._results.append(_results_key(item, source), source=name, **outcome)
        if result.video is not None and (on_video := item.options.get("on_video")) is not None:
            try:
                returned = on_video(result.video)
                if isawaitable(returned):
                    await returned
            except UploaderError as exc:
                return Failed(item=item, error=exc)
            except Exception as exc:  # noqa: BLE001 - of the caller's code: as on one machine
                return Failed(item=item, error=unexpected_error(exc))
        return result


class _Batch:
    """The items of one call that have begun, and whose results the caller has not taken yet.

    :ivar running: their tasks
    :ivar ended: the results, and None after the last one; an exception ends the batch
    """

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._count = 0
        self._has_room = asyncio.Event()
        self.running: set[asyncio.Task[UploadResult]] = set()
        self.ended: asyncio.Queue[UploadResult | BaseException | None] = asyncio.Queue()

    async def feed(
        self,
        items: Iterable[Source | UploadItem] | AsyncIterable[Source | UploadItem],
        run: Callable[[Coordinator, UploadItem], Coroutine[Any, Any, UploadResult]],
    ) -> None:
        """Begin items while there is room in the window, until all have ended."""
        try:
            async for item in iterate_items(items):
                await self._wait_for_room()
                self._coordinator.check_connection()
                self._count += 1
                task = asyncio.create_task(run(self._coordinator, item))
                self.running.add(task)
                task.add_done_callback(self._end)
            while self.running:
                await asyncio.wait(self.running)
        finally:
            self.ended.put_nowait(None)

    async def _wait_for_room(self) -> None:
        """Wait until there is room for several items, which are submitted together."""
        if self._count < self._coordinator.window:
            return
        while self._count > self._coordinator.window * _REFILL_SHARE:
            self._has_room.clear()
            await self._has_room.wait()

    def _end(self, task: asyncio.Task[UploadResult]) -> None:
        self.running.discard(task)
        if not task.cancelled():
            self.ended.put_nowait(task.exception() or task.result())

    def count_delivered(self) -> None:
        """The caller has taken a result."""
        self._count -= 1
        self._has_room.set()


def _results_key(item: UploadItem, source: str) -> SourceKey:
    """Identifies an item in the results file, as the command does: derived keys do not count."""
    key = item.idempotency_key or item.options.get("idempotency_key")
    return source_key(Item(source=source, is_fetched=not item.is_url), key)


def _task_of(item: UploadItem) -> tuple[str, Mapping[str, Any]]:
    """The source and the options of an item, as a worker needs them.

    :raises ConfigurationError: it cannot be sent to a worker, or an option is invalid
    """
    if not isinstance(item.source, str | os.PathLike):
        raise ConfigurationError(f"A fleet uploads paths and URLs, not {type(item.source).__name__}.")
    source = os.fspath(item.source)
    if item.options.get("control") is not None:
        raise ConfigurationError("control does not apply to a fleet, whose uploads run in other processes.")
    options: dict[str, Any] = {name: value for name, value in item.options.items() if name not in _CALLBACKS}
    options["idempotency_key"] = item.idempotency_key or options.get("idempotency_key") or derived_key(source)
    if item.is_url:
        options = dict(import_options(options))  # type: ignore[arg-type]
    else:
        split_options(options)
    return source if remote_scheme(source) else os.path.abspath(source), options
