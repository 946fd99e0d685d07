"""Receives the one small file of a form: captions, chapters, thumbnails and watermarks. It is kept in memory."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from async_uploader.emulator._problems import Problem

from .multipart import Data, Field, FormParser, MalformedForm, boundary_of

if TYPE_CHECKING:
    from async_uploader.emulator._http.exchange import Exchange


async def receive_file(exchange: Exchange, *, max_bytes: int) -> bytes:
    """Read a form, and return the content of its file.

    :raises Problem: the form is malformed, or its file is missing, empty or too large
    """
    boundary = boundary_of(exchange.request.headers.get("Content-Type", ""))
    if boundary is None:
        raise Problem("uploaded-file-no-file", detail="The body must be multipart/form-data with a boundary.")
    parser = FormParser(boundary)
    content = bytearray()
    files = 0
    is_file = False
    try:
        async with aclosing(exchange.blocks()) as blocks:
            async for block in blocks:
                for event in parser.feed(block):
                    if isinstance(event, Field):
                        is_file = event.file_name is not None
                        files += is_file
                    elif isinstance(event, Data) and is_file:
                        content += event.block
                _check_file(files, len(content), max_bytes)
    except MalformedForm as error:
        raise Problem("uploaded-file-invalid-file", detail=str(error)) from error
    if not parser.is_finished:
        raise Problem("uploaded-file-invalid-file", detail="The form has no closing boundary.")
    if not files:
        raise Problem("uploaded-file-no-file")
    if not content:
        raise Problem("uploaded-file-empty")
    return bytes(content)


def _check_file(files: int, size_bytes: int, max_bytes: int) -> None:
    if files > 1:
        raise Problem("uploaded-file-multiple-files")
    if size_bytes > max_bytes:
        raise Problem("uploaded-file-too-large", detail=f"The file has at most {max_bytes} bytes.")
