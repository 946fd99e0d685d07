"""Records the result of each source: in the results file, on standard output, in the progress display."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from async_uploader import Failed, UploaderError, UploadItem, UploadResult, Video
from async_uploader._catalogue.item import Item
from async_uploader._catalogue.results import SourceKey
from async_uploader._models import MARK_SOURCE

from ._display import FileProgress
from ._output import LOGGER, print_error
from ._upload_context import UploadContext
from ._video_output import VideoOutput


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Job(UploadItem):
    """An upload or an import in progress.

    :param number: the number of the source
    :param key: the identity of the source when the job was created
    :param progress: the progress of a file; None for an import
    """

    number: int
    item: Item
    key: SourceKey
    progress: FileProgress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedVideo:
    """A finished upload whose encoding is awaited.

    :param number: the number of the source
    """

    number: int
    item: Item
    video_id: str


class ResultRecorder:
    """Records results, and counts them.

    :ivar finished: number of videos
    :ivar video_ids: the ids of the videos that the journal keeps until they are printed
    :ivar keyed_ids: the ids of those that have an idempotency key
    :ivar awaited: the videos that ``--wait`` waits for
    """

    def __init__(self, context: UploadContext, output: VideoOutput) -> None:
        self._context = context
        self._output = output
        # Nothing else is kept for each source: a listing may have very many.
        self.video_ids: list[str] = []
        self.keyed_ids: set[str] = set()
        self.awaited: list[AwaitedVideo] = []
        self.finished = self.skipped = self.failed = 0

    async def record_skipped(self, number: int, item: Item, video: Mapping[str, Any]) -> None:
        """A source was finished by an earlier run."""
        self.skipped += 1
        self._context.interrupt_advice.on_source_recorded()
        await self._print_video(number, item, video)
        self._context.display.end_source(number)

    async def record_import_started(self, job: Job) -> None:
        """The import of a URL is about to start."""
        await self._append(job, begun=True)

    async def record_upload(self, job: Job, video: Video) -> None:
        """A file is uploaded. Called as ``on_video``, so before the journal forgets the upload."""
        assert job.progress is not None
        job.progress.finish_upload()
        if self._context.emulator is not None:
            from . import _local

            source = self._context.stdin or job.item.source
            digest = await _local.verify_copy(self._context.emulator, video.video_id, source)
            self._context.display.print(
                f"{job.item.display_name}: the emulator's copy has the same SHA-256: {digest}"
            )
        if job.options.get("checksum"):
            self._context.display.print(f"{job.item.display_name}: SHA-256: {video.sha256}")
        await self._append_video(job, video.raw)
        await self._print_video(job.number, job.item, video.raw)

    async def record_result(self, result: UploadResult) -> None:
        """A job has ended. The video of an upload was recorded before, by :meth:`record_upload`."""
        job = result.item
        assert isinstance(job, Job)
        if isinstance(result, Failed):
            self.report_failure(job.number, job.item, result.error)
            await self.record_error(job, result.error)
        elif job.item.is_import:
            await self._record_import(job, result.video)
        self._context.display.end_source(job.number)

    async def record_error(self, job: Job, error: UploaderError) -> None:
        """Append an error to the results file."""
        await self._append(job, error=str(error))

    def report_failure(self, number: int, item: Item, error: UploaderError) -> None:
        """Print the failure of one of several sources."""
        source = item.display_path
        self.failed += 1
        self._context.display.failed = self.failed
        self._output.add_error(number, {"source": source, "error": str(error)})
        print_error(error, source=source)

    async def _record_import(self, job: Job, video: Video) -> None:
        """Record an import, and only then remove the mark from the video's metadata."""
        if self._context.has_key(job.item):
            await self._append_video(job, video.raw)
            await self._print_video(job.number, job.item, video.raw)
            return
        metadata = {each.key: each.value or "" for each in video.metadata if each.key}
        metadata.pop(MARK_SOURCE, None)
        raw = {**video.raw, "metadata": [{"key": key, "value": value} for key, value in metadata.items()]}
        await self._append_video(job, raw)
        await self._print_video(job.number, job.item, raw)
        if self._context.results is not None:
            try:
                await self._context.client.update_video(video.video_id, metadata=metadata)
            except UploaderError as exc:
                LOGGER.warning("%s: Cannot remove the mark from the metadata: %s", job.item.display_name, exc)

    async def _print_video(self, number: int, item: Item, video: Mapping[str, Any]) -> None:
        self.finished += 1
        video_id = video["videoId"]
        if self._context.keeps_finished:
            self.video_ids.append(video_id)
        if self._context.has_key(item):
            self.keyed_ids.add(video_id)
        if self._context.flags.wait:
            self.awaited.append(AwaitedVideo(number=number, item=item, video_id=video_id))
        await self._output.add_video(number, video, item.display_name)

    async def _append_video(self, job: Job, video: Mapping[str, Any]) -> None:
        try:
            sha256 = Video.from_response(video).sha256
            await self._append(job, video=video, **({} if sha256 is None else {"sha256": sha256}))
        except UploaderError as exc:
            advice = "" if job.item.is_import else " Run the same command again to record it without uploading."
            raise UploaderError(f"{exc} Video {video['videoId']} is uploaded.{advice}") from exc
        if self._context.results is not None:
            self._context.interrupt_advice.on_source_recorded()

    async def _append(self, job: Job, **result: object) -> None:
        if self._context.results is not None:
            await self._context.results.append(job.key, source=job.item.display_path, **result)
