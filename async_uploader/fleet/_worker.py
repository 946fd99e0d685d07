"""What runs on a worker of the cluster: one client per process, and one task per upload.

Tasks are coroutines on the worker's own event loop. Dask does not cancel them when a future is cancelled, so the
plugin does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from distributed import Worker, WorkerPlugin, get_worker
from msgspec import Struct

from async_uploader import Client, UploaderError, UploadOptions, Video

_PLUGIN: Final = "async_uploader"


class UploadTask(Struct, frozen=True, kw_only=True):
    """An upload or an import, as it is sent to a worker. It contains no credentials.

    :param is_import: the service downloads the source itself
    """

    source: str
    options: Mapping[str, Any]
    is_import: bool


class UploadPlugin(WorkerPlugin):
    """Holds the client of a worker process. The API key comes from the worker's environment.

    :param client_options: keyword arguments of the client, without credentials
    """

    name = _PLUGIN

    def __init__(self, client_options: Mapping[str, Any]) -> None:
        self._client_options = dict(client_options)
        self._running: dict[object, asyncio.Task[Any]] = {}

    async def setup(self, worker: Worker) -> None:  # noqa: ARG002 - the plugin interface
        """Open the client when the worker starts."""
        self._client = Client(**self._client_options)
        await self._client.__aenter__()

    async def teardown(self, worker: Worker) -> None:  # noqa: ARG002 - the plugin interface
        """Close the client when the worker ends."""
        for task in self._running.values():
            task.cancel()
        await self._client.__aexit__(None, None, None)

    def transition(self, key: object, start: object, finish: object, **_: object) -> None:  # noqa: ARG002
        """Cancel an upload whose future was cancelled."""
        if finish in ("cancelled", "released", "forgotten") and (task := self._running.get(key)) is not None:
            task.cancel()

    async def upload(self, key: str, upload: UploadTask) -> Video:
        """Run one upload, so that :meth:`transition` can cancel it."""
        task = asyncio.current_task()
        assert task is not None, "Dask runs coroutines in tasks"
        self._running[key] = task
        try:
            if upload.is_import:
                return await self._client.import_video(upload.source, **upload.options)
            options: UploadOptions = {**upload.options}  # type: ignore[typeddict-item]
            return await self._client.upload(upload.source, **options)
        finally:
            del self._running[key]


async def run(task_key: str, upload: UploadTask) -> Mapping[str, Any] | UploaderError:
    """Upload one source on the worker that executes this.

    :param task_key: Dask's key of this task
    :returns: the video as the service returned it, or the error. An exception would make Dask log its arguments
    """
    plugin = get_worker().plugins[_PLUGIN]
    assert isinstance(plugin, UploadPlugin)
    try:
        return (await plugin.upload(task_key, upload)).raw
    except UploaderError as exc:
        return exc
