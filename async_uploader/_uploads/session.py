"""An upload whose parts the caller passes in one by one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio

from async_uploader._errors import UploaderError
from async_uploader._models import Video
from async_uploader._public import public


@public
class UploadSession:
    """Uploads the parts that you pass to it. Created by ``Client.upload_session()``; for one task at a time."""

    def __init__(self) -> None:
        self._send_chunk, self._receive_chunk = anyio.create_memory_object_stream[bytes](0)
        self._ended = anyio.Event()
        self._video: Video | None = None
        self._failure: Exception | None = None

    async def upload_part(self, data: bytes | bytearray | memoryview) -> None:
        """Upload the next part of the video.

        Data from 5 MiB to 200 MiB become one part. Smaller data are joined with those that follow, larger data are
        split. Returns once the data are buffered, which may be before they are sent; waits while the buffers are
        full.

        :param data: the next bytes of the video
        :raises UploadFailed: the upload failed; the cause is chained
        :raises RuntimeError: ``upload_last_part()`` was already called
        """
        try:
            await self._send_chunk.send(bytes(data))
        except anyio.ClosedResourceError:
            raise RuntimeError("upload_last_part() was already called") from None
        except anyio.BrokenResourceError:
            await self._ended.wait()
            raise self._error() from None

    async def upload_last_part(self, data: bytes | bytearray | memoryview = b"") -> Video:
        """Upload the end of the video, and wait until the video is complete.

        :param data: the last bytes of the video; default: none
        :returns: the finished Video
        :raises SourceError: the session received no bytes at all
        :raises UploadFailed: the upload failed; the cause is chained
        :raises RuntimeError: ``upload_last_part()`` was already called
        """
        await self.upload_part(data)
        self._send_chunk.close()
        await self._ended.wait()
        if self._video is None:
            raise self._error()
        return self._video

    def _error(self) -> Exception:
        return self._failure or UploaderError("The upload was cancelled.")

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The data passed to :meth:`upload_part`, for the upload that reads them."""
        async with self._receive_chunk:
            async for chunk in self._receive_chunk:
                yield chunk

    @asynccontextmanager
    async def running(self, upload: Callable[[], Awaitable[Video]]) -> AsyncIterator[None]:
        """Upload in the background. Leaving the block before the upload ends cancels it."""
        error: Exception | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._run, upload)
            try:
                yield
            except Exception as exc:  # noqa: BLE001 - raised below; here the task group would wrap it
                error = exc
            group.cancel_scope.cancel()
        self._send_chunk.close()
        if error is not None:
            raise error

    async def _run(self, upload: Callable[[], Awaitable[Video]]) -> None:
        try:
            self._video = await upload()
        except Exception as exc:  # noqa: BLE001 - raised by upload_part() or upload_last_part()
            self._failure = exc
        finally:
            self._receive_chunk.close()
            self._ended.set()
