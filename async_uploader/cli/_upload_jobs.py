"""Creates the job of each source when its turn comes, and decides which sources need none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from itertools import count
from typing import cast

from async_uploader import Failed, SourceError, Uploaded, UploaderError, UploadOptions
from async_uploader._catalogue.item import Item
from async_uploader._catalogue.results import ResultsFile, SourceKey, import_mark, source_key
from async_uploader._models import MARK_SOURCE

from ._recorder import Job, ResultRecorder
from ._upload_context import UploadContext


class JobQueue:
    """The jobs of one command, in the order of its sources."""

    def __init__(self, context: UploadContext, recorder: ResultRecorder) -> None:
        self._context = context
        self._recorder = recorder

    async def pending(self) -> AsyncIterator[Job]:
        """The jobs of all sources that are not finished. Finished ones are printed."""
        results = self._context.results
        numbers = count()
        async for item in self._context.sources:
            key = source_key(item, self._context.flags.idempotency_key)
            number = next(numbers)
            if self._context.sources.listings:
                self._context.display.add_source(key.size_bytes)
            if results is not None and results.is_finished(key):
                await self._recorder.record_skipped(number, item, results.video(key))
            elif item.problem:  # `upload` has refused it
                await self._recorder.record_result(self._problem_of(number, item, key))
            elif not item.is_import:
                yield self.file_job(number, item, key)
            else:
                job = self._import_job(number, item, key)
                # With an idempotency key, the service knows whether an earlier run imported the URL.
                if results is None or self._context.has_key(item) or not await self._has_ended(job, results):
                    yield job
        self._context.display.is_complete = True

    def _problem_of(self, number: int, item: Item, key: SourceKey) -> Failed:
        job = Job(source=item.source, number=number, item=item, key=key)
        return Failed(
            item=job, error=SourceError(f"{item.location}: {item.problem}" if item.location else item.problem)
        )

    def file_job(self, number: int, item: Item, key: SourceKey) -> Job:
        """The job of a file or stream."""
        options = item.merged_options(self._context.flags.upload_options(is_stream=item.is_stream))
        progress = self._context.display.add_file(number, item.display_name)
        job = Job(source=item.source, options=options, number=number, item=item, key=key, progress=progress)
        options["on_progress"], options["on_event"] = progress.on_progress, progress.on_event
        options["on_video"] = partial(self._recorder.record_upload, job)
        if item.is_remote:
            options["fetch"] = "here"
        if self._context.fleet is not None:
            options.pop("concurrency", None)  # holds for all uploads of a worker together
        if self._context.keeps_finished and not item.is_stream:
            options["keep_finished"] = True
        return job

    def _import_job(self, number: int, item: Item, key: SourceKey) -> Job:
        options = cast("UploadOptions", item.merged_options(self._context.flags.import_options()))
        return Job(source=item.source, options=options, number=number, item=item, key=key)

    async def _has_ended(self, job: Job, results: ResultsFile) -> bool:
        """Whether an import needs no request: an earlier run made it, or its state cannot be determined."""
        try:
            return await self._was_imported(job, results)
        except UploaderError as exc:
            await self._recorder.record_result(Failed(item=job, error=exc))
            return True

    async def _was_imported(self, job: Job, results: ResultsFile) -> bool:
        """Whether an earlier run imported a URL, and was killed before it could record the video.

        Otherwise the import is recorded as started, and its video gets a mark for the next run.
        """
        mark = import_mark(job.item.source)
        if results.is_import_started(job.key):
            for video in await self._context.client.list_videos(metadata={MARK_SOURCE: mark}):
                await self._recorder.record_result(Uploaded(item=job, video=video))
                return True
        await self._recorder.record_import_started(job)
        job.options["metadata"] = {**job.options.get("metadata", {}), MARK_SOURCE: mark}
        return False
