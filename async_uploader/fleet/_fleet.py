"""The coordinator of a fleet: submits uploads to a Dask cluster, a few at a time, and collects their results."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
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
    UploadResult,
    Video,
)
from async_uploader._catalogue.item import Item
from async_uploader._catalogue.results import ResultsFile, SourceKey, open_results, source_key
from async_uploader._options import import_options, split_options
from async_uploader._uploads.many import iterate_items
from async_uploader._urls import remote_scheme

from ._keys import derived_key

if TYPE_CHECKING:
    from ._worker import UploadTask

# Submitted uploads for each one that can run: a worker that finishes one has the next at once.
_QUEUE_FACTOR: Final = 2
# Workers come and go.
_COUNT_SECONDS: Final = 1.0
_CANCEL_SECONDS: Final = 2.0
# They stay in this process.
_CALLBACKS: Final = ("on_progress", "on_event", "on_video")


class Fleet:
    """Uploads many sources from many processes. Use it as an async context manager::

        async with Fleet(workers=4) as fleet:
            async for result in fleet.upload_many(paths):
                print(result.item.source, result.video or result.error)

    Every item has an idempotency key: its own, or one derived from its source. So an item results in one video,
    even if its worker dies, or if two fleets upload the same catalogue. Each worker process reads the API key from
    its own environment (``APIVIDEO_API_KEY``). It is never sent through the cluster.

    :param scheduler: address of a running Dask scheduler, such as ``tcp://10.0.0.1:8786``; default: a cluster of
        processes on this machine, which ends with the block
    :param workers: number of worker processes of that cluster; default: the number of cores
    :param results: file to which one JSON line is appended for each item that ends. Items that are finished there
        are skipped: their result is the recorded video; default: none
    :param base_url: as in :class:`~async_uploader.Client`; default: ``APIVIDEO_BASE_URL`` of this process, or
        production
    :param allow_plain_http: as in :class:`~async_uploader.Client`; default: False
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
        self._base_url = Client(base_url=base_url, allow_plain_http=allow_plain_http).base_url
        self._client_options = {"base_url": self._base_url, "allow_plain_http": allow_plain_http}
        self._scheduler = scheduler
        self._workers = workers
        self._results_path = None if results is None else Path(results)
        self._results: ResultsFile | None = None
        self._stack = AsyncExitStack()
        self._threads, self._threads_until = 0, -1.0

    async def __aenter__(self) -> Self:
        from ._cluster import connect  # noqa: PLC0415 - an extra

        async with AsyncExitStack() as stack:
            if self._results_path is not None:
                self._results = await stack.enter_async_context(open_results(self._results_path, self._base_url))
            self._dask = await stack.enter_async_context(
                connect(self._scheduler, workers=self._workers, client_options=self._client_options)
            )
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    async def upload_many(
        self, items: Iterable[Source | UploadItem] | AsyncIterable[Source | UploadItem]
    ) -> AsyncGenerator[UploadResult, None]:
        """Upload many sources, and iterate over the results in the order in which the uploads end.

        A failed upload does not stop the others. Leaving the iteration early cancels the uploads that still run.

        :param items: paths and URLs that the workers can read, or :class:`~async_uploader.UploadItem` with
            options; read as needed
        :returns: an async iterator of :class:`~async_uploader.Uploaded` and :class:`~async_uploader.Failed`
        """
        running: dict[asyncio.Task[UploadResult], None] = {}
        source, is_exhausted = iterate_items(items), False
        try:
            while True:
                while not is_exhausted and len(running) < await self._window():
                    try:
                        item = await anext(source)
                    except StopAsyncIteration:
                        is_exhausted = True
                    else:
                        running[asyncio.create_task(self._run(item))] = None
                if not running:
                    return
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del running[task]
                    yield task.result()
        finally:
            for task in running:
                task.cancel()
            if running:
                with anyio.CancelScope(shield=True):
                    await asyncio.wait(running, timeout=_CANCEL_SECONDS)

    async def _window(self) -> int:
        """How many uploads are submitted at the same time."""
        from ._cluster import count_threads  # noqa: PLC0415 - an extra

        now = asyncio.get_running_loop().time()
        if now > self._threads_until:
            self._threads = await count_threads(self._dask)
            self._threads_until = now + _COUNT_SECONDS
        return max(1, self._threads) * _QUEUE_FACTOR

    async def _run(self, item: UploadItem) -> UploadResult:
        """Have a worker upload an item, unless an earlier run has finished it."""
        try:
            upload = _task_of(item)
        except UploaderError as exc:
            return await self._finish(Failed(item=item, error=exc))
        if self._results is not None and self._results.is_finished(key := _results_key(item, upload.source)):
            return Uploaded(item=item, video=Video.from_response(self._results.video(key)))
        outcome = await self._outcome(upload)
        if isinstance(outcome, UploaderError):
            return await self._finish(Failed(item=item, error=outcome))
        return await self._finish(Uploaded(item=item, video=Video.from_response(outcome)))

    async def _outcome(self, upload: UploadTask) -> Mapping[str, Any] | UploaderError:
        from ._worker import run  # noqa: PLC0415 - an extra

        # The key is shown in dashboards and logs, so it names no source.
        name = f"upload-{secrets.token_hex(8)}"
        future = self._dask.submit(run, name, upload, key=name, pure=False)
        try:
            outcome: Mapping[str, Any] | UploaderError = await future.result()
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                with anyio.CancelScope(shield=True), anyio.move_on_after(_CANCEL_SECONDS):
                    await future.cancel(force=True)  # type: ignore[no-untyped-call]
                raise
            return UploaderError("The connection to the cluster was lost during the upload.")
        except Exception:  # noqa: BLE001 - of Dask, for a task whose workers died too often
            return UploaderError("The workers that ran this upload ended.")
        return outcome

    async def _finish(self, result: UploadResult) -> UploadResult:
        """Record a result, and pass the video to the caller's callback."""
        item = result.item
        if self._results is not None:
            source = os.fspath(item.source) if isinstance(item.source, str | os.PathLike) else "?"
            outcome = {"error": str(result.error)} if result.video is None else {"video": result.video.raw}
            await self._results.append(_results_key(item, source), source=source, **outcome)
        if result.video is not None and (on_video := item.options.get("on_video")) is not None:
            try:
                returned = on_video(result.video)
                if isawaitable(returned):
                    await returned
            except UploaderError as exc:
                return Failed(item=item, error=exc)
        return result


def _results_key(item: UploadItem, source: str) -> SourceKey:
    """Identifies an item in the results file, as the command does: derived keys do not count."""
    return source_key(Item(source=source), item.idempotency_key or item.options.get("idempotency_key"))


def _task_of(item: UploadItem) -> UploadTask:
    """An item as a worker needs it.

    :raises ConfigurationError: it cannot be sent to a worker, or an option is invalid
    """
    from ._worker import UploadTask  # noqa: PLC0415 - an extra

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
    if not remote_scheme(source):
        source = os.path.abspath(source)
    return UploadTask(source=source, options=options, is_import=item.is_url)
