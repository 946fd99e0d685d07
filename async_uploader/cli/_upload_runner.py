"""Runs the uploads of one command: sends all sources, waits for encodings, prints the videos."""

from __future__ import annotations

from contextlib import aclosing, suppress

from async_uploader import SourceError, Uploaded, UploaderError
from async_uploader._options import import_options

from ._finished_uploads import find_kept, forget_printed
from ._output import print_error
from ._recorder import AwaitedVideo, Job, ResultRecorder
from ._rendering import render_progress
from ._upload_context import UploadContext
from ._upload_jobs import JobQueue
from ._video_output import VideoOutput


class UploadRunner:
    """Runs the uploads of one command."""

    def __init__(self, context: UploadContext, output: VideoOutput) -> None:
        self._context = context
        self._output = output
        self._recorder = ResultRecorder(context, output)
        self._jobs = JobQueue(context, self._recorder)

    async def run(self) -> int:
        """Upload all sources and print the videos. Only then does the journal forget them.

        :returns: the exit code
        :raises UploaderError: the only source failed
        :raises OutputError: the videos could not be printed
        """
        try:
            code = await (self._run_single() if self._context.is_single else self._run_many())
        except BaseException:
            self._output.report_unprinted()
            raise
        if self._output.has_failed:
            kept = await find_kept(self._context, self._output.unprinted_ids)
            raise self._output.failure(None if kept is None else {*kept, *self._recorder.keyed_ids})
        if code == 0:
            self._context.interrupt_advice.on_all_finished()
            await forget_printed(self._context, self._recorder.video_ids)
        return code

    async def _run_single(self) -> int:
        """Upload the only source. Its failure is the command's."""
        display = self._context.display
        with render_progress(display):
            async for job in self._jobs.pending():
                try:
                    await self._send(job)
                except UploaderError as exc:
                    with suppress(UploaderError):  # the file cannot be written, which may be the failure itself
                        await self._recorder.record_error(job, exc)
                    display.end_source(job.number)
                    if job.item.is_remote and isinstance(exc, SourceError):
                        print_error(exc)
                        return 1  # and not 2, because the source was requested
                    raise
                display.end_source(job.number)
            if self._context.flags.wait:
                for video in self._recorder.awaited:
                    await self._wait_until_playable(video)
        self._output.print_document()
        return 0

    async def _send(self, job: Job) -> None:
        client = self._context.client
        if job.item.is_import:
            video = await client.import_video(job.item.source, **import_options(job.options))
            await self._recorder.record_result(Uploaded(item=job, video=video))
        else:
            await client.upload(self._context.stdin or job.item.source, **job.options)

    async def _run_many(self) -> int:
        """Upload all sources, even if some fail. Results so far are printed after an interruption, too."""
        try:
            with render_progress(self._context.display):
                await self._upload_many()
                if self._context.flags.wait:
                    for video in self._recorder.awaited:
                        try:
                            await self._wait_until_playable(video)
                        except UploaderError as exc:
                            self._recorder.report_failure(video.number, video.item, exc)
        finally:
            self._output.print_document()
        self._print_summary()
        return 1 if self._recorder.failed else 0

    async def _upload_many(self) -> None:
        if self._context.fleet is not None:
            async with aclosing(self._context.fleet.upload_many(self._jobs.pending())) as uploaded:
                async for result in uploaded:
                    await self._recorder.record_result(result)
            return
        uploads = self._context.client.upload_many(
            self._jobs.pending(), concurrency=self._context.flags.concurrency
        )
        async with uploads as results:
            async for result in results:
                await self._recorder.record_result(result)

    async def _wait_until_playable(self, video: AwaitedVideo) -> None:
        timeout = self._context.flags.wait_timeout
        with self._context.display.show_encoding(video.item.display_name) as on_status:
            await self._context.client.wait_until_playable(video.video_id, timeout=timeout, on_status=on_status)

    def _print_summary(self) -> None:
        total, skipped, failed = self._context.display.count, self._recorder.skipped, self._recorder.failed
        counts = [f"{total - skipped - failed} of {total} uploaded"]
        if skipped:
            counts.append(f"{skipped} already finished")
        if failed:
            counts.append(f"{failed} failed")
        self._context.display.print(", ".join(counts))
