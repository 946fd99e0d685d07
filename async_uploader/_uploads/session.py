"""An upload whose parts the caller cuts, as they come to be."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio

from async_uploader._errors import UploaderError
from async_uploader._models import Video


class UploadSession:
    """What ``Client.upload_session()`` gives: parts in, a Video out. For one task at a time."""

    def __init__(self) -> None:
        self._hand_over, self._chunks = anyio.create_memory_object_stream[bytes](0)
        self._ended = anyio.Event()
        self._video: Video | None = None
        self._failure: Exception | None = None

    async def upload_part(self, data: bytes | bytearray | memoryview) -> None:
        """Hand over the next piece of the video.

        A piece becomes a part of its own; what is smaller than 5 MiB is joined with the next ones, what is larger
        than 200 MiB is divided. Returns when the piece is taken over, which may be before it is sent, and waits
        while as much is under way as may be.

        :raises UploadFailed: the upload has failed; the cause is chained
        :raises RuntimeError: the last part was handed over already
        """
        try:
            await self._hand_over.send(bytes(data))
        except anyio.ClosedResourceError:
            raise RuntimeError("the last part was handed over already") from None
        except anyio.BrokenResourceError:
            await self._ended.wait()
            raise self._reason() from None

    async def upload_last_part(self, data: bytes | bytearray | memoryview = b"") -> Video:
        """Hand over the end of the video, and wait until it has come together.

        :param data: the last piece; empty if all has been handed over before
        :returns: the finished Video
        :raises SourceError: there was not one byte
        :raises UploadFailed: the upload has failed; the cause is chained
        :raises RuntimeError: the last part was handed over already
        """
        await self.upload_part(data)
        self._hand_over.close()
        await self._ended.wait()
        if self._video is None:
            raise self._reason()
        return self._video

    def _reason(self) -> Exception:
        return self._failure or UploaderError("The upload was cancelled.")

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """What was handed over, for the uploading side."""
        async with self._chunks:
            async for chunk in self._chunks:
                yield chunk

    @asynccontextmanager
    async def running(self, upload: Callable[[], Awaitable[Video]]) -> AsyncIterator[None]:
        """Upload in the background; cancelled when the block is left before the end."""
        error: Exception | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._run, upload)
            try:
                yield
            except Exception as exc:  # noqa: BLE001 - raised below: here it would come out as a group
                error = exc
            group.cancel_scope.cancel()
        self._hand_over.close()
        if error is not None:
            raise error

    async def _run(self, upload: Callable[[], Awaitable[Video]]) -> None:
        try:
            self._video = await upload()
        except Exception as exc:  # noqa: BLE001 - raised to who hands over parts
            self._failure = exc
        finally:
            self._chunks.close()
            self._ended.set()
