"""The finished uploads that the journal keeps until their videos are printed."""

from __future__ import annotations

from collections.abc import Collection

from async_uploader import UploaderError

from ._output import LOGGER
from ._upload_context import UploadContext


async def find_kept(context: UploadContext, video_ids: Collection[str]) -> Collection[str] | None:
    """The videos that the same command prints again without uploading them.

    :returns: their ids; None if the emulator that had the videos no longer exists
    """
    if context.flags.local and context.flags.data is None:
        return None
    if context.results is not None:
        return video_ids
    if not context.keeps_finished:
        return ()
    from async_uploader._resume.unfinished import finished_among  # imports SQLite, which most commands do not need

    try:
        return await finished_among(video_ids)
    except UploaderError:
        return ()


async def forget_printed(context: UploadContext, video_ids: Collection[str]) -> None:
    """Remove uploads from the journal whose videos have been printed."""
    if not context.keeps_finished:
        return
    from async_uploader._resume.unfinished import forget_all

    try:
        await forget_all(video_ids)
    except UploaderError as exc:
        LOGGER.info("Cannot remove finished uploads from the journal: %s", exc)
