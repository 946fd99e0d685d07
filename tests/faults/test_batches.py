"""An exception of one upload of a batch does not stop the others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest

from async_uploader import (
    ConfigurationError,
    UploaderError,
    UploadFailed,
    UploadItem,
    Video,
)
from harness.world import KEY, QuickClient, service

pytestmark = pytest.mark.anyio

SMALL: Final = b"a small video"


class UnexpectedError(Exception):
    """An exception that the library does not know."""


async def test_no_exception_of_one_upload_stops_the_others(tmp_path: Path) -> None:
    def unexpected(_: object) -> None:
        raise UnexpectedError("out of the\nblue")

    def full(_: Video) -> None:
        raise OSError(28, "No space left on device")

    def cancelled(_: object) -> None:
        raise asyncio.CancelledError

    options: list[dict[str, Any]] = [
        {}, {"on_video": unexpected}, {"on_event": unexpected}, {"on_progress": unexpected}, {"on_video": full},
        {"part_size": 7}, {"on_video": cancelled}, {},
    ]  # fmt: skip
    paths = [tmp_path / f"{number}.mp4" for number in range(len(options))]
    for path in paths:
        path.write_bytes(SMALL)
    items = [UploadItem(source=path, options=more) for path, more in zip(paths, options, strict=True)]  # type: ignore[arg-type]
    items.insert(1, UploadItem(source=7))  # type: ignore[arg-type]
    errors: dict[Path, UploaderError | None] = {}
    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:

        async def all_of_them() -> None:
            async for result in client.upload_many(items, concurrency=2):
                assert isinstance(result.item.source, Path)
                errors[result.item.source] = result.error
                assert (result.video is None) is (result.error is not None)

        with pytest.raises(TypeError, match="source must be"):
            await all_of_them()
    kinds = [type(errors[path]) for path in paths]
    assert kinds == [
        type(None), UploaderError, UploaderError, UploadFailed, UploaderError, ConfigurationError,
        UploaderError, type(None),
    ]  # fmt: skip
    unexpected_error = errors[paths[1]]
    assert unexpected_error is not None
    assert str(unexpected_error) == "The upload ended with an unexpected UnexpectedError: out of the blue."
    assert isinstance(unexpected_error.__cause__, UnexpectedError)
    assert isinstance(getattr(errors[paths[4]], "__cause__", None), OSError)
