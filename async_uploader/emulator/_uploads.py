"""Receiving a source: the form's one file goes to disk as it comes, and becomes a piece when it is all there."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ._multipart import Data, End, Field, FormReader, Malformed, boundary_of
from ._problems import Problem
from ._rules import (
    Range,
    Upload,
    check_body_length,
    check_range,
    check_size,
    check_so_far,
    parse_content_range,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._exchange import Exchange
    from ._spool import Buffer, Spool
    from ._store import Store, Video

# One hop to a thread for each batch: large enough to make hops rare, and the most that a connection holds
# beyond its socket's buffers.
BATCH_BYTES: Final = 1 << 20
MAX_FIELD_BYTES: Final = 4096
# More framing than any real form has around its file: lets a Content-Length be judged before the body.
FRAMING_BYTES: Final = 64 * 1024


@dataclass(slots=True)
class Form:
    """What a form has brought so far."""

    file_name: str | None = None
    file_bytes: int = 0
    video_id: str | None = None


class FormReceiver:
    """Takes one form apart into a spool and its fields."""

    def __init__(self, store: Store, spool: Spool, wanted: Range, on_file: Callable[[str | None], object]) -> None:
        self.form = Form()
        self._store = store
        self._spool = spool
        self._wanted = wanted
        self._on_file = on_file
        self._batch: list[Buffer] = []
        self._batch_bytes = 0
        self._field: Field | None = None
        self._value = bytearray()

    async def receive(self, exchange: Exchange, boundary: bytes) -> Form:
        """Read the body to its end.

        :raises Problem: for a form that is malformed, or has not exactly one file.
        """
        reader = FormReader(boundary)
        try:
            async with aclosing(exchange.blocks()) as blocks:
                async for block in blocks:
                    for event in reader.feed(block):
                        self._handle(event)
                    if self._batch_bytes >= BATCH_BYTES:
                        await self._flush()
        except Malformed as error:
            raise Problem("uploaded-file-invalid-file", detail=str(error)) from error
        if not reader.is_finished:
            raise Problem("uploaded-file-invalid-file", detail="The form has no closing boundary.")
        if not self.form.file_name and not self.form.file_bytes:
            raise Problem("uploaded-file-no-file")
        await self._flush()
        return self.form

    def _handle(self, event: Field | Data | End) -> None:
        if isinstance(event, Data):
            self._take(event.block)
        elif isinstance(event, Field):
            self._begin(event)
        elif event is End.FIELD and self._field is not None and self._field.name == "videoId":
            self.form.video_id = self._value.decode("utf-8", "replace")

    def _begin(self, field: Field) -> None:
        if field.file_name is not None:
            if self.form.file_name is not None:
                raise Problem("uploaded-file-multiple-files")
            self._on_file(self.form.video_id)
            self.form.file_name = field.file_name
        elif field.name == "videoId" and self.form.file_name is not None:
            raise Problem("invalid-attribute", name="videoId", detail="It must come before the file.")
        self._field = field
        self._value.clear()

    def _take(self, block: Buffer) -> None:
        assert self._field is not None
        if self._field.file_name is None:
            self._value += block
            if len(self._value) > MAX_FIELD_BYTES:
                raise Problem("uploaded-file-invalid-file", detail=f"A field has over {MAX_FIELD_BYTES} bytes.")
            return
        self.form.file_bytes += len(block)
        check_so_far(self._wanted, self.form.file_bytes)
        self._batch.append(block)
        self._batch_bytes += len(block)

    async def _flush(self) -> None:
        if self._batch:
            batch, self._batch, self._batch_bytes = self._batch, [], 0
            await self._store.write(self._spool, batch)


async def receive_source(exchange: Exchange, store: Store, video: Video) -> tuple[Video, bool]:
    """Take a body for this container; with whether it completed the upload."""
    wanted = _content_range(exchange)
    _check_fit(exchange, video.upload, wanted)
    return await _receive(exchange, store, wanted, lambda _: video)


async def receive_with_token(exchange: Exchange, store: Store) -> tuple[Video, bool]:
    """Take a body for the container that the form names; without a name it is the first of a new one."""
    wanted = _content_range(exchange)

    def find(video_id: str | None) -> Video | None:
        video = None if video_id is None else store.video(video_id)
        exchange.target = video_id
        _check_fit(exchange, Upload() if video is None else video.upload, wanted)
        return video

    return await _receive(exchange, store, wanted, find)


async def _receive(
    exchange: Exchange, store: Store, wanted: Range, find: Callable[[str | None], Video | None]
) -> tuple[Video, bool]:
    boundary = boundary_of(exchange.request.headers.get("Content-Type", ""))
    if boundary is None:
        raise Problem("uploaded-file-no-file", detail="The body must be multipart/form-data with a boundary.")
    spool = store.spool(exchange.request.content_length)
    try:
        form = await FormReceiver(store, spool, wanted, find).receive(exchange, boundary)
        video = find(form.video_id)
        if video is None:
            check_size(Upload(), wanted, form.file_bytes)
            video = await store.create({"title": form.file_name or "untitled"})
        exchange.video_id = exchange.target = video.container.video_id
        will_wait = not exchange.is_on_a_line
        landing = store.land(video, wanted, spool, form.file_bytes, will_wait=will_wait)
    except BaseException:
        store.discard(spool)
        raise
    completed = await landing
    if completed and will_wait:
        await store.joined(video)
    exchange.stored = True
    exchange.completing = completed
    return video, completed


def _content_range(exchange: Exchange) -> Range:
    values = exchange.request.headers.getall("Content-Range", [])
    if len(values) > 1:
        raise Problem("video-content-range-malformed", detail="There is more than one.")
    return parse_content_range(values[0] if values else None)


def _check_fit(exchange: Exchange, upload: Upload, wanted: Range) -> None:
    """What the headers tell about the body before it is asked for."""
    check_range(upload, wanted)
    length = exchange.request.content_length
    if length is not None:
        check_body_length(upload, wanted, length, framing=FRAMING_BYTES)
