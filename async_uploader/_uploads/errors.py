"""The errors with which an upload fails, and the advice about its container at the end of their messages."""

from __future__ import annotations

from typing import Final

from async_uploader._errors import ConflictError, SourceError, SourceFailed, UploaderError, UploadFailed
from async_uploader._models import VideoStatus
from async_uploader._outcome import Fate, container_fate
from async_uploader._units import format_size
from async_uploader.events import ContainerState

from .state import TransferState

NO_JOURNAL: Final = "The journal cannot be used, so this upload cannot be resumed. "
ADVICE: Final = {
    ContainerState.KEPT: "Upload it again to resume.",
    ContainerState.DELETED: "The unfinished video was deleted.",
    ContainerState.NOT_DELETED: "The unfinished video could not be deleted; the service removes it after 7 days.",
    ContainerState.UNCHANGED: "The video was not deleted.",
    ContainerState.MISSING: "This video no longer exists; upload the source again to create a new one.",
}


def upload_failed(cause: Exception, state: TransferState) -> UploadFailed:
    """The error for an upload into an existing container: the part, the cause, and how much was stored."""
    progress, part = state.progress.snapshot(), state.failed_part
    of_total = "" if progress.parts_total is None else f" of {progress.parts_total}"
    text = str(cause) if isinstance(cause, UploaderError) else f"{type(cause).__name__}: {cause}."
    if part is not None:
        text = f"Part {part.number}{of_total}: {text}"
    if state.video_id is not None:
        stored = format_size(progress.acknowledged_bytes)
        text += f" {progress.parts_done}{of_total} parts ({stored}) were stored in video {state.video_id}."
    error_class = SourceFailed if isinstance(cause, SourceError) else UploadFailed
    return error_class(
        text,
        video_id=state.video_id,
        part_number=part.number if part else None,
        parts_done=progress.parts_done,
        parts_total=progress.parts_total,
        acknowledged_bytes=progress.acknowledged_bytes,
        total_bytes=progress.total_bytes,
        resumable=container_fate(cause) is Fate.KEEP and state.video_id is not None,
    )


def foreign_writer(error: UploaderError) -> ConflictError:
    """The service already has a part that this upload never sent."""
    return ConflictError(f"{error} This upload did not send it: another program is writing to this video.")


def possible_second_video(error: UploaderError) -> ConflictError:
    """The response to the only part was lost, and an upload token cannot look for the video."""
    return ConflictError(
        f"{error} The only part may have created a video. An upload token cannot check this, and sending the part "
        "again could create a second video. Check the account before you upload it again."
    )


def wrong_size(status: VideoStatus, total_bytes: int | None) -> ConflictError:
    """The service assembled a video of another size."""
    return ConflictError(
        f"The service assembled {status.ingest.filesize:,} bytes, but the source has {total_bytes:,} bytes."
    )


def incomplete(status: VideoStatus) -> UploaderError:
    """The service did not assemble the video in time."""
    return UploaderError(
        "Every part was accepted, but the service has not assembled the video "
        f"(its status is {status.ingest.status!r})."
    )


def no_video_id() -> UploaderError:
    """The response to the first part of an upload token does not name the video that the part created."""
    return UploaderError("The response to the first part contains no videoId.")


def no_finished_video() -> UploaderError:
    """No response to a part of an upload token contained the finished video."""
    return UploaderError("Every part was accepted, but no response contained the finished video.")


def cancelled_callback() -> UploaderError:
    """A callback raised CancelledError although the upload was not cancelled."""
    return UploaderError("A callback, or something it awaited, was cancelled.")
