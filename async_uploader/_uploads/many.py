"""Many uploads at once, with one budget of parts in flight for all of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from async_uploader._errors import UploaderError
from async_uploader._models import Video
from async_uploader._options import UploadOptions
from async_uploader._parsing import sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadItem:
    """One of many: what ``Client.upload()`` takes. A source that is an ``http(s)`` URL is imported instead."""

    source: object
    options: UploadOptions = field(default_factory=UploadOptions)

    @classmethod
    def of(cls, item: object) -> UploadItem:
        """The item itself, or a bare source as one."""
        return item if isinstance(item, UploadItem) else cls(source=item)

    @property
    def is_url(self) -> bool:
        """Whether the service fetches it by itself."""
        return isinstance(self.source, str) and self.source.startswith(("http://", "https://"))


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadResult:
    """How one of many has ended: with a video, or with an error."""

    item: UploadItem
    video: Video | None = None
    error: UploaderError | None = None


class Uploads:
    """The results of many uploads, in the order in which they end.

    An async iterator, to be used up; and an async context manager, for who may want to stop before::

        async with client.upload_many(paths) as results:
            async for result in results:
                ...

    Without it, what is still running when the iteration is given up is cancelled when the client is closed.

    Whatever exception ends an upload becomes its result's error, and the others continue. So do exceptions of
    ``on_video`` and the other callbacks; an exception that has to stop everything is raised where the results are
    iterated. Misuse (a source or option of a type that no upload takes) is raised by the iteration, once the other
    uploads have ended.

    The uploads run in a task that belongs to this object, and not in a task group of the caller's: an iterator
    cannot hold one open between two results without breaking cancellation for everybody around it.
    """

    def __init__(
        self,
        upload: Callable[[UploadItem], Awaitable[Video]],
        items: Iterable[object] | AsyncIterable[object],
        *,
        files: int,
        check: Callable[[UploadItem], object],
    ) -> None:
        self._upload = upload
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
        """Cancel what is still running. The results that are not fetched yet are lost."""
        self._ended.close()
        self._results.close()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError), anyio.CancelScope(shield=True):
                await asyncio.wait([self._task])

    async def _run(self) -> None:
        hand_over, to_upload = anyio.create_memory_object_stream[UploadItem](0)
        try:
            async with self._results, anyio.create_task_group() as group:
                group.start_soon(self._feed, hand_over)
                for _ in range(self._files):
                    group.start_soon(self._work, to_upload.clone())
                to_upload.close()
        except BaseExceptionGroup as errors:
            # Only what the iterable of items raises gets here, and what ends the process; one of these is enough.
            raise _first(errors) from None
        if self._misuse is not None:
            raise self._misuse

    async def _feed(self, hand_over: MemoryObjectSendStream[UploadItem]) -> None:
        async with hand_over:
            async for item in _each(self._items):
                await hand_over.send(UploadItem.of(item))

    async def _work(self, to_upload: MemoryObjectReceiveStream[UploadItem]) -> None:
        async with to_upload:
            async for item in to_upload:
                try:
                    self._check(item)
                except TypeError as exc:
                    self._misuse = self._misuse or exc
                    continue
                except UploaderError as exc:
                    result = UploadResult(item=item, error=exc)
                else:
                    result = await self._result(item)
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                    await self._results.send(result)

    async def _result(self, item: UploadItem) -> UploadResult:
        try:
            return UploadResult(item=item, video=await self._upload(item))
        except UploaderError as exc:
            return UploadResult(item=item, error=exc)
        except asyncio.CancelledError as exc:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            return _unexpected(item, exc)  # raised by a callback or a source: nobody has cancelled this
        except Exception as exc:  # noqa: BLE001 - of a callback, or a defect: no reason to stop the other uploads
            return _unexpected(item, exc)


async def _each(items: Iterable[object] | AsyncIterable[object]) -> AsyncIterator[object]:
    if isinstance(items, str | bytes | os.PathLike):
        raise TypeError("upload_many() takes an iterable of sources, not a single one")
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


def _unexpected(item: UploadItem, cause: BaseException) -> UploadResult:
    why = (sentence(str(cause)) or "no reason given").rstrip(".")
    error = UploaderError(f"The upload ended with an unexpected {type(cause).__name__}: {why}.")
    error.__cause__ = cause
    return UploadResult(item=item, error=error)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
