"""The body of a small file, such as captions: its bytes are in memory, and sent like those of a part."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from async_uploader._flow.throughput import BodyInTransit

from .multipart import BlockPool, PartBody


class _BytesReader:
    def __init__(self, content: bytes) -> None:
        self._rest = memoryview(content)

    async def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


class _NoObserver:
    def body_started(self, body: BodyInTransit) -> None: ...
    def sent(self, count_bytes: int) -> None: ...
    def body_ended(self, body: BodyInTransit) -> None: ...
    def replacement_factor(self, body: BodyInTransit, size_bytes: int) -> None: ...


def small_body(
    content: bytes, *, filename: str, pool: BlockPool
) -> Callable[[], AbstractAsyncContextManager[PartBody | None]]:
    """A function that opens a new body for each attempt."""

    def open_body() -> AbstractAsyncContextManager[PartBody | None]:
        return nullcontext(
            PartBody(
                _BytesReader(content),
                size_bytes=len(content),
                filename=filename,
                form_fields={},
                pool=pool,
                observer=_NoObserver(),
            )
        )

    return open_body
