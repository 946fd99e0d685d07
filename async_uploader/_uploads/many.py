"""Many uploads at the same time, which share their upload slots."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Self, cast

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from async_uploader._errors import UploaderError
from async_uploader._models import Video
from async_uploader._parsing import single_line
from async_uploader._public import public
from async_uploader._types import Failed, Source, Uploaded, UploadItem, UploadResult


@public
class Uploads:
    """The results of many uploads, in the order in which the uploads end.

    Iterate over all results, or use it as an async context manager if you may stop early::

        async with client.upload_many(paths) as results:
            async for result in results:
                ...

    Leaving the block cancels the uploads that still run. Without a block, closing the client cancels them.

    An exception that ends an upload, including one raised by ``on_video`` or another callback, becomes the error
    of its result; the other uploads continue. To stop everything, raise your exception in the loop over the
    results. If an item has a type that cannot be uploaded, or an unknown option, the iteration raises a TypeError
    after the other uploads have ended.

    The uploads run in a task of this object instead of a task group: an iterator cannot keep a task group open
    between two results without breaking cancellation in the code around it.
    """

    def __init__(
        self,
        upload: Callable[[UploadItem], Awaitable[Video]],
        items: Iterable[object] | AsyncIterable[object],
        *,
        files: int,
        check: Callable[[UploadItem], object],
        check_client: Callable[[], None],
    ) -> None:
        self._upload = upload
        self._check_client = check_client
        self._check = check
        self._misuse: TypeError | None = None
        self._items = items
        self._files = files
        self._results, self._ended = anyio.create_memory_object_stream[UploadResult](0)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> UploadResult:
        if self._task is None:
            self._check_client()  # the task would belong to another event loop
            self._task = asyncio.create_task(self._run(), name="async_uploader: many uploads")
        try:
            return await self._ended.receive()
        except anyio.EndOfStream:
            self._ended.close()
            await self._task
            raise StopAsyncIteration from None
        except anyio.ClosedResourceError:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """Cancel the uploads that still run. Results that were not iterated over yet are lost."""
        self._ended.close()
        self._results.close()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError), anyio.CancelScope(shield=True):
                await asyncio.wait([self._task])

    async def _run(self) -> None:
        send_item, receive_item = anyio.create_memory_object_stream[UploadItem](0)
        try:
            async with self._results, anyio.create_task_group() as group:
                group.start_soon(self._feed, send_item)
                for _ in range(self._files):
                    group.start_soon(self._work, receive_item.clone())
                receive_item.close()
        except BaseExceptionGroup as errors:
            # Only the iterable of items, or a signal that ends the process, raises here. One exception is enough.
            raise _first_of(errors) from None
        if self._misuse is not None:
            raise self._misuse

    async def _feed(self, send_item: MemoryObjectSendStream[UploadItem]) -> None:
        async with send_item:
            async for item in iterate_items(self._items):
                await send_item.send(item)

    async def _work(self, receive_item: MemoryObjectReceiveStream[UploadItem]) -> None:
        async with receive_item:
            async for item in receive_item:
                try:
                    self._check(item)
                except TypeError as exc:
                    self._misuse = self._misuse or exc
                    continue
                except UploaderError as exc:
                    result: UploadResult = Failed(item=item, error=exc)
                else:
                    result = await self._result(item)
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                    await self._results.send(result)

    async def _result(self, item: UploadItem) -> UploadResult:
        try:
            return Uploaded(item=item, video=await self._upload(item))
        except UploaderError as exc:
            return Failed(item=item, error=exc)
        except asyncio.CancelledError as exc:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            return _unexpected(item, exc)  # raised by a callback or a source; the task was not cancelled
        except Exception as exc:  # noqa: BLE001 - an error of a callback, or a bug, must not stop the other uploads
            return _unexpected(item, exc)


async def iterate_items(items: Iterable[object] | AsyncIterable[object]) -> AsyncIterator[UploadItem]:
    """The items of any iterable, as objects of one type.

    :raises TypeError: it is a single source
    """
    if isinstance(items, str | bytes | os.PathLike):
        raise TypeError("upload_many() takes an iterable of sources, not a single one")
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield _as_item(item)
    else:
        for item in items:
            yield _as_item(item)


def _as_item(item: object) -> UploadItem:
    return item if isinstance(item, UploadItem) else UploadItem(source=cast("Source", item))


def _unexpected(item: UploadItem, cause: BaseException) -> Failed:
    return Failed(item=item, error=unexpected_error(cause))


def unexpected_error(cause: BaseException) -> UploaderError:
    """The error of an upload that ended with an exception of a callback, or with one that is a bug."""
    reason = (single_line(str(cause)) or "no reason given").rstrip(".")
    error = UploaderError(f"The upload ended with an unexpected {type(cause).__name__}: {reason}.")
    error.__cause__ = cause
    return error


def _first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error = errors.exceptions[0]
    return _first_of(error) if isinstance(error, BaseExceptionGroup) else error
