"""Receives the parts of a source: the form's file is written to disk block by block, and then added to the
upload."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from async_uploader.emulator._problems import Problem
from async_uploader.emulator._rules import (
    ContentRange,
    Upload,
    check_body_length,
    check_content_range,
    check_size,
    check_size_so_far,
    parse_content_range,
    unnamed_upload,
)

from .multipart import Data, End, Field, FormParser, MalformedForm, boundary_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from async_uploader.emulator._http.exchange import Exchange
    from async_uploader.emulator._storage.part_file import Buffer, PartFile
    from async_uploader.emulator._storage.part_store import PartStore
    from async_uploader.emulator._storage.store import Store
    from async_uploader.emulator._storage.video import Video

# Each batch is one call in a thread: large enough to make these rare, and the most memory of a connection beyond
# the socket's buffers.
BATCH_BYTES: Final = 1 << 20
MAX_FIELD_BYTES: Final = 4096
# More framing than any real form has around its file: allows checking a Content-Length before the body.
FRAMING_BYTES: Final = 64 * 1024


@dataclass(slots=True)
class Form:
    """The form's content so far."""

    file_name: str | None = None
    file_bytes: int = 0
    video_id: str | None = None


class FormReceiver:
    """Writes the file of one form to a part file, and keeps the field `videoId`.

    :param on_file: called with the `videoId` so far, before the file is read; may raise `Problem`
    """

    def __init__(
        self,
        parts: PartStore,
        file: PartFile,
        content_range: ContentRange,
        on_file: Callable[[str | None], object],
    ) -> None:
        self.form = Form()
        self._parts = parts
        self._file = file
        self._content_range = content_range
        self._on_file = on_file
        self._batch: list[Buffer] = []
        self._batch_bytes = 0
        self._field: Field | None = None
        self._value = bytearray()

    async def receive(self, exchange: Exchange, boundary: bytes) -> Form:
        """Read the body to its end.

        :raises Problem: the form is malformed, or does not have exactly one file
        """
        parser = FormParser(boundary)
        try:
            async with aclosing(exchange.blocks()) as blocks:
                async for block in blocks:
                    for event in parser.feed(block):
                        self._handle(event)
                    if self._batch_bytes >= BATCH_BYTES:
                        await self._flush()
        except MalformedForm as error:
            raise Problem("uploaded-file-invalid-file", detail=str(error)) from error
        if not parser.is_finished:
            raise Problem("uploaded-file-invalid-file", detail="The form has no closing boundary.")
        if not self.form.file_name and not self.form.file_bytes:
            raise Problem("uploaded-file-no-file")
        await self._flush()
        return self.form

    def _handle(self, event: Field | Data | End) -> None:
        if isinstance(event, Data):
            self._add_data(event.block)
        elif isinstance(event, Field):
            self._start_field(event)
        elif event is End.FIELD and self._field is not None and self._field.name == "videoId":
            self.form.video_id = self._value.decode("utf-8", "replace")

    def _start_field(self, field: Field) -> None:
        if field.file_name is not None:
            if self.form.file_name is not None:
                raise Problem("uploaded-file-multiple-files")
            self._on_file(self.form.video_id)
            self.form.file_name = field.file_name
        self._field = field
        self._value.clear()

    def _add_data(self, block: Buffer) -> None:
        assert self._field is not None
        if self._field.file_name is None:
            self._value += block
            if len(self._value) > MAX_FIELD_BYTES:
                detail = f"A field has at most {MAX_FIELD_BYTES} bytes."
                raise Problem("uploaded-file-invalid-file", detail=detail)
            return
        self.form.file_bytes += len(block)
        check_size_so_far(self._content_range, self.form.file_bytes)
        self._batch.append(block)
        self._batch_bytes += len(block)

    async def _flush(self) -> None:
        if self._batch:
            batch, self._batch, self._batch_bytes = self._batch, [], 0
            await self._parts.write(self._file, batch)


async def receive_part(exchange: Exchange, store: Store, video: Video) -> tuple[Video, bool]:
    """Receive a part of this container; returns it, and whether the part completed the upload."""
    content_range = _content_range(exchange)
    _check_headers(exchange, video.upload, content_range)
    return await _receive(exchange, store, content_range, lambda _: video, lambda _: None)


async def receive_part_with_token(exchange: Exchange, store: Store) -> tuple[Video, bool]:
    """Receive a part of the container that the form names, or the first part of a new container.

    The field `videoId` can be before or after the file: the official Node client sends it after.
    """
    content_range = _content_range(exchange)

    def find(video_id: str | None) -> Video | None:
        exchange.upload_target = video_id
        video = None if video_id is None else store.video(video_id)
        _check_headers(exchange, Upload() if video is None else video.upload, content_range)
        return video

    def check_before_file(video_id: str | None) -> None:
        if video_id is None:
            _check_headers(exchange, unnamed_upload(content_range), content_range)
        else:
            find(video_id)

    return await _receive(exchange, store, content_range, find, check_before_file)


async def _receive(
    exchange: Exchange,
    store: Store,
    content_range: ContentRange,
    find: Callable[[str | None], Video | None],
    check_before_file: Callable[[str | None], None],
) -> tuple[Video, bool]:
    boundary = boundary_of(exchange.request.headers.get("Content-Type", ""))
    if boundary is None:
        raise Problem("uploaded-file-no-file", detail="The body must be multipart/form-data with a boundary.")
    file = store.parts.create_file(exchange.request.content_length)
    try:
        receiver = FormReceiver(store.parts, file, content_range, check_before_file)
        form = await receiver.receive(exchange, boundary)
        video = find(form.video_id)
        if video is None:
            check_size(Upload(), content_range, form.file_bytes)
            video = await store.create({"title": form.file_name or "untitled"})
        exchange.video_id = exchange.upload_target = video.container.video_id
        waits_for_join = not exchange.is_throttled
        storing = store.parts.add(video, content_range, file, form.file_bytes, waits_for_join=waits_for_join)
    except BaseException:
        store.parts.discard(file)
        raise
    is_completing = await storing
    if is_completing and waits_for_join:
        await store.joiner.wait(video)
    exchange.is_stored = True
    exchange.is_completing = is_completing
    return video, is_completing


def _content_range(exchange: Exchange) -> ContentRange:
    values = exchange.request.headers.getall("Content-Range", [])
    if len(values) > 1:
        raise Problem("video-content-range-malformed", detail="The request has several Content-Range headers.")
    return parse_content_range(values[0] if values else None)


def _check_headers(exchange: Exchange, upload: Upload, content_range: ContentRange) -> None:
    """Check everything that the headers tell about the body, before it is read.

    :raises Problem: the upload does not accept the part
    """
    check_content_range(upload, content_range)
    length = exchange.request.content_length
    if length is not None:
        check_body_length(upload, content_range, length, framing=FRAMING_BYTES)
