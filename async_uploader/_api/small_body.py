"""The body of a small file, such as captions: its bytes are in memory, and sent like those of a part."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from async_uploader._flow.throughput import BodyInTransit
from async_uploader._sources.reader import BytesReader

from .multipart import BlockPool, PartBody


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
                BytesReader(content),
                size_bytes=len(content),
                filename=filename,
                form_fields={},
                pool=pool,
                observer=_NoObserver(),
            )
        )

    return open_body
